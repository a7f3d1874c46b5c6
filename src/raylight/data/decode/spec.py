"""What a decoded image is made to be: its size, and which part of the picture it shows."""

import dataclasses
from dataclasses import dataclass
from typing import Final

from raylight.config.rules.pretrained import CROP_RATIO

SUPPORT: Final = {"bilinear": 1, "bicubic": 2}
"""Pixels of the result, or of the picture where that is enlarged, that each filter looks to either side."""


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the stored image; may be fractions."""


@dataclass(frozen=True)
class DecodeSpec:
    """Shape of decoded images.

    Attributes:
        size: height and width in pixels, at least 1.
        resize: ``stretch`` resizes both sides to ``size``; ``crop`` resizes the shorter side to
            ``resize_size`` and cuts the centre, as ImageNet networks are evaluated; ``pad`` resizes the longer side to
            ``size`` and fills the rest, half on either side, with ``fill``.
        resize_size: in pixels; ``None``: ``round(size * 8 / 7)``. With ``stretch`` the length of both sides, of
            which the centre is cut, too; ``None``: ``size``.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
        fill: ``pad``: red, green and blue beside the picture, 0 to 255.
    """

    size: int
    resize: str
    resize_size: int | None = None
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: an image has at least 1 pixel per side")
        if self.resize not in ("stretch", "crop", "pad"):
            raise ValueError(f"resize={self.resize!r}: expected 'stretch', 'crop' or 'pad'")
        if self.resize_size is not None and self.resize_size < self.size:
            raise ValueError(f"resize_size={self.resize_size}: less than the {self.size} pixels that are cut out")
        if self.interpolation not in SUPPORT:
            raise ValueError(f"interpolation={self.interpolation!r}: expected one of {', '.join(SUPPORT)}")

    @property
    def shorter_side(self) -> int:
        """Length in pixels that the shorter side is resized to; with ``pad`` the longer one."""
        if self.resize == "pad":
            return self.size
        return self.resize_size or (self.size if self.resize == "stretch" else round(self.size * CROP_RATIO))

    def at(self, size: int) -> "DecodeSpec":
        """The same part of a picture, in another number of pixels."""
        return dataclasses.replace(self, size=size, resize_size=round(self.shorter_side * size / self.size))

    def reduces(self, width: int, height: int, factor: int) -> bool:
        """Whether an image of this width and height is at least ``factor`` times larger than what is made of it."""
        return (max if self.resize == "pad" else min)(width, height) >= factor * self.shorter_side

    def shape(self, width: float, height: float) -> tuple[int, int]:
        """Height and width that an image of this width and height is resized to, before it is padded.

        Example:
            >>> DecodeSpec(224, "pad").shape(512, 256), DecodeSpec(224, "crop").shape(512, 256)
            ((112, 224), (224, 224))
        """
        if self.resize != "pad":
            return self.size, self.size
        longer = max(width, height)
        return max(round(height * self.size / longer), 1), max(round(width * self.size / longer), 1)

    def box(self, width: float, height: float) -> Box:
        """The part of an image of this width and height that is kept, before resizing.

        To the pixel what ``torchvision.transforms.v2.Resize`` and ``CenterCrop`` take: the longer side's length is cut to
        whole pixels, and the crop begins at a whole pixel.

        Example:
            >>> DecodeSpec(224, "crop").box(512, 256)
            (144.0, 16.0, 368.0, 240.0)
        """
        if self.resize != "crop" and self.shorter_side == self.size:
            return 0.0, 0.0, width, height
        shorter, alike = min(width, height), self.resize == "stretch"
        (left, right), (top, bottom) = (
            self._cut(
                length, self.shorter_side if alike or length == shorter else int(self.shorter_side * length / shorter)
            )
            for length in (width, height)
        )
        return left, top, right, bottom

    def _cut(self, length: float, resized: int) -> tuple[float, float]:
        start = round((resized - self.size) / 2)
        return start * length / resized, (start + self.size) * length / resized
