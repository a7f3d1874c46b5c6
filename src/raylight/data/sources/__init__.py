"""Where images come from: folders, tables, the demo drawings, downloads."""
