"""What the metrics mean: by torchmetrics over batches, and as functions of weights on images, for resampling."""
