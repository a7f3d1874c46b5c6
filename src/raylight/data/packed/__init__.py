"""Sources of images that aren't files of their own: what a source is, and the two that come with Raylight."""
