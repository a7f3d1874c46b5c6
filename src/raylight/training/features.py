"""Outputs of frozen stages, computed once per image (or augmented view) and cached like decoded images.

A store holds one row for each row of the image cache, and which of them have been computed, so that splits, seeds and runs
share them. Leaves out the layers above the freeze boundary.
"""

import copy
import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from raylight.cpu.engine import CALIBRATION_IMAGES, InferenceEngine, Int8
from raylight.data.augment import Augmenter
from raylight.data.cache_files import reserve
from raylight.data.samples import Samples
from raylight.errors import ConfigError, RaylightError
from raylight.evaluation.bootstrap import sampled_positions
from raylight.models.families.own import code_digest
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork

FEATURES_VERSION = 3
"""Part of every key; raised when the same settings would give other numbers."""

_BLOCK = 512
"""Images after which progress is saved."""

_UNFINISHED = ".done.tmp.npy"

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Opened:
    """The files of a store: a memory map of the values, and which rows are done."""

    folder: Path
    values: Float[np.ndarray, "row ..."]
    done: Bool[np.ndarray, " row"]

    def mark(self) -> None:
        """Save which rows are done."""
        temporary = self.folder / _UNFINISHED
        np.save(temporary, self.done)
        temporary.replace(self.folder / "done.npy")


