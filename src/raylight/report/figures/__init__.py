"""The figures of a run: style, curves over all thresholds, and the files in plots/."""
