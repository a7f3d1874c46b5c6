"""Fast inference on the processor, and the processor settings that are measured for training."""
