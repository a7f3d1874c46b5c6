"""The images of a run: found, indexed, split, decoded and audited; those of test only once training has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from raylight.config.schema import RunConfig
from raylight.errors import ConfigError, DataError
from raylight.imports import imported_meanwhile
from raylight.installation import TRAIN
from raylight.runs.console import progress_bar
from raylight.runs.run_dir import RunDir
from raylight.storage.tables import csv_text

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64

    from raylight.data.cache import ImageCache
    from raylight.data.index import Index
    from raylight.data.samples import Samples
    from raylight.data.stream import Stream
    from raylight.models.preprocessing import Preprocessing
    from raylight.training.messages import FinishedTraining

log = logging.getLogger("raylight")

RAY_FROM = 20_000
"""Images from which ``decode.engine=auto`` starts Ray."""

_FIXED = ("sha256", "label", "group", "split", "status")
"""Columns of the index that mustn't change between the parts of a run."""


@dataclass(frozen=True)
class Images:
    """A data set, decoded, or decoded in each epoch from a stream.

    Attributes:
        index: every file with its class and split.
        source: the decoded pixels, or the stream of them.
        preprocessing: from files to pixels, and from pixels to the network's input.
    """

    index: Index
    source: ImageCache | Stream
    preprocessing: Preprocessing

    def of(self, split: str) -> Samples:
        """The images of ``train`` or ``val``."""
        if split == "test":
            raise ValueError("test images need a FinishedTraining: see of_test")
        return self._of(split)

    def of_test(self, finished: FinishedTraining) -> Samples:
        """The test images, available only once training has ended."""
        from raylight.training.messages import FinishedTraining

        if not isinstance(finished, FinishedTraining):
            raise TypeError("test images are available only once training has ended")
        return self._of("test")

    def linked(self, split: str, duplicates: bool) -> Int64[np.ndarray, " image"]:
        """The numbers of the groups of a split's images: of one patient or object, or (``duplicates``) of one picture."""
        from raylight.data.splits.split import linked_groups

        usable = self.index.usable()
        numbers: Int64[np.ndarray, " image"] = linked_groups(usable, duplicates)[usable.column("split") == split]
        return numbers

    @property
    def key(self) -> str:
        """Identifies the images and their rows; part of the keys of features computed from them."""
        return self.source.key

    def _of(self, split: str) -> Samples:
        return self.source.samples(self.index.in_split(split))


def indexed(config: RunConfig, cache_dir: Path) -> Index:
    """Find, index and split the images; those that are indexed for the first time are decoded in the same pass.

    Raises:
        DataError: there are none, too many are bad, or they can't be split as configured.
        ConfigError: the settings don't fit the number of images or classes.
    """
    from raylight.data.index import build_index, check_bad_fraction
    from raylight.data.scan.memory import Decoding
    from raylight.data.sources.source import describe_groups, find_images
    from raylight.data.splits.check import check_splits, share_problems
    from raylight.data.splits.split import assign_splits, split_size_warnings
    from raylight.data.splits.subgroups import subgroups_of
    from raylight.machine import usable_cpus

    source = find_images(config.data, cache_dir)
    if problems := list(share_problems(config.data, {file.split for file in source.files})):
        raise DataError("\n".join(problems))
    with _decoding(config) as on_progress:
        decoding = None
        if config.data.feed != "stream":
            from raylight.data.decode.blocks import Engine
            from raylight.models.preprocessing import Preprocessing

            engine = Engine(decode_engine(config, len(source.files)), config.decode.workers, config.ray)
            decoding = Decoding(Preprocessing.from_config(config.model).decode_spec, on_progress, engine)
        index = build_index(source, cache_dir, config.decode.workers or usable_cpus(), decoding=decoding)
    if (line := describe_groups(index.column("group"), config.data)) is not None:
        log.info("%s", line)
    check_bad_fraction(index, config.data)
    split = assign_splits(index, config.data, config.split_seed)
    check_splits(split, config.trainer.monitor)
    _check_sizes(config, split)
    subgroups_of(split.in_split("test"), config.report.subgroups)
    warnings = split_size_warnings(index, split, config.data)
    for line in warnings:
        log.warning("%s", line)
    log.info("%s", resolution_of(split))
    return replace(split, split_warnings=tuple(warnings))


