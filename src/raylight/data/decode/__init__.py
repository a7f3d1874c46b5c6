"""Decoding one image file to pixels, or rejecting it with a reason."""
