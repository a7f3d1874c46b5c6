"""What can be set under ``hydra.sweeper`` with ``hydra/sweeper=optuna``."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class OptunaSweeperConfig:
    """A search of hyperparameters by Optuna's tree-structured Parzen estimator (TPE)."""

    _target_: str = "hydra_plugins.raylight_optuna_sweeper.sweeper.OptunaSweeper"
    n_trials: int = 20
    """Trials in all; a resumed study runs only those that are missing. Failed trials count."""
    n_jobs: int = 1
    """Trials handed to the launcher at a time; more than 1 pays with a launcher that runs jobs side by side."""
    direction: str | None = None
    """``minimize`` or ``maximize`` the monitored validation metric; ``null`` follows ``trainer.monitor_mode``."""
    storage: str | None = None
    """Optuna's storage, as ``sqlite:///FILE``; ``null`` keeps ``optuna.db`` in the sweep's folder. One search uses a
    study at a time: trials that another one is running are taken for those of a killed process."""
    study_name: str = "raylight"
    """Name of the study in its storage; an existing one goes on."""
    seed: int | None = 1
    """Seed of the sampler; ``null`` draws one."""
    n_startup_trials: int = 10
    """Trials drawn at random before TPE learns from them."""
    prune: bool = True
    """Stop a trial whose monitored metric is worse than the median of the earlier trials at the same epoch."""
    prune_after: int = 2
    """Epochs of each trial that are never pruned."""
    params: Any = None
    """The search space, in the grammar of Hydra's overrides: ``optimizer.lr: tag(log, interval(1e-4, 1e-1))``."""


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConfig, provider="raylight")
