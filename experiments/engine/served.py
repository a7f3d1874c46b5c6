"""The module that every engine runs: from uint8 pixels to probabilities."""

import torch
from torch import Tensor, nn

from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork


class Served(nn.Module):
    """Normalisation, network, softmax.

    Args:
        network: in eval mode.
        preprocessing: of the pixels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: StagedNetwork, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network, self.preprocessing = network, preprocessing
        deviation = torch.tensor(preprocessing.std).reshape(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", -torch.tensor(preprocessing.mean).reshape(1, 3, 1, 1) / deviation)

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities, float32[batch, class], of uint8[batch, height, width, 3]."""
        values = images.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        return torch.softmax(self.network(values), dim=1)
