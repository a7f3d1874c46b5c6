"""Sources of images: folders, tables, the demo drawings, downloads."""
