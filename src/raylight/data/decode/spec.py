"""The shape of decoded images: their size, which part of the original they show, and how large an original may be."""

import dataclasses
from dataclasses import dataclass
from typing import Final

from raylight.config.rules.pretrained import CROP_RATIO
from raylight.config.rules.shapes import Size, height_width, scaled_size, size_text
from raylight.errors import BadImageError

SUPPORT: Final = {"bilinear": 1, "bicubic": 2}
"""Reach of each filter to either side, in pixels of the result, or of the original where that is enlarged."""

MAX_PIXELS: Final = 178_956_970
"""Maximum number of pixels; Pillow, too, regards larger images as decompression bombs."""

MAX_BYTES: Final = 1_000_000_000
"""Maximum memory per file, in bytes; an image that needs more is rejected before it is decoded."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the stored image; may be fractions."""


@dataclass(frozen=True)
class DecodeSpec:
    """Shape of decoded images.

    Attributes:
        size: height and width in pixels, at least 1; one number where they are equal.
        resize: ``stretch`` resizes both sides to ``size``; ``crop`` resizes the shorter side to
            ``resize_size`` and crops the centre, as ImageNet networks are evaluated; ``pad`` resizes the longer side to
            ``size`` and fills the rest, half on either side, with ``fill``. Where height and width differ, ``crop``
            makes the image just cover, and ``pad`` just fit into, a frame of that shape.
        resize_size: with ``crop``, the length of the shorter side in pixels; ``None`` means ``round(size * 8 / 7)``. With
            ``stretch``, the length of both sides, of which the centre is cropped, too; ``None`` means ``size``. Where height
            and width differ, this is the shorter one, and the other is in proportion.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
        fill: with ``pad``, red, green and blue beside the image, 0 to 255.
        jpeg_size: height and width, in pixels, that JPEG files are decoded for, though they are resized to ``size``; ``None``
            means ``size``, which is fastest. Sizes for which a file is decoded at the same scale share one decoding.
    """

    size: Size
    resize: str
    resize_size: int | None = None
    interpolation: str = "bilinear"
    fill: tuple[int, int, int] = (0, 0, 0)
    jpeg_size: int | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"size={self.size}: an image has at least 1 pixel per side")
        if self.resize not in ("stretch", "crop", "pad"):
            raise ValueError(f"resize={self.resize!r}: expected 'stretch', 'crop' or 'pad'")
        if self.resize_size is not None and self.resize_size < min(self.height, self.width):
            raise ValueError(f"resize_size={self.resize_size}: less than the {size_text(self.size)} pixels to crop")
        if self.interpolation not in SUPPORT:
            raise ValueError(f"interpolation={self.interpolation!r}: expected one of {', '.join(SUPPORT)}")

    @property
    def height(self) -> int:
        """Height of a decoded image, in pixels."""
        return height_width(self.size)[0]

    @property
    def width(self) -> int:
        """Width of a decoded image, in pixels."""
        return height_width(self.size)[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of a decoded image: height, width and 3 colours."""
        return self.height, self.width, 3

    @property
    def image_bytes(self) -> int:
        """Size of a decoded image, in bytes."""
        return self.height * self.width * 3

    @property
    def shorter_side(self) -> int:
        """The shorter side of ``frame``, in pixels."""
        size = min(self.height, self.width)
        if self.resize == "pad":
            return size
        return self.resize_size or (size if self.resize == "stretch" else round(size * CROP_RATIO))

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width, in pixels, that an image is resized to (``stretch``), made to cover, or to fit into (``pad``)."""
        return scaled_size(self.size, self.shorter_side)

    def at(self, longer_side: int) -> "DecodeSpec":
        """The same part of an image at another resolution, given by the longer side of the result in pixels."""
        scale = longer_side / max(self.height, self.width)
        height, width = round(self.height * scale), round(self.width * scale)
        return dataclasses.replace(
            self, size=height if height == width else (height, width), resize_size=round(self.shorter_side * scale)
        )

    def transposed(self) -> "DecodeSpec":
        """The same with height and width exchanged, for an image that is stored rotated by 90 degrees."""
        return dataclasses.replace(self, size=self.size if isinstance(self.size, int) else self.size[::-1])

    def downscales(self, width: int, height: int, factor: int) -> bool:
        """Whether resizing divides the sides of an image by at least some factor.

        Args:
            width: of the original, in pixels.
            height: of the original, in pixels.
            factor: 1 or more.

        Returns:
            Whether that holds for the side that determines the scale.

        Example:
            >>> DecodeSpec(100, "crop").downscales(400, 300, 2), DecodeSpec(100, "crop").downscales(400, 200, 2)
            (True, False)
        """
        rows, columns = self.frame
        larger = height >= factor * rows, width >= factor * columns
        return any(larger) if self.resize == "pad" else all(larger)

    def shape(self, width: float, height: float) -> tuple[int, int]:
        """The shape that an image is resized to, before it is padded.

        Args:
            width: of the original, in pixels.
            height: of the original, in pixels.

        Returns:
            Height and width, in pixels.

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
        """The part of an image that is kept.

        It is the same, to the pixel, as with ``torchvision.transforms.v2.Resize`` and ``CenterCrop``: the longer side's length
        is rounded down to whole pixels, and the crop begins at a whole pixel.

        Args:
            width: of the original, in pixels.
            height: of the original, in pixels.

        Returns:
            Its edges before resizing.

        Example:
            >>> DecodeSpec(224, "crop").box(512, 256)
            (144.0, 16.0, 368.0, 240.0)
        """
        if self.resize != "crop" and self.shorter_side == min(self.height, self.width):
            return 0.0, 0.0, width, height
        rows, columns = self.frame
        if self.resize == "crop" and height * columns <= width * rows:  # the height determines the scale
            columns = max(int(rows * width / height), columns)
        elif self.resize == "crop":
            rows = max(int(columns * height / width), rows)
        left, right = _centre(width, columns, self.width)
        top, bottom = _centre(height, rows, self.height)
        return left, top, right, bottom


def _centre(length: float, resized: int, kept: int) -> tuple[float, float]:
    """Begin and end, on the original side, of the ``kept`` central pixels of the ``resized`` side."""
    start = round((resized - kept) / 2)
    return start * length / resized, (start + kept) * length / resized


def check_size(width: int, height: int, bytes_per_pixel: float) -> None:
    """Rejects an image that is empty or too large, before it is decoded.

    Args:
        width: in pixels, as the header says.
        height: in pixels.
        bytes_per_pixel: memory that decoding takes.

    Raises:
        BadImageError: it has no pixels, or too many; the message is the reason.
    """
    if width < 1 or height < 1:
        raise BadImageError(f"no pixels: {width} x {height}")
    limit = min(MAX_PIXELS, int(MAX_BYTES / bytes_per_pixel))
    if width * height > limit:
        raise BadImageError(f"{width} x {height} pixels: more than the maximum of {limit:,} for its kind")
