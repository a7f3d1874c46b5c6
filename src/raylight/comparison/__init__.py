"""Several runs in one table or one test: recipes over seeds, folds, sweeps."""
