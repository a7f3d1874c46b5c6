"""DICOM files against the standard's formulas and pydicom's own test files."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from raylight.config.schema import DataConfig
from raylight.data.decode.dicom import decode_dicom, patient_of, read_dicom
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.sources.source import find_images
from raylight.errors import BadImageError


def film(values: np.ndarray, **elements: object) -> bytes:
    """A file with one grey picture; further elements by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.2.3.4")
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in elements.items():
        setattr(dataset, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return decode_dicom(read_dicom(data))


def refused(data: bytes) -> str:
    with pytest.raises(BadImageError) as error:
        decode_image(data, DecodeSpec(32, "stretch"))
    return str(error.value)


FILMS = {  # one of each transfer syntax that pydicom's plugins read and ships a film of
    "Implicit VR Little Endian": "MR_small_implicit.dcm",
    "Explicit VR Little Endian": "MR_small.dcm",
    "Deflated Explicit VR Little Endian": "image_dfl.dcm",
    "Explicit VR Big Endian": "MR_small_bigendian.dcm",
    "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG Baseline (Process 1)": "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG-LS Lossless Image Compression": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG-LS Lossy (Near-Lossless) Image Compression": "JPEGLSNearLossless_16.dcm",
    "JPEG 2000 Image Compression (Lossless Only)": "MR_small_jp2klossless.dcm",
    "JPEG 2000 Image Compression": "693_J2KI.dcm",
    "RLE Lossless": "MR_small_RLE.dcm",
}


@pytest.mark.parametrize("syntax", FILMS)
def test_each_transfer_syntax_gives_what_the_standard_shows(syntax: str) -> None:
    path = get_testdata_file(FILMS[syntax], download=False)
    dataset = pydicom.dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID.name == syntax
    found, stored = decoded(Path(path).read_bytes()), pixel_array(dataset)
    if stored.ndim == 3:
        assert np.array_equal(found, stored)
        return
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(float)
    if "WindowWidth" in dataset:  # pydicom scales a window to the range of the stored bits
        low, high = (-(2.0**15), 2.0**15 - 1) if dataset.PixelRepresentation else (0.0, 2.0**dataset.BitsStored - 1)
        if dataset.BitsStored == 14:  # with a rescale slope, to the range of what may come out of it
            low, high = (
                float(dataset.RescaleSlope) * bound + float(dataset.RescaleIntercept) for bound in (-(2**13), 2**13 - 1)
            )
    else:
        low, high = values.min(), values.max()
    expected = np.rint((values - low) / (high - low) * 255)
    assert np.abs(found - expected).max() <= 1
    assert np.ptp(found) > 100


def test_the_same_film_is_the_same_in_every_lossless_syntax() -> None:
    names = ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm")
    names = (*names, "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_expb.dcm")
    pictures = [decoded(Path(get_testdata_file(name, download=False)).read_bytes()) for name in names]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize(
    ("function", "formula"),
    [  # PS3.3 C.11.2.1.2.1, C.11.2.1.3.2, C.11.2.1.3.1, with y from 0 to 255
        ("LINEAR", lambda x, c, w: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255),
        ("LINEAR_EXACT", lambda x, c, w: ((x - c) / w + 0.5) * 255),
        ("SIGMOID", lambda x, c, w: 255 / (1 + np.exp(-4 * (x - c) / w))),
    ],
)
def test_a_window_keeps_the_bits_that_it_shows(function: str, formula) -> None:  # type: ignore[no-untyped-def]
    """200 of 4096 values: the upper 8 of 12 bits would leave 13 levels of grey, the window leaves all."""
    found = decoded(film(RAMP, BitsStored=12, HighBit=11, WindowCenter=1000, WindowWidth=200, VOILUTFunction=function))
    assert np.array_equal(found, np.rint(np.clip(formula(RAMP.astype(float), 1000, 200), 0, 255)))
    assert len(np.unique(found)) > 190


def test_rescaled_values_enter_the_first_of_several_windows() -> None:
    """A CT's Hounsfield units: slope 2, intercept -1024; a window of 400 around 40."""
    found = decoded(film(RAMP, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 10]))
    units = RAMP.astype(float) * 2 - 1024
    assert np.array_equal(found, np.rint(np.clip(((units - 39.5) / 399 + 0.5) * 255, 0, 255)))


def test_a_window_of_one_is_a_threshold() -> None:
    assert np.array_equal(decoded(film(RAMP, WindowCenter=100, WindowWidth=1)), np.where(RAMP > 99.5, 255, 0))
    assert "window has a width of 0" in refused(film(RAMP, WindowCenter=100, WindowWidth=0))


def test_without_a_window_the_range_of_the_picture_is_shown_without_its_padding() -> None:
    values = np.clip(RAMP, 1000, 3000)
    values[0] = 65000
    expected = np.rint(np.clip((values - 1000.0) / 2000, 0, 1) * 255)
    assert np.array_equal(decoded(film(values, PixelPaddingValue=65000)), expected)
    assert decoded(film(np.full((8, 8), 77, np.uint8))).max() == 0


