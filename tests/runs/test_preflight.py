"""The nodes of a Ray cluster are looked over before the work; what then becomes of it when a worker or a node is lost."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from raylight.config.schema import RayConfig
from raylight.data.cache_files import PIXELS, SIDECAR, write_cache
from raylight.data.decode.blocks import Engine
from raylight.data.decode.engines import decode_files
from raylight.data.decode.spec import DecodeSpec
from raylight.data.scan.memory import Decoding, Files, Reading, scan_files
from raylight.errors import RaylightError
from raylight.runs.preflight import check_nodes_see, largest_block
from raylight.runs.ray_session import _token, ray_session
from tests.data.scan.test_memory import contents

SPEC = DecodeSpec(64, "stretch")
RAY, THREADS = Engine("ray"), Engine("threads", 2)
FILES = 160


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures large enough that decoding them takes a while, the last of them cut off."""
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(5)
    paths = []
    for number in range(FILES):
        pixels = np.repeat(np.repeat(generator.integers(0, 256, (60, 80, 3), np.uint8), 10, 0), 10, 1)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1])
    paths[-1].write_bytes(paths[-1].read_bytes()[:-500])
    return paths


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one CPU; its processes are reached with this process's token, since Ray remembers the first it sees."""
    before = dict(os.environ)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
    try:
        yield started
    finally:
        started.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def joined(cluster: Any) -> Iterator[Any]:
    """This process in the cluster."""
    with ray_session(RayConfig(address=cluster.address)):
        yield cluster


@pytest.fixture
def second(joined: Any) -> Iterator[Any]:
    """A second node with one CPU, gone afterwards if it isn't before."""
    node = joined.add_node(num_cpus=1, object_store_memory=100_000_000)
    yield node
    if node in joined.worker_nodes:
        joined.remove_node(node)


def fill(folder: Path, files: list[Path], engine: Engine, on_progress: Any = lambda done, of: None) -> bytes:
    """Fills a cache; the content of its files."""
    folder.mkdir()
    paths = {sha256(path.read_bytes()).hexdigest(): [path] for path in files}
    write_cache(folder, paths, SPEC, engine, on_progress)
    assert sorted(path.name for path in folder.iterdir()) == sorted([PIXELS, SIDECAR])
    return (folder / PIXELS).read_bytes() + (folder / SIDECAR).read_bytes()


def scanned(folder: Path, files: list[Path], engine: Engine) -> tuple[Any, bytes, list[bytes]]:
    """Reads files as a new data set; facts, thumbnails and the content of the cache."""
    names = [path.name for path in files]
    reading = Reading(2, decoding=Decoding(SPEC, engine=engine))
    scan = scan_files(Files(files[0].parent, "flat", names), folder, reading)
    return scan.facts.to_pylist(), scan.thumbnails.tobytes(), contents(folder)


def working(node: Any) -> list[psutil.Process]:
    """Processes of a node that are at a decoding task."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [process for process in raylet.children() if "MapBatches" in command(process)]


def command(process: psutil.Process) -> str:
    """Of a process, its command line; of one that has just ended, none."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def when_at_work(node: Any, what: Callable[[psutil.Process], None]) -> Thread:
    """Does something, once, as soon as a process of a node decodes."""

    def wait() -> None:
        while not (found := working(node)):
            time.sleep(0.01)
        time.sleep(0.1)
        what(found[0])

    thread = Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.long
def test_a_node_lost_while_decoding(joined: Any, second: Any, files: list[Path], tmp_path: Path) -> None:
    """A new data set has the same index and cache as from threads."""
    removal = when_at_work(second, lambda _: joined.remove_node(second, allow_graceful=False))
    with_ray = scanned(tmp_path / "ray", files, RAY)
    removal.join()
    assert second not in joined.worker_nodes
    assert with_ray == scanned(tmp_path / "threads", files, THREADS)


@pytest.mark.long  # Ray takes half a minute to believe it
def test_a_node_lost_while_handing_over_pixels(joined: Any, second: Any, files: list[Path]) -> None:
    removal = when_at_work(second, lambda _: joined.remove_node(second, allow_graceful=False))
    by_ray = {}
    for block in decode_files(files, SPEC, RAY):
        assert not by_ray.keys() & set(block.positions.tolist())
        images = iter(block.pixels.copy())
        by_ray |= {
            place: next(images) if ok else None for place, ok in zip(block.positions.tolist(), block.ok, strict=True)
        }
    removal.join()
    assert second not in joined.worker_nodes
    assert sorted(by_ray) == list(range(FILES))
    for block in decode_files(files, SPEC, THREADS):
        for place, pixels in zip(block.positions[block.ok].tolist(), block.pixels, strict=True):
            assert np.array_equal(by_ray[place], pixels)
    assert by_ray[FILES - 1] is None


@pytest.mark.long
def test_a_worker_killed_while_decoding(joined: Any, files: list[Path], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(process: psutil.Process) -> None:
        process.send_signal(signal.SIGKILL)
        killed.append(process.pid)

    killing = when_at_work(joined.head_node, kill)
    with_ray = fill(tmp_path / "ray", files, RAY)
    killing.join()
    assert len(killed) == 1
    assert with_ray == fill(tmp_path / "threads", files, THREADS)


def test_a_node_with_another_version_is_refused(cluster: Any, tmp_path: Path) -> None:
    about = tmp_path / "raylight-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: raylight\nVersion: 9.9\n")
    node = cluster.add_node(num_cpus=1, object_store_memory=100_000_000, env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        expected = (
            r"Node .* has raylight 9\.9 \(here 0\.1\.0\)\. .*install those of this machine there.*ray\.address=local"
        )
        with pytest.raises(RaylightError, match=expected), ray_session(RayConfig(address=cluster.address)):
            pass
    finally:
        cluster.remove_node(node)


def test_a_cluster_of_another_version_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "__version__", "2.1.0")
    expected = r"Can't join the Ray cluster at .*Version mismatch.* Ray: \d.* Python: 3.* Ray: 2\.1\.0"
    with pytest.raises(RaylightError, match=expected), ray_session(RayConfig(address=cluster.address)):
        pass


def test_a_node_that_does_not_see_the_files_is_refused(joined: Any, second: Any, files: list[Path]) -> None:
    with files[0].open("rb") as file:
        number = fcntl.fcntl(file, fcntl.F_DUPFD, 900)  # one that Ray's workers don't have
    try:
        only_here = f"/proc/self/fd/{number}"
        with pytest.raises(RaylightError, match=r"Node .* doesn't see /proc/self/fd/.*NFS.*such as data\.root=s3://"):
            check_nodes_see(only_here)
    finally:
        os.close(number)
    check_nodes_see(str(files[0]))


def test_a_store_too_small_for_an_image_is_refused(joined: Any) -> None:
    assert largest_block(12_288, 32_000_000) == 25_000_000
    with pytest.raises(
        RaylightError, match=r"has 0\.10 GB, .* 50\.3 MB for each of its 1 CPUs need 0\.20 GB\. .*decode=th"
    ):
        largest_block(4096 * 4096 * 3, 32_000_000)
