"""What the value of a setting may be: names, metrics, thresholds, sizes, weights, and which code a config may call."""
