"""The exported module: from pixels to calibrated probabilities, and to what tells unknown images."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from raylight.models.build import class_logits
from raylight.serving.exports.resizing import Resize
from raylight.serving.predictor import Predictor


class ServedNetwork(nn.Module):
    """A run's network with all that comes before and after it.

    Args:
        predictor: the run, in float32.
        resizer: whose resizing is reproduced, ``cykooz`` or ``pillow``; ``None`` takes pixels that are already of the network's
            size.
    """

    scale: Tensor
    shift: Tensor
    known: Tensor

    def __init__(self, predictor: Predictor, resizer: str | None) -> None:
        super().__init__()
        self.network = predictor.network
        self.temperature = predictor.temperature
        self.size = (predictor.preprocessing.decode_spec.height, predictor.preprocessing.decode_spec.width)
        self.resize = None if resizer is None else Resize(predictor.preprocessing.decode_spec, resizer)
        deviation = torch.tensor(predictor.preprocessing.std).reshape(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", -torch.tensor(predictor.preprocessing.mean).reshape(1, 3, 1, 1) / deviation)
        familiarity = predictor.familiarity
        self.neighbours = familiarity.neighbours if familiarity else 0
        self.register_buffer("known", torch.from_numpy(familiarity.features) if familiarity else torch.empty(0))

    @property
    def outputs(self) -> Sequence[str]:
        """The names of what ``forward`` returns."""
        return (
            "probabilities",
            *([] if self.resize is None else ["pixels"]),
            *(["distance"] if self.neighbours else []),
        )

    def forward(self, images: UInt8[Tensor, "batch height width 3"]) -> tuple[Tensor, ...]:
        """Compute, per image, what ``outputs`` names.

        Args:
            images: RGB, 0 to 255.

        Returns:
            ``probabilities``, float32[batch, class]; ``pixels``, uint8[batch, height, width, 3]: what the network sees, where
            images are resized; ``distance``, float32[batch]: to the training images, where the run refuses unknown images.
        """
        shown = images.permute(0, 3, 1, 2).to(torch.float32) if self.resize is None else self.resize(images)
        head = self.network.head_start
        features = self.network.run(shown * self.scale + self.shift, 0, head)
        logs = torch.log_softmax(class_logits(self.network.run(features, head, None)), dim=1)
        # As in evaluation.calibration: the smallest probability is the smallest normal float32.
        logs = logs.clamp(min=math.log(torch.finfo(torch.float32).tiny))
        found = [torch.softmax(logs / self.temperature, dim=1)]
        if self.resize is not None:
            found.append(shown.permute(0, 2, 3, 1).to(torch.uint8))
        if self.neighbours:
            found.append(self._distance(features))
        return tuple(found)

    def _distance(self, features: Float[Tensor, "batch feature ..."]) -> Float[Tensor, " batch"]:
        """As in ``models.familiarity``: to the k-th nearest training image, of features scaled to length 1."""
        flat = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
        unit = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=1e-12)
        nearest = torch.topk(unit @ self.known.T, self.neighbours, dim=1).values[:, -1]
        return torch.sqrt((2 - 2 * nearest).clamp(min=0))
