"""Many files: both engines give the same, bad files stop nothing, nothing is printed, nothing piles up."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from raylight.data.decode import blocks, engines
from raylight.data.decode.blocks import DecodedBlock, Engine
from raylight.data.decode.engines import decode_files
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec

SPEC = DecodeSpec(40, "crop")
THREADS = Engine("threads", 2)


def gathered(blocks: Iterator[DecodedBlock], count: int) -> tuple[np.ndarray, dict[int, str]]:
    """Pixels by position, and the reasons of those that have none; each position must come once."""
    pixels, reasons = np.zeros((count, 40, 40, 3), np.uint8), {}
    seen: list[int] = []
    for block in blocks:
        assert len(block.pixels) == block.ok.sum()
        pixels[block.positions[block.ok]] = block.pixels
        seen += block.positions.tolist()
        reasons |= {int(place): why for place, why in zip(block.positions, block.reasons, strict=True) if why}
    assert sorted(seen) == list(range(count))
    return pixels, reasons


def test_threads_decode_in_order_and_quarantine_what_is_bad(files: list[Path]) -> None:
    blocks = list(decode_files(files, SPEC, THREADS))
    assert np.array_equal(np.concatenate([block.positions for block in blocks]), np.arange(64))
    pixels, reasons = gathered(iter(blocks), 64)
    assert len(blocks) > 4
    for place in range(60):
        assert np.array_equal(pixels[place], decode_image(files[place].read_bytes(), SPEC))
    assert reasons.keys() == {60, 61, 62, 63}
    assert "cut off" in reasons[60]
    assert reasons[61] == "the file is empty"
    assert reasons[62] == "can't be read: No such file or directory"
    assert reasons[63] == "can't be read: Is a directory"


@pytest.mark.parametrize("engine", ["threads", "ray"])
def test_a_file_with_other_content_than_expected_is_reported(
    engine: str, files: list[Path], request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("session")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files[:10]]
    digests[4] = hashlib.sha256(b"what it was").hexdigest()
    _, reasons = gathered(decode_files(files[:10], SPEC, Engine(engine), digests), 10)
    assert reasons == {4: "changed since it was indexed"}


@pytest.mark.parametrize("engine", ["threads", "ray"])
def test_no_files_no_blocks(engine: str, request: pytest.FixtureRequest) -> None:
    if engine == "ray":
        request.getfixturevalue("session")
    assert list(decode_files([], SPEC, Engine(engine))) == []


def test_threads_wait_for_whoever_takes_the_results(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are, only a few blocks are decoded ahead."""
    monkeypatch.setattr(engines, "THREAD_BLOCK", 40 * 40 * 3)
    decoded = decode_files(files[:60] * 20, SPEC, THREADS)
    opened: list[str] = []
    read = blocks.read_checked
    monkeypatch.setattr(blocks, "read_checked", lambda path, digest: opened.append(path) or read(path, digest))
    for handed_over, block in enumerate(decoded, start=1):
        assert len(block.positions) == 1
        assert len(opened) <= handed_over + 4
        if handed_over == 200:
            break
    decoded.close()
    assert len(opened) < 210


def test_an_unknown_engine_is_refused(files: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"decode\.engine='spark'"):
        Engine("spark")


@pytest.mark.real_data
def test_all_real_photos_and_films_decode() -> None:
    if not (root := os.environ.get("RAYLIGHT_REAL_DATA")):
        pytest.skip("set RAYLIGHT_REAL_DATA to a folder with dogs-vs-cats and xray_dataset_covid19")
    paths = [path for path in Path(root).rglob("*") if path.suffix in (".jpg", ".jpeg", ".png")]
    assert len(paths) == 2190
    _, reasons = gathered(decode_files(paths, SPEC, Engine("threads")), 2190)
    assert reasons == {}
