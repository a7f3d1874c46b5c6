"""From the bytes of one image file to pixels, or to the reason why not."""
