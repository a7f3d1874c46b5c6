"""The figures of a run: their look, curves over all thresholds, and the files in plots/."""