def test_monochrome1_is_turned_after_the_window() -> None:
    shown = {"WindowCenter": 1000, "WindowWidth": 201}
    light = decoded(film(RAMP, PhotometricInterpretation="MONOCHROME1", **shown))
    dark = decoded(film(RAMP, **shown))
    assert light[0, 0] == 255
    assert np.abs(light.astype(int) - (255 - dark)).max() <= 1


@pytest.mark.parametrize(("bits", "first"), [(8, 0), (8, 300), (12, -5), (16, 10)])
def test_a_table_of_grey_values_goes_before_the_window(bits: int, first: int) -> None:
    item = Dataset()
    table = np.rint((np.linspace(0, 1, 1000) ** 2) * ((1 << bits) - 1)).astype(int)
    item.LUTDescriptor, item.LUTData = [1000, first, bits], table.tolist()
    item["LUTDescriptor"].VR = "SS"
    item["LUTData"].VR = "US"
    values = RAMP.astype(np.int16)
    found = decoded(film(values, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2))
    expected = table[np.clip(values.astype(int) - first, 0, 999)] / ((1 << bits) - 1) * 255
    assert np.array_equal(found, np.rint(expected))


def test_a_film_is_resized_as_a_png_of_it_would_be() -> None:
    found = decode_image(film(RAMP, WindowCenter=2048, WindowWidth=4096), DecodeSpec(64, "stretch"))
    assert found.shape == (64, 64, 3)
    assert np.array_equal(found[..., 0], decoded(film(RAMP, WindowCenter=2048, WindowWidth=4096)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "examples_ybr_color.dcm",
            "a DICOM file of 30 frames (Ultrasound Multi-frame Image Storage); export the ones",
        ),
        ("rtplan.dcm", "a DICOM file without an image (RT Plan Storage)"),
        ("MR_truncated.dcm", "a DICOM file that can't be decoded (Explicit VR Little Endian): The number of bytes"),
        ("badVR.dcm", "a damaged DICOM file: invalid literal"),
        ("JPEG-lossy.dcm", "a DICOM file that can't be decoded (JPEG Extended (Process 2 and 4))"),
        ("SC_rgb_rle_32bit.dcm", "a DICOM file with 32 bits per colour"),
    ],
)
def test_what_is_no_single_picture_is_refused_with_the_reason(name: str, reason: str) -> None:
    assert reason in refused(Path(get_testdata_file(name, download=False)).read_bytes())


def test_a_patient_is_known_by_a_keyed_hash_alone() -> None:
    one = film(RAMP, PatientID="  007 ", StudyInstanceUID="1.2")
    other = film(RAMP, PatientID="007", StudyInstanceUID="1.3")
    assert patient_of(one, b"k") == patient_of(other, b"k") != patient_of(one, b"l")
    assert patient_of(film(RAMP, StudyInstanceUID="1.2"), b"k") == patient_of(film(RAMP, StudyInstanceUID="1.2"), b"k")
    assert patient_of(film(RAMP, StudyInstanceUID="007"), b"k") != patient_of(one, b"k")
    assert patient_of(film(RAMP, PatientID="007", IssuerOfPatientID="X"), b"k") != patient_of(one, b"k")
    assert patient_of(film(RAMP), b"k") is None


def folder_index(root: Path, cache: Path) -> Index:
    return build_index(find_images(DataConfig(kind="folder", root=str(root)), cache), cache, workers=2)


def test_patients_are_the_groups_of_an_index_that_does_not_name_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            data = film(
                rng.integers(0, 4096, (32, 40), np.uint16), PatientID=f"SECRET-{number // 2}", BitsStored=12, HighBit=11
            )
            (tmp_path / "images" / label / f"{number}.dcm").write_bytes(data)
    index = folder_index(tmp_path / "images", tmp_path / "cache")
    groups = index.column("group")
    assert index.rejected() == []
    assert [index.column(name)[0] for name in ("width", "height", "format", "mode")] == [40, 32, "DICOM", "MONOCHROME2"]
    assert [groups[0] == other for other in groups] == [True, True, False, False, True, True, False, False]
    assert groups[0] == f"patient {min(index.column('sha256')[[0, 1, 4, 5]])[:12]}"
    index.write(tmp_path / "index.parquet")
    for file in [tmp_path / "index.parquet", *(tmp_path / "cache").rglob("*")]:
        assert not file.is_file() or b"SECRET" not in file.read_bytes()
    # Another machine, with another secret, makes the same groups of the same films.
    assert list(folder_index(tmp_path / "images", tmp_path / "other").column("group")) == list(groups)


def test_without_the_extra_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raylight.data.decode.image.READERS", ())
    assert "it is a DICOM file; read it with: " in refused(film(RAMP))
    assert "[medical]" in refused(film(RAMP))
