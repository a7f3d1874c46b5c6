"""Learning-rate schedules that torch lacks."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """A linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017, without restarts).

    Args:
        optimizer: whose rates to scale.
        warmup_epochs: epochs until the full rate is reached; the first epoch already trains at a fraction of it.
        epochs: length of the whole schedule.
    """

    def __init__(self, optimizer: Optimizer, warmup_epochs: int, epochs: int) -> None:
        def factor(epoch: int) -> float:
            if epoch < warmup_epochs:
                return (epoch + 1) / (warmup_epochs + 1)
            share = (epoch - warmup_epochs) / max(1, epochs - warmup_epochs)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

        super().__init__(optimizer, factor)
