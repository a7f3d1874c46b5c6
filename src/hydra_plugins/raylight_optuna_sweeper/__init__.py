"""Hydra's ``hydra/sweeper=optuna`` on current Optuna; found by Hydra through its package's name."""
