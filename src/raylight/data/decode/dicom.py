"""DICOM files as images from 0 to 255, by the grayscale pipeline of DICOM PS3.3 C.11.

Grey values pass the modality LUT (or rescale slope and intercept), then the VOI LUT, else the first window, else the range
from the smallest to the largest value that isn't padding; all bits are used. MONOCHROME1, whose smallest value is white, is
inverted afterwards. Colour is converted to RGB; of 16 bits, the upper 8 are kept. Overlays, presentation states and patient
orientation are ignored. pydicom decodes, with GDCM, OpenJPEG and Pillow as its plugins.

The patient's identity leaves this module only as a keyed hash.
"""

import functools
import hashlib
import io
import logging
import struct
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num, UInt8

from raylight.errors import BadImageError, first_line

if TYPE_CHECKING:
    from pydicom import Dataset

BYTES_PER_PIXEL = 40
"""Peak memory of decoding, in bytes per pixel: stored values, a few float64 copies, and the file."""


def is_dicom(data: bytes) -> bool:
    """Whether a file has the preamble and prefix of DICOM (PS3.10, 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes) -> "Dataset":
    """Reads the data set of a file with a single image.

    Args:
        data: content of the file.

    Returns:
        The data set, its pixels not yet decoded.

    Raises:
        BadImageError: it can't be read, or holds no image or several.
    """
    try:
        dataset: Dataset = _pydicom().dcmread(io.BytesIO(data))
        frames = int(dataset.get("NumberOfFrames") or 1)
        shape = [int(dataset.get(name) or 0) for name in ("Columns", "Rows")]
    except Exception as error:  # on a damaged file, pydicom may raise anything
        raise BadImageError(f"a damaged DICOM file: {first_line(error)}") from error
    if "PixelData" not in dataset or min(shape) < 1:
        kind = "whose pixels are floating-point numbers" if "FloatPixelData" in dataset else "without an image"
        raise BadImageError(f"a DICOM file {kind} ({_class(dataset)})")
    if frames > 1:
        raise BadImageError(
            f"a DICOM file of {frames} frames ({_class(dataset)}); export the ones to be used, a file per frame"
        )
    return dataset


def dicom_header(data: bytes) -> dict[str, Any]:
    """Width, height, mode and format of an image, as ``scan.FACTS`` has them."""
    dataset = read_dicom(data)
    mode = str(dataset.get("PhotometricInterpretation", ""))
    return {"width": int(dataset.Columns), "height": int(dataset.Rows), "mode": mode, "format": "DICOM"}


def patient_of(data: bytes, key: bytes) -> str | None:
    """Identifies the patient by a keyed hash.

    Args:
        data: content of a DICOM file.
        key: secret, so that an identifier can't be found by hashing all possible ones.

    Returns:
        A hash of the patient's identifier, else of the study's, 24 hexadecimal digits; ``None`` where a file has neither.
    """
    tags = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
    try:
        dataset = _pydicom().dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=list(tags))
        patient, issuer, study = (str(dataset.get(name) or "").strip() for name in tags)
    except Exception:  # a damaged file; decoding it then gives the reason
        return None
    identifier = f"patient\0{issuer}\0{patient}" if patient else f"study\0{study}" if study else None
    return hashlib.blake2b(identifier.encode(), key=key, digest_size=12).hexdigest() if identifier else None


def decode_dicom(dataset: "Dataset") -> UInt8[np.ndarray, "height width"] | UInt8[np.ndarray, "height width 3"]:
    """Decodes the image of a data set.

    Args:
        dataset: from ``read_dicom``.

    Returns:
        Grey or RGB, 0 to 255.

    Raises:
        BadImageError: it can't be decoded, or its values have no meaning as an image.
    """
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    try:
        stored = pixel_array(dataset)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
        if stored.ndim == 3:
            return _upper_bits(stored)
        brightness = _brightness(apply_modality_lut(stored, dataset), stored, dataset)
    except BadImageError:
        raise
    except Exception as error:  # pydicom and its plugins may raise anything
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "no transfer syntax")
        raise BadImageError(f"a DICOM file that can't be decoded ({syntax}): {first_line(error)}") from error
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        brightness = 1 - brightness
    return np.asarray(np.rint(brightness * 255), np.uint8)


@functools.cache
def _pydicom() -> Any:
    """``pydicom``, without its warnings about violations of the standard, most of which don't concern the pixels."""
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\.|raylight\.data\.decode\.dicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


def _class(dataset: "Dataset") -> str:
    """The kind of object, such as CT Image Storage."""
    return str(getattr(dataset.get("SOPClassUID"), "name", "of no known class"))


def _upper_bits(colour: Num[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    if colour.dtype.itemsize > 2:
        raise BadImageError(f"a DICOM file with {8 * colour.dtype.itemsize} bits per colour; 8 or 16 can be decoded")
    return colour.astype(np.uint8) if colour.dtype.itemsize == 1 else (colour >> 8).astype(np.uint8)


def _brightness(
    values: Num[np.ndarray, "height width"], stored: Num[np.ndarray, "height width"], dataset: "Dataset"
) -> Float[np.ndarray, "height width"]:
    """Grey values on the scale of the display, 0 to 1."""
    if dataset.get("VOILUTSequence"):
        return _through_table(values, dataset)
    if dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        centre, width = (float(_first(dataset[name].value)) for name in ("WindowCenter", "WindowWidth"))
        return _through_window(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    inside = values[stored != dataset.PixelPaddingValue] if dataset.get("PixelPaddingValue") is not None else values
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    return np.clip((values.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)


def _first(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else value[0]


def _through_window(
    values: Num[np.ndarray, "height width"], centre: float, width: float, function: str
) -> Float[np.ndarray, "height width"]:
    """Applies a window, by the formulas of PS3.3 C.11.2.1.2 and C.11.2.1.3, on a scale of 0 to 1."""
    offset = values.astype(np.float64) - centre
    if width < 1 if function == "LINEAR" else width <= 0:
        raise BadImageError(f"a DICOM file whose window has a width of {width:g}")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * offset / width)))
    if function == "LINEAR_EXACT":
        return np.clip(offset / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise BadImageError(
            f"a DICOM file with a VOI LUT function {function!r}; expected LINEAR, LINEAR_EXACT or SIGMOID"
        )
    if width == 1:
        return (offset > -0.5).astype(np.float64)
    return np.clip((offset + 0.5) / (width - 1) + 0.5, 0, 1)


def _through_table(values: Num[np.ndarray, "height width"], dataset: "Dataset") -> Float[np.ndarray, "height width"]:
    """Applies the first VOI LUT (PS3.3 C.11.2.1.1); pydicom counts its entries in the table's type, which may overflow."""
    item = dataset.VOILUTSequence[0]
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 1 << 16
    table = item.LUTData
    if isinstance(table, bytes):
        little = dataset.file_meta.TransferSyntaxUID.is_little_endian
        wide = len(table) >= 2 * entries
        table = struct.unpack(
            f"{'<' if little else '>'}{entries}{'H' if wide else 'B'}", table[: entries * (2 if wide else 1)]
        )
    indices = np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)
    return np.asarray(np.clip(np.asarray(table, np.float64)[indices] / ((1 << bits) - 1), 0, 1))
