"""Ray decodes, and reads a new data set in one pass, as threads do; it gets its settings back."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import DataConfig
from raylight.data.cache import cached_images
from raylight.data.cache_files import PixelFile
from raylight.data.decode.blocks import Engine
from raylight.data.decode.engines import decode_files
from raylight.data.index import build_index
from raylight.data.scan.files import scan_file
from raylight.data.scan.memory import Decoding
from raylight.data.scan.with_ray import scan_with_ray
from raylight.data.sources.source import find_images
from tests.data.caches import Progress
from tests.data.decode.test_engines import SPEC, gathered
from tests.data.scan.test_memory import contents
from tests.data.scans import picture, spoil

THREADS, RAY = Engine("threads", 2), Engine("ray")


def test_ray_and_threads_give_the_same_bytes_and_reasons(
    session: None, files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with_threads = gathered(decode_files(files, SPEC, THREADS), 64)
    capfd.readouterr()
    with_ray = gathered(decode_files(files, SPEC, RAY), 64)
    assert np.array_equal(with_threads[0], with_ray[0])
    assert with_threads[1] == with_ray[1]
    assert "".join(capfd.readouterr()).strip() == ""


def test_ray_data_gets_its_settings_back(session: None, files: list[Path]) -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    for _ in decode_files(files, SPEC, RAY):
        break
    assert (context.enable_progress_bars, context.print_on_execution_start) == before
    assert len(gathered(decode_files(files, SPEC, RAY), 64)[1]) == 4


@pytest.fixture
def mixed(root: Path) -> Path:
    """Good files, one of them twice, and bad ones of all kinds."""
    for number in range(10, 30):
        picture(number).save(root / "a" / f"{number}.jpg")
    shutil.copy(root / "a" / "29.jpg", root / "a" / "00.jpg")
    spoil(root)
    return root


def test_one_pass_gives_the_same_index_and_cache_as_threads(session: None, mixed: Path, tmp_path: Path) -> None:
    source = find_images(DataConfig(root=str(mixed)), mixed)
    progress, again = Progress(), Progress()
    threads = build_index(source, tmp_path / "threads", 2, decoding=Decoding(SPEC))
    ray = build_index(source, tmp_path / "ray", 2, decoding=Decoding(SPEC, progress, RAY))
    assert ray.table.equals(threads.table)
    assert len(ray.rejected()) == 6
    assert np.array_equal(ray.thumbnails, threads.thumbnails)
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")
    assert progress.calls[-1] == (len(ray), len(ray))
    cached_images(ray, SPEC, RAY, tmp_path / "ray", again)
    assert again.calls == []


def test_pixels_that_workers_cannot_write_are_handed_over(session: None, mixed: Path, tmp_path: Path) -> None:
    paths = sorted(path.relative_to(mixed).as_posix() for path in mixed.rglob("*.*"))
    (tmp_path / "building").mkdir()
    with PixelFile(tmp_path / "building", len(paths), SPEC) as pixels:
        there, pixels.name = pixels.name, tmp_path / "on another node"
        found = [file for part in scan_with_ray(mixed, paths, b"key", pixels, RAY) for file in part]
        pixels.name = there
        expected = [scan_file(mixed, path, b"key", SPEC) for path in paths]
        assert [file.facts for file in found] == [file.facts for file in expected]
        assert not any(isinstance(file.pixels, np.ndarray) for file in found)
        written = np.memmap(there, np.uint8, "r", pixels.offset, (len(paths), *SPEC.image_shape))
        for row, file in enumerate(expected):
            assert np.array_equal(written[row], file.pixels if file.pixels is not None else np.zeros(SPEC.image_shape))
