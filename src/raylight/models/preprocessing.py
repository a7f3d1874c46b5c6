"""Preprocessing of decoded images; stored with the model as ``preprocessing.json``.

Decoding and resizing are described here but done by ``data.decode``; augmentation isn't part of it.
"""

import dataclasses
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from raylight.config.rules.pretrained import ModelInput, model_input
from raylight.config.schema import ModelConfig
from raylight.data.decode.spec import DecodeSpec


@dataclasses.dataclass(frozen=True)
class Preprocessing(ModelInput):
    """The steps from a file to the input of a network."""

    @classmethod
    def from_config(cls, model: ModelConfig) -> "Preprocessing":
        """The preprocessing that the settings of a model give, or its weights where the settings leave it open."""
        return cls(**vars(model_input(model)))

    @property
    def decode_spec(self) -> DecodeSpec:
        """The shape of decoded images."""
        red, green, blue = (round(255 * mean) for mean in self.mean)
        return DecodeSpec(self.size, self.resize, self.resize_size, self.interpolation, (red, green, blue))

    def normalise(
        self, images: UInt8[Tensor, "batch 3 height width"] | UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Scales pixels to 0..1, subtracts the mean and divides by the standard deviation, in float32.

        Args:
            images: 0 to 255; the colour may be the last dimension.

        Returns:
            The normalised images; in channels-last memory if ``images`` are, or if the colour is their last dimension.
        """
        if images.shape[-1] == 3 and images.shape[1] != 3:
            images = images.permute(0, 3, 1, 2)
        scale, shift = (part.to(images.device) for part in self._scale_and_shift)
        return torch.addcmul(shift, images.to(torch.float32), scale)

    @cached_property
    def _scale_and_shift(self) -> tuple[Float[Tensor, "1 3 1 1"], Float[Tensor, "1 3 1 1"]]:
        mean = torch.tensor(self.mean, dtype=torch.float64).reshape(1, 3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float64).reshape(1, 3, 1, 1)
        return (1 / (255 * std)).float(), (-mean / std).float()

    def to_dict(self) -> dict[str, Any]:
        """The content of ``preprocessing.json``."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
