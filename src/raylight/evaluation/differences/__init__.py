"""Differences between models: paired on the same images, or between recipes over their seeds; selection bias."""
