"""Pictures in files of every kind, and what decoding them should give."""

import io

import numpy as np
import pytest
from PIL import Image

from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError

CROP, STRETCH = DecodeSpec(48, "crop"), DecodeSpec(48, "stretch")


def picture(width: int = 150, height: int = 100) -> Image.Image:
    """Smooth colours with a bright corner, so that every turn and mirroring looks different."""
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    red, green, blue = 40 + 120 * x / x.max(), 200 - 150 * y, 90 + 60 * np.sin(5 * x + 3 * y)
    pixels = np.stack([red, green, blue], axis=2)
    pixels[: height // 4, : width // 3] = (250, 240, 10)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reference(image: Image.Image, spec: DecodeSpec) -> np.ndarray:
    """The plain way: resize everything with Pillow, then cut the centre."""
    if spec.resize == "stretch":
        return np.asarray(image.resize((spec.size, spec.size), Image.Resampling.BILINEAR))
    scale = round(spec.size * 8 / 7) / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    large = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - spec.size) / 2, (height - spec.size) / 2
    return np.asarray(large.crop((round(left), round(top), round(left) + spec.size, round(top) + spec.size)))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def refused(data: bytes, spec: DecodeSpec = CROP) -> str:
    with pytest.raises(BadImageError) as error:
        decode_image(data, spec)
    return str(error.value)


TRUNCATED = {
    "baseline": encoded(picture(), "JPEG"),
    "progressive": encoded(picture(), "JPEG", progressive=True),
    "restarts": encoded(picture(), "JPEG", restart_marker_rows=1),
    "grey": encoded(picture().convert("L"), "JPEG"),
    "cmyk": encoded(picture().convert("CMYK"), "JPEG"),
    "png": encoded(picture(), "PNG"),
    "palette": encoded(picture().quantize(64), "PNG"),
    "gif": encoded(picture().quantize(64), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "tiff": encoded(picture(), "TIFF"),
    "lzw": encoded(picture(), "TIFF", compression="tiff_lzw"),
    "webp": encoded(picture(), "WEBP"),
    "jpeg2000": encoded(picture(), "JPEG2000"),
    "avif": encoded(picture(), "AVIF"),
    "ppm": encoded(picture(), "PPM"),
}
