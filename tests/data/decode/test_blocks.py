"""Files are split so that all workers have work and no block is too large, and are decoded one after the other."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from raylight.data.decode.blocks import block_of, decode_rows, read_checked, split_files
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
from tests.data.decode.pictures import encoded, picture

SPEC = DecodeSpec(10, "stretch")


@pytest.mark.parametrize(
    ("files", "workers", "megabytes", "length"),
    [
        (100, 2, 1.0, 12),  # four blocks for each worker
        (3, 2, 1.0, 1),
        (100, 2, 0.0012, 4),  # 1,200 bytes hold four images of 300
        (100, 2, 0.0, 1),
    ],
)
def test_blocks_keep_all_workers_busy_and_fit_the_memory(
    files: int, workers: int, megabytes: float, length: int
) -> None:
    paths = [f"{i}.jpg" for i in range(files)]
    blocks = list(split_files(paths, None, SPEC, workers, round(1e6 * megabytes)))
    assert np.concatenate([block.positions for block in blocks]).tolist() == list(range(files))
    assert [path for block in blocks for path in block.paths] == paths
    assert {len(block.positions) for block in blocks[:-1]} == {length}
    assert all(block.digests == ("",) * len(block.paths) for block in blocks)


def test_a_bad_file_has_a_reason_and_takes_no_place_among_the_pixels(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encoded(picture(), "PNG"))
    bad.write_bytes(b"no picture")
    pixels, reasons = decode_rows([str(bad), str(good), str(tmp_path / "gone.png")], ["", "", ""], SPEC)
    assert reasons[1] is None
    assert "not a whole image" in str(reasons[0])
    assert str(reasons[2]).startswith("can't be read")
    block = block_of(np.array([7, 8, 9]), pixels, reasons)
    assert block.ok.tolist() == [False, True, False]
    assert np.array_equal(block.pixels, decode_image(good.read_bytes(), SPEC)[None])


def test_a_file_is_read_only_with_the_content_that_was_indexed(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"content")
    assert read_checked(str(file), "") == read_checked(str(file), sha256(b"content").hexdigest()) == b"content"
    with pytest.raises(BadImageError, match="changed since it was indexed"):
        read_checked(str(file), sha256(b"another").hexdigest())
