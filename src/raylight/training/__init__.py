"""Training: the LightningModule, losses, phases, cached features, the trainer, distributed training."""
