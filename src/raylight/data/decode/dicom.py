"""DICOM files as pictures: stored values through the modality's and the viewer's tables to 0 to 255, as PS3.3 C.11 has it.

Grey values pass the modality LUT (or rescale slope and intercept), then the VOI LUT, else the first window, else the range
from the smallest to the largest value of the picture that isn't padding; all bits take part. MONOCHROME1, whose smallest value
is white, is inverted afterwards. Colour is converted to RGB; the upper 8 bits of 16 are kept. Overlays, presentation states
and patient orientation are left out. Decoding is pydicom's, with GDCM, OpenJPEG and Pillow as its plugins.

Who the patient is leaves this module only as a keyed hash.
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
"""Peak memory of decoding, in bytes a pixel: stored values, a few float64 copies, and the file."""


def is_dicom(data: bytes) -> bool:
    """Whether a file has the preamble and prefix of DICOM (PS3.10, 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes) -> "Dataset":
    """The data set of a file with a single picture, its pixels not yet decoded.

    Args:
        data: content of the file.

    Raises:
        BadImageError: it can't be read, or holds no picture or several.
    """
    try:
        dataset: Dataset = _pydicom().dcmread(io.BytesIO(data))
        frames = int(dataset.get("NumberOfFrames") or 1)
        shape = [int(dataset.get(name) or 0) for name in ("Columns", "Rows")]
    except Exception as error:  # pydicom raises whatever a damaged file makes it run into
        raise BadImageError(f"a damaged DICOM file: {first_line(error)}") from error
    if "PixelData" not in dataset or min(shape) < 1:
        kind = "whose pixels are floating-point numbers" if "FloatPixelData" in dataset else "without a picture"
        raise BadImageError(f"a DICOM file {kind} ({_class(dataset)})")
    if frames > 1:
        raise BadImageError(
            f"a DICOM file of {frames} frames ({_class(dataset)}); export those that are meant, a file each"
        )
    return dataset


def dicom_header(data: bytes) -> dict[str, Any]:
    """Width, height, mode and format of a picture, as of the other formats."""
    dataset = read_dicom(data)
    mode = str(dataset.get("PhotometricInterpretation", ""))
    return {"width": int(dataset.Columns), "height": int(dataset.Rows), "mode": mode, "format": "DICOM"}


def patient_of(data: bytes, key: bytes) -> str | None:
    """Whose picture it is: a keyed hash of the patient's identifier, else of the study's; None where a file has neither.

    Args:
        data: content of a DICOM file.
        key: secret, so that nobody can find an identifier by hashing all that there may be.
    """
    tags = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
    try:
        dataset = _pydicom().dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=list(tags))
        patient, issuer, study = (str(dataset.get(name) or "").strip() for name in tags)
    except Exception:  # a damaged file; decoding it gives the reason
        return None
    named = f"patient\0{issuer}\0{patient}" if patient else f"study\0{study}" if study else None
    return hashlib.blake2b(named.encode(), key=key, digest_size=12).hexdigest() if named else None


def decode_dicom(dataset: "Dataset") -> UInt8[np.ndarray, "height width"] | UInt8[np.ndarray, "height width 3"]:
    """The picture of a data set, 0 to 255.

    Args:
        dataset: from ``read_dicom``.

    Raises:
        BadImageError: it can't be decoded, or its values have no meaning as a picture.
    """
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    try:
        stored = pixel_array(dataset)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
        if stored.ndim == 3:
            return _upper_bits(stored)
        shown = _shown(apply_modality_lut(stored, dataset), stored, dataset)
    except BadImageError:
        raise
    except Exception as error:  # of pydicom and its plugins, on damaged files and on what they can't decode
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "no transfer syntax")
        raise BadImageError(f"a DICOM file that can't be decoded ({syntax}): {first_line(error)}") from error
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = 1 - shown
    return np.asarray(np.rint(shown * 255), np.uint8)


@functools.cache
def _pydicom() -> Any:
    """``pydicom``, silent on what doesn't follow the standard, which need not have to do with pixels."""
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\.|raylight\.data\.decode\.dicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


def _class(dataset: "Dataset") -> str:
    """The kind of object, such as CT Image Storage."""
    return str(getattr(dataset.get("SOPClassUID"), "name", "of no known class"))


def _upper_bits(colour: Num[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    if colour.dtype.itemsize > 2:
        raise BadImageError(f"a DICOM file with {8 * colour.dtype.itemsize} bits a colour; 8 or 16 are decoded")
    return colour.astype(np.uint8) if colour.dtype.itemsize == 1 else (colour >> 8).astype(np.uint8)


def _shown(
    values: Num[np.ndarray, "height width"], stored: Num[np.ndarray, "height width"], dataset: "Dataset"
) -> Float[np.ndarray, "height width"]:
    """Grey values from 0, the smallest shown, to 1."""
    if dataset.get("VOILUTSequence"):
        return _through_table(values, dataset)
    if dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        centre, width = (float(_first(dataset[name].value)) for name in ("WindowCenter", "WindowWidth"))
        return _through_window(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    counted = values[stored != dataset.PixelPaddingValue] if dataset.get("PixelPaddingValue") is not None else values
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    return np.clip((values.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)


def _first(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else value[0]


def _through_window(
    values: Num[np.ndarray, "height width"], centre: float, width: float, function: str
) -> Float[np.ndarray, "height width"]:
    """A window, by the formulas of PS3.3 C.11.2.1.2 and C.11.2.1.3, on a scale of 0 to 1."""
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
    """The first VOI LUT (PS3.3 C.11.2.1.1); pydicom's own counts entries in the type of the table, which may be too small."""
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
    places = np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)
    return np.asarray(np.clip(np.asarray(table, np.float64)[places] / ((1 << bits) - 1), 0, 1))
