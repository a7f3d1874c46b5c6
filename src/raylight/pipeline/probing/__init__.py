"""Heads on cached features, before any training: which network is best, which labels are suspect, how many images to add."""
