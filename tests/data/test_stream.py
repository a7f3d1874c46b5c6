"""Streamed images are the cached ones: the same pixels, each once an epoch, nothing left on the disk."""

import csv
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch

from raylight.config.schema import DataConfig
from raylight.data.augment import Augmenter
from raylight.data.batches import Batches, Batching, Order, Shard
from raylight.data.cache import cached_images
from raylight.data.decode.blocks import Engine
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.sources.demo import draw_demo
from raylight.data.sources.source import find_images
from raylight.data.stream import Stream, StreamedSamples, buffered_order
from raylight.errors import DataError

SPEC, THREADS = DecodeSpec(24, "crop"), Engine("threads", 2)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("stream")
    draw_demo(folder / "demo", images=60)
    return build_index(find_images(DataConfig(root=str(folder / "demo")), folder), folder, 2).usable()


def streamed(index: Index, buffer: int) -> StreamedSamples:
    return Stream(index, SPEC, THREADS, buffer).samples(index)


def turned(picture: torch.Tensor) -> torch.Tensor:
    return picture.flip(2) if torch.rand(()) < 0.5 else picture


@pytest.mark.parametrize("buffer", [0, 7, 1000])
def test_an_epoch_has_each_cached_image_once(index: Index, tmp_path: Path, buffer: int) -> None:
    cached = cached_images(index, SPEC, THREADS, tmp_path, lambda *_: None).samples(index)
    augmenter = Augmenter([turned], 3)
    orders = []
    for epoch in (0, 1):
        order = Order(1, epoch, shuffle=True)
        found = list(Batches(streamed(index, buffer), Batching(8), order, augmenter=augmenter))
        expected = {
            int(at): image
            for b in Batches(cached, Batching(8), order, augmenter=augmenter)
            for at, image in zip(b.positions, b.inputs, strict=True)
        }
        positions = torch.cat([batch.positions for batch in found]).tolist()
        assert sorted(positions) == list(range(len(index)))
        for batch in found:
            assert torch.equal(batch.targets, torch.from_numpy(cached.targets[batch.positions]))
            for position, image in zip(batch.positions.tolist(), batch.inputs, strict=True):
                assert torch.equal(image, expected[position])
        if buffer == 0:
            assert positions == list(expected)
        orders.append(positions)
    assert orders[0] != orders[1]


def test_processes_share_each_batch(index: Index) -> None:
    whole = list(Batches(streamed(index, 5), Batching(8), Order(1, shuffle=True)))
    parts = [
        list(Batches(streamed(index, 5), Batching(8, shard=Shard(rank, 2)), Order(1, shuffle=True))) for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(batch.inputs[0::2], first.inputs)
        assert torch.equal(batch.inputs[1::2], second.inputs)


def test_a_buffer_lets_an_image_go_at_most_its_size_early() -> None:
    left = buffered_order(np.arange(1000), 50, np.random.default_rng(0))
    assert sorted(left.tolist()) == list(range(1000))
    assert (left - np.arange(1000)).max() < 50
    assert not np.array_equal(left, np.arange(1000))


def test_a_file_that_has_gone_stops_the_epoch(index: Index, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    moved = streamed(index, 0)
    gone = StreamedSamples(**{**moved.__dict__, "paths": (str(tmp_path / "gone.jpg"), *moved.paths[1:])})
    with pytest.raises(DataError, match=r"gone\.jpg: can't be read: No such file.*data\.feed=stream.*raylight resume"):
        list(Batches(gone, Batching(8)))


@pytest.mark.long
def test_a_streamed_run_is_the_cached_run_and_keeps_no_image(
    index: Index, train: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    """Ray Data feeds one of them; with no buffer the order is the same, too."""
    losses = {}
    for feed, engine in (("cache", "threads"), ("stream", "ray")):
        done = train(
            *("trainer=debug", "trainer.batch_size=8", "trainer.threads=1", "logger=csv", "report.enabled=false"),
            *("report.plots=false", "data=folder", f"data.root={index.root}", f"decode={engine}", f"data.feed={feed}"),
            *("data.shuffle_buffer=0", f"cache_dir={tmp_path}/{feed}", f"hydra.run.dir={tmp_path}/run-{feed}"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with (tmp_path / f"run-{feed}" / "history.csv").open() as lines:
            losses[feed] = [(row["train/loss"], row["val/loss"]) for row in csv.DictReader(lines)]
    assert losses["cache"] == losses["stream"]
    assert (tmp_path / "cache" / "images").is_dir()
    assert not (tmp_path / "stream" / "images").exists()
