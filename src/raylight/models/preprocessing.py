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
    """The way from a file to the network's input."""

    @classmethod
    def from_config(cls, model: ModelConfig) -> "Preprocessing":
        """What a model's settings ask for, and its weights where they leave it open."""
        return cls(**vars(model_input(model)))

    @property
    def decode_spec(self) -> DecodeSpec:
        """How the files are to be decoded."""
        red, green, blue = (round(255 * mean) for mean in self.mean)
        return DecodeSpec(self.size, self.resize, self.resize_size, self.interpolation, (red, green, blue))

    def normalise(
        self, images: UInt8[Tensor, "batch 3 height width"] | UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Scale uint8 pixels to 0..1, subtract the mean and divide by the standard deviation, in float32.

        Images whose last dimension is the colour are turned; they, and images in channels-last memory, stay in
        channels-last memory.
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
        """As written to ``preprocessing.json``; ``from_dict`` reads it."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