@contextmanager
def _decoding(config: RunConfig) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of decoding; once it has begun, what training needs is imported beside it."""
    with ExitStack() as imports, progress_bar("decoding", config.trainer.progress) as shown:
        begun = False

        def on_progress(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                imports.enter_context(imported_meanwhile("raylight.pipeline.learner"))
                begun = True
            shown(done, total)

        yield on_progress


def resolution_of(index: Index) -> str:
    """What so many test images can show, in a sentence; of grouped images, each group counts once."""
    from raylight.evaluation.bootstrap import n_units
    from raylight.evaluation.predictions import group_numbers
    from raylight.evaluation.sample_size import resolution

    groups = index.in_split("test").column("group")
    n = n_units(group_numbers(groups), len(groups))
    return resolution(n).sentence("images" if n == len(groups) else "groups of images")


def decoded(config: RunConfig, run: RunDir, index: Index, cache_dir: Path) -> Images:
    """Decode images that are neither cached nor decoded when they were indexed, mark bad files in the index and write it.

    With ``data.feed=stream`` nothing is decoded yet; the index stays as it is.

    Raises:
        DataError: too many files are bad, or a resumed run's images, labels, groups, splits or classes have changed.
        ConfigError: the settings don't fit the number of images or classes.
    """
    from raylight.data.cache import cached_images
    from raylight.data.decode.blocks import Engine
    from raylight.data.index import check_bad_fraction
    from raylight.data.splits.check import check_splits
    from raylight.data.stream import Stream
    from raylight.models.preprocessing import Preprocessing

    preprocessing = Preprocessing.from_config(config.model)
    spec = preprocessing.decode_spec
    engine = Engine(decode_engine(config, len(index)), config.decode.workers, config.ray)
    source: ImageCache | Stream
    if config.data.feed == "stream":
        source = Stream(index, spec, engine, config.data.shuffle_buffer)
    else:
        with (
            imported_meanwhile("raylight.pipeline.learner"),
            progress_bar("decoding", config.trainer.progress) as on_progress,
        ):
            source = cached_images(index, spec, engine, cache_dir, on_progress)
        if source.rejected:
            index = index.reject(source.rejected)
            check_bad_fraction(index, config.data)
            check_splits(index, config.trainer.monitor)
    _check_unchanged(run, index)
    index.write(run / "index.parquet")
    _write_rejected(run, index)
    _check_sizes(config, index)
    return Images(index, source, preprocessing)


def decode_engine(config: RunConfig, images: int) -> str:
    """Choose the decoding engine: ``ray`` or ``threads``.

    Ray's start takes 10 seconds or more on two cores, in which threads decode thousands of images; from ``RAY_FROM`` on, Ray
    Data was as fast or faster there (``experiments/cluster``). Training processes that stream decode their own share, on
    threads.

    Args:
        config: of the run.
        images: number of files in the index.
    """
    if config.decode.engine != "auto":
        return config.decode.engine
    if config.data.feed == "stream" and config.trainer.launcher != "none":
        return "threads"
    return "ray" if config.ray.cluster != "local" or images >= RAY_FROM else "threads"


def streaming(config: RunConfig, images: Images) -> AbstractContextManager[bool | None]:
    """One Ray session for all epochs where Ray decodes images in each of them; nothing otherwise."""
    from raylight.data.stream import Stream

    if not isinstance(images.source, Stream) or images.source.engine.name != "ray":
        return nullcontext()
    from raylight.runs.ray_session import ray_session

    return ray_session(config.ray, config.decode.workers)


def audited(config: RunConfig, run: RunDir, index: Index, cache_dir: Path) -> None:
    """Audit the data before training, from the index alone, and log the findings."""
    from raylight.auditing.dataset import LOGGED_BY_RUN, audit_index, audit_lines

    audit = audit_index(index, config.data.name, cache_dir, cameras=False)
    run.write_json("audit.json", audit.as_json())
    for line in audit_lines(audit, brief=True, without=LOGGED_BY_RUN):
        log.info("%s", line)


def _write_rejected(run: RunDir, index: Index) -> None:
    from raylight.data.names import single_line

    rejected = index.rejected()
    reasons = [*rejected, *((item.path, f"ignored: {item.reason}") for item in index.ignored)]
    rows = [{"path": path, "reason": reason} for path, reason in reasons]
    run.write_text("rejected.csv", csv_text(rows, ("path", "reason")))
    if rejected:
        log.warning("%d of %d files can't be used (rejected.csv):", len(rejected), len(index))
        for path, reason in rejected[:5]:
            log.warning("  %s: %s", single_line(path), reason)
    if notes := index.notes():
        log.warning("%d files are unusual, but used (index.parquet, note):", len(notes))
        for path, note in notes[:5]:
            log.warning("  %s: %s", single_line(path), note)


def _check_unchanged(run: RunDir, index: Index) -> None:
    """Refuses to resume a run whose images, labels, groups, splits or classes have changed."""
    from raylight.data.index import Index
    from raylight.training.callbacks.checkpoints import LAST

    if not (run / "checkpoints" / LAST).is_file() or not (run / "index.parquet").is_file():
        return
    before = Index.read(run / "index.parquet")
    then, now = (
        {row["path"]: tuple(map(row.get, _FIXED)) for row in table.to_pylist()} for table in (before.table, index.table)
    )
    changed = sorted(path for path in then.keys() | now.keys() if then.get(path) != now.get(path))
    problems = []
    if changed:
        named = ", ".join(map(repr, changed[:3])) + (", ..." if len(changed) > 3 else "")
        problems.append(
            f"{len(changed)} of the images in {index.root}, or their labels, groups or splits, have changed since "
            f"{run.path} began ({named})."
        )
    for what, old, new in (
        ("classes", before.class_names, index.class_names),
        ("positive class", before.positive_class, index.positive_class),
    ):
        if old != new:
            problems.append(f"The {what} of {run.path}: {old!r} when it began, {new!r} now.")
    if problems:
        raise DataError(
            f"{' '.join(problems)} Continuing would mix two data sets: restore them, or start a new run: "
            f"{TRAIN} --config-path RUN --config-name config"
        )


def _check_sizes(config: RunConfig, index: Index) -> None:
    n_train = len(index.in_split("train"))
    if config.trainer.batch_size > n_train:
        raise ConfigError(
            [f"trainer.batch_size: {config.trainer.batch_size} is larger than the {n_train} training images"]
        )
    if config.model.head == "sigmoid" and len(index.class_names) != 2:
        raise ConfigError([f"model.head: sigmoid needs two classes, the data has {len(index.class_names)}"])
    if not len(index.in_split("test")):
        raise DataError("No test image can be used; repair them (rejected.csv), or provide others.")
