"""The images that an export is checked on: test images of the run if they are available, else noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from raylight.data.decode.blocks import read_checked
from raylight.data.decode.image import ImageFile, decode_image, pillow_image
from raylight.data.decode.jpeg import RESIZER, resize
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
from raylight.serving.predictor import Predictor, UnusableRunError

CHECKED_IMAGES = 32
"""Maximum number of images of the network's size."""

ORIGINALS = 8
"""Maximum number of images of their original size, which may be large."""

NOISE_SIZES = ((1, 1), (2, 3), (1.5, 0.7), (0.5, 0.8))
"""Height and width of images of noise, as multiples of the network's."""

JPEG = b"\xff\xd8"


@dataclass(frozen=True, eq=False)
class CheckImages:
    """Images to compare an export with the run.

    Attributes:
        prepared: decoded by the run.
        originals: some at their original size, each with its position in ``prepared``; of noise, other images, of several
            sizes.
        jpeg: whether each of ``prepared`` is of a JPEG file.
        real: whether they are test images of the run.
        resizer: what resizes most of them in the run: ``cykooz`` or ``pillow``.
    """

    prepared: UInt8[np.ndarray, "image height width 3"]
    originals: Sequence[tuple[int, UInt8[np.ndarray, "rows columns 3"]]]
    jpeg: Sequence[bool]
    real: bool
    resizer: str

    def words(self, count: int) -> str:
        """Names some of the images, for messages."""
        return f"{count} of its test images" if self.real else f"{count} random images, since its test images are gone"


def check_images(predictor: Predictor) -> CheckImages:
    """Read test images of a run, evenly over its index, or draw noise where too few are left or fit into memory."""
    spec = predictor.preprocessing.decode_spec
    try:
        index = predictor.test_images()
    except UnusableRunError:
        paths = []
    else:
        index = index.spread(CHECKED_IMAGES)
        paths = [index.root / str(path) for path in index.column("path")]
    prepared: list[UInt8[np.ndarray, "height width 3"]] = []
    originals: list[tuple[int, UInt8[np.ndarray, "rows columns 3"]]] = []
    jpeg: list[bool] = []
    # In an order in which the first are spread over all classes, which are neighbours in the index.
    for path in (path for first in range(4) for path in paths[first::4]):
        try:
            data = read_checked(str(path), "")
            prepared.append(decode_image(data, spec))
            jpeg.append(data.startswith(JPEG))
            if len(originals) < ORIGINALS:
                originals.append((len(prepared) - 1, original_image(data)))
        except BadImageError:
            continue  # named by predict and evaluate; the others are enough
    if len(prepared) > 1 and originals:
        resizer = RESIZER if sum(jpeg) >= len(jpeg) / 2 else "pillow"
        return CheckImages(np.stack(prepared), originals, jpeg, True, resizer)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (CHECKED_IMAGES, *spec.image_shape), dtype=np.uint8)
    sizes = [(max(round(spec.height * tall), 2), max(round(spec.width * wide), 2)) for tall, wide in NOISE_SIZES]
    originals = [(k, rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for k, size in enumerate(sizes)]
    return CheckImages(noise, originals, [], False, RESIZER)


def original_image(data: bytes) -> UInt8[np.ndarray, "rows columns 3"]:
    """Decode a file upright at its full size, as other programs do.

    Raises:
        BadImageError: it isn't a usable image, or too large at its full size.
    """
    file = ImageFile(data)
    return file.pixels(DecodeSpec(file.upright_size, "stretch"))


def resized_in_one_step(
    image: UInt8[np.ndarray, "rows columns 3"], spec: DecodeSpec, resizer: str
) -> UInt8[np.ndarray, "height width 3"]:
    """Resize a decoded image as a run does a file that it needn't reduce beforehand.

    A run scales large JPEG files while it decodes them; others, from six times the size on, it first reduces by a
    whole factor (Pillow's ``reducing_gap``).

    Args:
        image: RGB, 0 to 255.
        spec: the shape of the result.
        resizer: ``pillow``, or what else ``RESIZER`` is.
    """
    rows, columns, _ = image.shape
    box, (height, width) = spec.box(columns, rows), spec.shape(columns, rows)
    if resizer == "pillow":
        pillow = pillow_image()
        kernel = pillow.Resampling[spec.interpolation.upper()]
        small = np.asarray(pillow.fromarray(image).resize((width, height), kernel, box=box))
    else:
        small = resize(np.ascontiguousarray(image), box, (height, width), spec)
    framed = np.empty(spec.image_shape, np.uint8)
    framed[...] = spec.fill
    top, left = (framed.shape[0] - height) // 2, (framed.shape[1] - width) // 2
    framed[top : top + height, left : left + width] = small
    return framed
