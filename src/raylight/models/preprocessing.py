"""What happens to a decoded image before the network sees it; travels with the model as ``preprocessing.json``.

Decoding and resizing are described here but done by ``data.decode``; augmentation isn't part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from raylight.config.schema import ModelConfig
from raylight.data.decode.image import DecodeSpec

_STATISTICS = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "centered": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # Of ImageNet's training images, as all of torchvision's weights expect: https://docs.pytorch.org/vision/stable/models.html
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Preprocessing:
    """The way from a file to the network's input.

    Attributes:
        size: height and width, in pixels.
        resize: ``stretch`` or ``crop``, see ``data.decode``.
        mean: of red, green and blue on the scale 0 to 1; subtracted.
        std: deviation of the same; divided by.
    """

    size: int
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, model: ModelConfig) -> "Preprocessing":
        """What a model's config asks for."""
        mean, std = _STATISTICS[model.normalize]
        return cls(model.image_size, model.resize, mean, std)

    @property
    def decode_spec(self) -> DecodeSpec:
        """How the files are to be decoded."""
        return DecodeSpec(self.size, self.resize)

    def normalise(
        self, images: UInt8[Tensor, "batch 3 height width"] | UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Scale uint8 pixels to 0..1, subtract the mean and divide by the deviation, in float32.

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
        """As written to ``preprocessing.json``."""
        return {"size": self.size, "resize": self.resize, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """From what ``to_dict`` gave."""
        return cls(
            size=int(values["size"]),
            resize=str(values["resize"]),
            mean=_triple(values["mean"]),
            std=_triple(values["std"]),
        )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
