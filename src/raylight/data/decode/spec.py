"""What a decoded image is made to be: its size, and which part of the picture it shows."""

import dataclasses
from dataclasses import dataclass
from typing import Final

from raylight.config.rules.pretrained import CROP_RATIO
from raylight.config.rules.shapes import Size, height_width, scaled_size, size_text

SUPPORT: Final = {"bilinear": 1, "bicubic": 2}
"""Pixels of the result, or of the picture where that is enlarged, that each filter looks to either side."""


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the stored image; may be fractions."""


@dataclass(frozen=True)
class DecodeSpec:
    """Shape of decoded images.

    Attributes:
        size: height and width in pixels, at least 1; one number where they are alike.
        resize: ``stretch`` resizes both sides to ``size``; ``crop`` resizes the shorter side to
            ``resize_size`` and cuts the centre, as ImageNet networks are evaluated; ``pad`` resizes the longer side to
            ``size`` and fills the rest, half on either side, with ``fill``. Where height and width differ, ``crop``
            makes the picture just cover, and ``pad`` just fit into, a frame of that shape.
        resize_size: in pixels; ``None``: ``round(size * 8 / 7)``. With ``stretch`` the length of both sides, of
            which the centre is cut, too; ``None``: ``size``. Where height and width differ, of the shorter one, and the
            other in proportion.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
        fill: ``pad``: red, green and blue beside the picture, 0 to 255.
    """

    size: Size
    resize: str
    resize_size: int | None = None
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"size={self.size}: an image has at least 1 pixel per side")
        if self.resize not in ("stretch", "crop", "pad"):
            raise ValueError(f"resize={self.resize!r}: expected 'stretch', 'crop' or 'pad'")
        if self.resize_size is not None and self.resize_size < min(self.height, self.width):
            raise ValueError(
                f"resize_size={self.resize_size}: less than the {size_text(self.size)} pixels that are cut out"
            )
        if self.interpolation not in SUPPORT:
            raise ValueError(f"interpolation={self.interpolation!r}: expected one of {', '.join(SUPPORT)}")

    @property
    def height(self) -> int:
        """In pixels."""
        return height_width(self.size)[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return height_width(self.size)[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of a decoded image: height, width and 3 colours; as many bytes as these make."""
        return self.height, self.width, 3

    @property
    def image_bytes(self) -> int:
        """Of a decoded image."""
        return self.height * self.width * 3

    @property
    def shorter_side(self) -> int:
        """Length in pixels that the shorter side is resized to; with ``pad``, of a square, the longer one."""
        size = min(self.height, self.width)
        if self.resize == "pad":
            return size
        return self.resize_size or (size if self.resize == "stretch" else round(size * CROP_RATIO))

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width, in pixels, that a picture is resized to (``stretch``), to cover or, with ``pad``, to fit into."""
        return scaled_size(self.size, self.shorter_side)

    def at(self, longer: int) -> "DecodeSpec":
        """The same part of a picture, in another number of pixels on the longer side."""
        scale = longer / max(self.height, self.width)
        height, width = round(self.height * scale), round(self.width * scale)
        return dataclasses.replace(
            self, size=height if height == width else (height, width), resize_size=round(self.shorter_side * scale)
        )

    def turned(self) -> "DecodeSpec":
        """Of a picture that lies on its side: width and height exchanged."""
        return dataclasses.replace(self, size=self.size if isinstance(self.size, int) else self.size[::-1])

    def reduces(self, width: int, height: int, factor: int) -> bool:
        """Whether an image of this width and height is at least ``factor`` times larger than what is made of it."""
        rows, columns = self.frame
        larger = height >= factor * rows, width >= factor * columns
        return any(larger) if self.resize == "pad" else all(larger)

    def shape(self, width: float, height: float) -> tuple[int, int]:
        """Height and width that an image of this width and height is resized to, before it is padded.

        Example:
            >>> DecodeSpec(224, "pad").shape(512, 256), DecodeSpec(224, "crop").shape(512, 256)
            ((112, 224), (224, 224))
            >>> DecodeSpec((240, 320), "pad").shape(512, 256)
            (160, 320)
        """
        if self.resize != "pad":
            return self.height, self.width
        if height * self.width >= width * self.height:
            return self.height, max(round(width * self.height / height), 1)
        return max(round(height * self.width / width), 1), self.width

    def box(self, width: float, height: float) -> Box:
        """The part of an image of this width and height that is kept, before resizing.

        To the pixel what ``torchvision.transforms.v2.Resize`` and ``CenterCrop`` take: the longer side's length is cut to
        whole pixels, and the crop begins at a whole pixel.

        Example:
            >>> DecodeSpec(224, "crop").box(512, 256)
            (144.0, 16.0, 368.0, 240.0)
        """
        if self.resize != "crop" and self.shorter_side == min(self.height, self.width):
            return 0.0, 0.0, width, height
        rows, columns = self.frame
        if self.resize == "crop" and height * columns <= width * rows:  # the height decides how far it is reduced
            columns = max(int(rows * width / height), columns)
        elif self.resize == "crop":
            rows = max(int(columns * height / width), rows)
        left, right = _cut(width, columns, self.width)
        top, bottom = _cut(height, rows, self.height)
        return left, top, right, bottom


def _cut(length: float, resized: int, kept: int) -> tuple[float, float]:
    """Begin and end of the centre, of a length that is resized before so many pixels of it are kept."""
    start = round((resized - kept) / 2)
    return start * length / resized, (start + kept) * length / resized