@dataclass(frozen=True)
class FeatureStore:
    """Computes and caches the inputs of a stage.

    Attributes:
        folder: where stores are kept.
        images_key: identifies the image cache whose rows the stores mirror.
        network: its stages below the requested one must not change while their outputs are computed.
        preprocessing: of the images.
        precision: of the inference, ``fp32`` or ``bf16``.
        threads: worker threads of the inference.
        on_progress: called with the number of images computed, and of those to compute.
        calibration: training images on which the ranges of activations are measured, to compute in int8 instead of
            ``precision``; ``None`` doesn't use int8.
        network_node: the ``_target_`` node of a user's own network; its arguments needn't show in the network's ``repr``.
        transforms: the ``_target_`` nodes of the augmentation, of which the same holds.
    """

    folder: Path
    images_key: str
    network: StagedNetwork
    preprocessing: Preprocessing
    precision: str
    threads: int
    on_progress: Callable[[int, int], None]
    calibration: Samples | None = None
    network_node: Mapping[str, Any] | None = None
    transforms: Sequence[Any] = ()
    _engines: dict[int, tuple[str, InferenceEngine]] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the store without what belongs to this process: compiled engines, the progress bar."""
        settings = (self.folder.resolve(), self.images_key, self.network, self.preprocessing, self.precision)
        return FeatureStore, (*settings, self.threads, _silent, self.calibration, self.network_node, self.transforms)

    def in_int8(self, images: Samples) -> "FeatureStore":
        """This store in int8.

        Args:
            images: training images; some of them, or all, determine the ranges of activations.

        Returns:
            A store whose features have keys of their own.
        """
        return replace(self, calibration=images, _engines={})

    def features(self, images: Samples, stage: int, augmenter: Augmenter | None, views: int = 1) -> Samples:
        """The inputs of a stage for each image, read from the store and computed where they are missing.

        Args:
            images: image samples.
            stage: position of the stage, above 0.
            augmenter: makes the views; None or empty takes the image as it is.
            views: augmented views per image.

        Returns:
            Samples with the same targets, whose store is float32[row * view, ...].
        """
        views = views if augmenter else 1
        key = self._key(stage, augmenter, views)
        folder = self.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        rows = images.rows[:, None] * views + np.arange(views)
        with FileLock(folder / ".lock"):
            opened = self._open(folder, images.n_rows * views, stage)
            missing = np.flatnonzero(~opened.done[rows].all(axis=1))
            if len(missing):
                self._compute(opened, images, missing, stage, augmenter, views)
        return Samples(
            store=np.load(folder / "features.npy", mmap_mode="r"),
            rows=rows if views > 1 else rows[:, 0],
            targets=images.targets,
            keys=images.keys,
        )

    def images_per_second(self, images: Samples, stage: int, count: int) -> float:
        """Measures the speed of the stages below a stage, whatever is cached.

        Args:
            images: image samples.
            stage: position of the stage, above 0.
            count: images to time, after a warm-up of one.

        Returns:
            Images per second.
        """
        engine, rows = self._engine(stage), images.rows[:count]
        outputs = np.empty((len(rows), *engine.output_shape(images.store.shape[1:])), np.float32)
        engine.run_into(outputs, np.arange(1), images.store, rows[:1])
        begin = time.perf_counter()
        engine.run_into(outputs, np.arange(len(rows)), images.store, rows)
        return len(rows) / max(time.perf_counter() - begin, 1e-9)

    def _key(self, stage: int, augmenter: Augmenter | None, views: int) -> str:
        settings = [
            FEATURES_VERSION,
            self.images_key,
            self._weights_digest(stage),
            self.network.stage_names[: stage + 1],
            repr(self.network),
            self.network_node,
            self.preprocessing.to_dict(),
            self.precision if self.calibration is None else ["int8", *self._calibrating_keys()],
            [views, augmenter.seed, repr(augmenter.transforms), self.transforms] if augmenter else None,
            *filter(None, [code_digest((*self.network.modules(), *(augmenter.transforms if augmenter else ())))]),
        ]
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def _weights_digest(self, stage: int) -> str:
        text = hashlib.sha256()
        for name, value in self.network.state_between(0, stage).items():
            text.update(name.encode())
            text.update(value.detach().contiguous().cpu().numpy().tobytes())
        return text.hexdigest()

    def _open(self, folder: Path, n_rows: int, stage: int) -> _Opened:
        """The files of a store; an incomplete one starts anew."""
        path, marks = folder / "features.npy", folder / "done.npy"
        if marks.is_file() and path.is_file():
            try:
                # Opened for writing, numpy would fill up a file that is too short; opened for reading it refuses it.
                np.load(path, mmap_mode="r")
                store, done = np.load(path, mmap_mode="r+"), np.load(marks)
            except (ValueError, EOFError) as error:
                log.warning("The feature store %s is damaged (%s) and is recomputed.", folder, error)
            else:
                if len(store) == len(done) == n_rows:
                    return _Opened(folder, store, done)
                log.warning("The feature store %s has the wrong size and is recomputed.", folder)
        marks.unlink(missing_ok=True)
        (folder / _UNFINISHED).unlink(missing_ok=True)
        shape = (n_rows, *self._engine(stage).output_shape(self.preprocessing.decode_spec.image_shape))
        size = 4 * math.prod(shape)
        try:
            with path.open("w+b") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                # Taken now: on a full disk this is an error, where touching a mapped page would kill the process.
                reserve(file, file.tell() + size)
            opened = _Opened(folder, np.load(path, mmap_mode="r+"), np.zeros(n_rows, bool))
            opened.mark()
        except OSError as error:
            path.unlink(missing_ok=True)
            raise RaylightError(
                f"The frozen layers' outputs need {size:,} bytes in {folder}: {error.strerror}. Make room, keep them elsewhere "
                "with finetune.cache_dir=FOLDER, take fewer augmented views per image (finetune.views=N), or compute them at "
                "each step with finetune.cache=false"
            ) from error
        return opened

    def _compute(
        self,
        opened: _Opened,
        images: Samples,
        missing: Int64[np.ndarray, " missing"],
        stage: int,
        augmenter: Augmenter | None,
        views: int,
    ) -> None:
        engine = self._engine(stage)
        begin, computed = time.perf_counter(), 0
        for block, pixels, positions in images.blocks(missing, _BLOCK):
            rows = (images.rows[block][:, None] * views + np.arange(views)).ravel()
            if augmenter:
                made = _Views(pixels, positions, [images.keys[i] for i in block], augmenter, views)
                engine.run_into(opened.values, rows, made, np.arange(len(rows)))
            else:
                engine.run_into(opened.values, rows, pixels, positions)
            opened.done[rows] = True
            opened.values.flush()  # type: ignore[attr-defined]  # a memory map
            opened.mark()
            computed += len(block)
            self.on_progress(computed, len(missing))
        seconds = time.perf_counter() - begin
        log.info(
            "Computed the frozen layers below %s for %d images%s%s, once: %.1f s (%.0f images/s)",
            self.network.stage_names[stage],
            len(missing),
            f" in {views} views" if views > 1 else "",
            " in int8" if self.calibration is not None else "",
            seconds,
            len(missing) * views / max(seconds, 1e-9),
        )

    def _engine(self, stage: int) -> InferenceEngine:
        """The engine of the stages below a stage; a new one where they have been trained since, since it copies the weights."""
        weights = self._weights_digest(stage)
        if self._engines.get(stage, ("",))[0] != weights:
            precision = self.precision if self.calibration is None else self._measured_int8(self.calibration)
            engine = InferenceEngine(
                self.network, 0, stage, self.preprocessing, precision=precision, threads=self.threads
            )
            self._engines[stage] = weights, engine
        return self._engines[stage][1]

    def _calibrating_keys(self) -> list[str]:
        assert self.calibration is not None
        return [self.calibration.keys[i] for i in sampled_positions(len(self.calibration), CALIBRATION_IMAGES)]

    def _measured_int8(self, images: Samples) -> Int8:
        chosen = sampled_positions(len(images), CALIBRATION_IMAGES)
        pixels = np.concatenate([store[rows] for _, store, rows in images.blocks(chosen)])
        found = Int8.measured_on(self.network, self.preprocessing, pixels)
        if not found.ranges:
            raise ConfigError(
                [
                    "finetune.features_precision: int8, but the network doesn't begin with a convolution that int8 has; use "
                    "finetune.features_precision=auto"
                ]
            )
        return found


def _silent(done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, eq=False)
class _Views:
    """Augmented views of images, image by image, made where they are read: in the threads that compute their features.

    Each thread has transforms of its own, since a user's need not be safe in several.
    """

    pixels: UInt8[np.ndarray, "row height width 3"]
    positions: Int64[np.ndarray, " image"]
    keys: Sequence[str]
    augmenter: Augmenter
    views: int
    _own: threading.local = field(default_factory=threading.local)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.positions) * self.views, *self.pixels.shape[1:])

    def __getitem__(self, rows: Any) -> UInt8[np.ndarray, "..."]:
        return self._view(rows) if np.ndim(rows) == 0 else np.stack([self._view(row) for row in rows])

    def _view(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        if not hasattr(self._own, "augmenter"):
            self._own.augmenter = copy.deepcopy(self.augmenter)
        image, view = divmod(int(row), self.views)
        picture = torch.from_numpy(np.array(self.pixels[self.positions[image]])).permute(2, 0, 1)
        augmented: Tensor = self._own.augmenter(picture, self.keys[image], view)
        return augmented.permute(1, 2, 0).numpy()
