"""A callback of a user's own that says how many networks a process holds."""

import weakref

import pytorch_lightning as pl

_networks: "weakref.WeakSet[pl.LightningModule]" = weakref.WeakSet()


class Networks(pl.Callback):
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _networks.add(pl_module)
        print(f"networks alive: {len(_networks)}")
