"""The stages of a run, in order; the one module of training that knows them all.

files, index, split, decode, cache, batches, model, training, metrics, run folder, report: each stage takes what the
one before returned. Heavy rooms are imported when their stage begins, so that a bad config fails in a moment.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from raylight.config.launch import load_config
from raylight.config.schema import RunConfig
from raylight.errors import ConfigError, DataError, RunError
from raylight.runs.run_dir import RunDir, Status, recorded, state_of
from raylight.runs.sweep_dir import OVERRIDES_FILE, earlier_run, unused

if TYPE_CHECKING:
    from raylight.data.batches import Samples
    from raylight.data.cache import ImageCache
    from raylight.data.index import Index
    from raylight.models.preprocessing import Preprocessing
    from raylight.report.predictions import Predictions
    from raylight.training.features import FeatureStore
    from raylight.training.trainer import FinishedTraining

log = logging.getLogger("raylight")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        exit_code: see ``train.py --help``.
        run: its folder.
        objective: the monitored validation metric at the chosen checkpoint, for sweepers; None when it failed.
    """

    exit_code: int
    run: Path
    objective: float | None


@dataclass
class Costs:
    """Seconds of each stage, for the report."""

    seconds: dict[str, float] = field(default_factory=dict)
    _begin: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on a stage."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._begin, 3)
        self._begin = now


def run_job(config: DictConfig) -> Outcome:
    """Run one Hydra job in its run folder; whatever happens is in ``status.json`` and ``train.log``.

    In a resumed sweep, a job that has finished before isn't run again, and one that was stopped goes on in its folder.
    The run folder's path is the last line printed.

    Raises:
        SystemExit: the job was interrupted, so that a sweep doesn't go on with the next one.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    _console_log()
    job = HydraConfig.get()
    folder, overrides = Path(job.runtime.output_dir), list(job.overrides.task)
    earlier = earlier_run(Path(config.resume), overrides) if config.resume else None
    state = state_of(earlier) if earlier else None
    if earlier is not None and state == "finished":
        log.info("%s has finished before; it isn't run again.", earlier.path)
        return Outcome(0, earlier.path, earlier.read_json("metrics.json")["provenance"]["selected_value"])
    if earlier is not None and state == "running":
        log.error("%s is still being trained by another process; it is left to that.", earlier.path)
        return Outcome(1, earlier.path, None)
    if job.mode == RunMode.MULTIRUN and config.logger.group is None:
        config.logger.group = folder.parent.name
    run = earlier or RunDir.claim(unused(folder) if config.resume else folder)
    config.resume = None
    objective: list[float] = []
    with recorded(run) as status:
        run.write_json(OVERRIDES_FILE, [text for text in overrides if not text.startswith("resume=")])
        if earlier is None:
            run.write_text("config.yaml", OmegaConf.to_yaml(config, resolve=True))
        else:
            config = cast("DictConfig", OmegaConf.load(run / "config.yaml"))
        objective.append(train(load_config(config), run, status))
    print(run.path, flush=True)  # noqa: T201 - the command's result
    if status.exit_code >= 128:
        raise SystemExit(status.exit_code)
    return Outcome(status.exit_code, run.path, objective[0] if objective else None)


def resume_run(path: Path) -> int:
    """Go on with an interrupted run where its last whole epoch ended, in the same folder.

    Args:
        path: the run folder.

    Returns:
        The exit code.

    Raises:
        RunError: it isn't a run folder, or the run still goes on.
        ConfigError: its data or weights have moved.
    """
    _console_log()
    run = RunDir.open(path)
    state = state_of(run)
    if state == "running":
        raise RunError(f"{path} is still being trained; wait for it, or stop it first.")
    if state == "finished":
        log.info("%s is finished already; there is nothing to resume.", path)
        return 0
    config = OmegaConf.load(run / "config.yaml")
    assert isinstance(config, DictConfig)
    settings = load_config(config)
    with recorded(run) as status:
        train(settings, run, status)
    print(run.path, flush=True)  # noqa: T201 - the command's result
    return status.exit_code


def train(config: RunConfig, run: RunDir, status: Status) -> float:
    """Everything from image files to a reported result.

    Args:
        config: checked settings.
        run: a claimed run folder.
        status: told which stage goes on.

    Returns:
        The monitored validation metric at the chosen checkpoint.

    Raises:
        RaylightError: the data, the weights or the training can't be used; the message says why.
    """
    costs = Costs()
    cache_dir = Path(config.cache_dir).expanduser()
    config.data.root = str(Path(config.data.root).expanduser().resolve()) if config.data.root else None

    status.enter("indexing")
    index = indexed(config, cache_dir)
    costs.lap("index")

    from raylight.models.preprocessing import Preprocessing

    preprocessing = Preprocessing.from_config(config.model)
    status.enter("decoding")
    index, cache = decoded(index, preprocessing, config, cache_dir)
    index.write(run / "index.parquet")
    _write_rejected(run, index)
    _check_sizes(config, index)
    costs.lap("decode")

    status.enter("building the model")
    import pytorch_lightning as pl
    import torch

    from raylight.models.build import build_network
    from raylight.runs.environment import environment
    from raylight.runs.machine import keep_freed_memory
    from raylight.training.cpu_settings import choose_settings

    threads_before = torch.get_num_threads()
    settings = choose_settings(config.trainer)
    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    pl.seed_everything(config.seed, verbose=False)
    _fix_choices(config, settings)
    run.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True))
    run.write_json("environment.json", environment())
    network = build_network(config.model, len(index.class_names))
    log.info(
        "%s: %.2f M parameters; precision %s, %s, %d threads (%s)",
        config.model.name,
        sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        settings.precision,
        "channels last" if settings.channels_last else "contiguous",
        settings.threads,
        settings.reason,
    )
    costs.lap("start-up")
    try:
        return _train_and_report(config, run, status, costs, index, cache, network, preprocessing, settings, cache_dir)
    finally:
        torch.set_num_threads(threads_before)


def indexed(config: RunConfig, cache_dir: Path) -> Index:
    """Find, index and split the images.

    Raises:
        DataError: there are none, too many are bad, or they can't be split as wanted.
    """
    from raylight.data.index import build_index, check_bad_fraction
    from raylight.data.source import find_images
    from raylight.data.split import assign_splits
    from raylight.runs.machine import usable_cpus

    source = find_images(config.data, cache_dir)
    index = build_index(source, cache_dir, config.decode.workers or usable_cpus())
    check_bad_fraction(index, config.data)
    seed = config.seed if config.data.split_seed is None else config.data.split_seed
    return assign_splits(index, config.data, seed)


def decoded(index: Index, preprocessing: Preprocessing, config: RunConfig, cache_dir: Path) -> tuple[Index, ImageCache]:
    """Decode what isn't in the cache yet; files that turn out bad are marked so in the index."""
    from raylight.data.cache import cached_images
    from raylight.data.index import check_bad_fraction

    with progress("decoding", config.trainer.progress) as on_progress:
        cache = cached_images(index, preprocessing.decode_spec, config.decode, config.ray, cache_dir, on_progress)
    if cache.rejected:
        index = index.reject(cache.rejected)
        check_bad_fraction(index, config.data)
    return index, cache


def samples_of(index: Index, cache: ImageCache, split: str) -> Samples:
    """The images of a split that isn't test."""
    if split == "test":
        raise ValueError("test samples need a FinishedTraining: see test_samples")
    return _samples(index, cache, split)


def test_samples(index: Index, cache: ImageCache, finished: FinishedTraining) -> Samples:
    """The test images, to be had only once training has ended."""
    from raylight.training.trainer import FinishedTraining

    if not isinstance(finished, FinishedTraining):
        raise TypeError("test images can be had only once training has ended")
    return _samples(index, cache, "test")


def _samples(index: Index, cache: ImageCache, split: str) -> Samples:
    import numpy as np

    from raylight.data.batches import Samples

    part = index.in_split(split)
    keys = tuple(part.column("sha256"))
    rows = np.array([cache.rows[key] for key in keys], dtype=np.int64)
    return Samples(cache.pixels, rows, part.targets(), keys)


def _train_and_report(
    config: RunConfig,
    run: RunDir,
    status: Status,
    costs: Costs,
    index: Index,
    cache: ImageCache,
    network: Any,
    preprocessing: Preprocessing,
    settings: Any,
    cache_dir: Path,
) -> float:
    import torch
    from hydra.utils import instantiate

    from raylight.data.augment import build_augmenter
    from raylight.runs.tracking import tracking
    from raylight.training.classifier import Classifier
    from raylight.training.features import FeatureStore
    from raylight.training.loaders import EpochLoaders
    from raylight.training.phases import phase_at, plan_phases
    from raylight.training.trainer import fit

    phases = plan_phases(network, config.finetune, config.trainer.max_epochs, config.model.last_blocks_from)
    train_images, val_images = samples_of(index, cache, "train"), samples_of(index, cache, "val")
    classifier = Classifier(
        network=network,
        preprocessing=preprocessing,
        phases=phases,
        optimizer=instantiate(config.optimizer),
        scheduler=_scheduler(config),
        loss=config.loss,
        class_weights=_class_weights(config, train_images, len(index.class_names)),
        n_classes=len(index.class_names),
        positive=index.class_names.index(index.positive_class),
        channels_last=settings.channels_last,
        seed=config.seed,
    )
    resolved = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(resolved, dict)
    tags = [config.data.name, config.model.name, config.finetune.name]
    with (
        tracking(config.logger, run.path, {str(key): value for key, value in resolved.items()}, tags) as tracker,
        progress("frozen layers", config.trainer.progress, closing_line=False) as on_progress,
    ):
        store = FeatureStore(
            folder=Path(config.finetune.cache_dir or cache_dir).expanduser() / "features",
            images_key=cache.folder.name,
            network=network,
            preprocessing=preprocessing,
            precision=settings.inference_precision,
            threads=settings.threads,
            views=config.finetune.views,
            on_progress=on_progress,
        )
        loaders = EpochLoaders(
            train=train_images,
            val=val_images,
            phases=phases,
            features=store.features,
            augmenter=build_augmenter(config.augment.transforms, config.seed),
            batch_size=config.trainer.batch_size,
            seed=config.seed,
            limit=config.trainer.limit_batches,
        )
        status.enter("training")
        last = run / "checkpoints" / "last.ckpt"
        resume_from = last if last.is_file() else None
        finished = fit(classifier, loaders, config.trainer, settings, run, tracker.lightning_logger(), resume_from)
        costs.lap("training")

        status.enter("testing")
        state = torch.load(finished.best_checkpoint, weights_only=True)["state_dict"]
        classifier.load_state_dict(state)
        _write_model(run, network)
        stage = phase_at(phases, finished.best_epoch).input_stage
        predictions = predict_run(index, cache, finished, network, preprocessing, settings, store, stage)
        costs.lap("testing")

        status.enter("reporting")
        from raylight.report.results import Selection, write_results
        from raylight.report.run_report import write_report
        from raylight.runs.machine import peak_memory_gb

        selection = Selection(finished.monitor, finished.monitor_value, finished.best_epoch, finished.epochs)
        cost = {
            "seconds": costs.seconds,
            "waiting_share": finished.waiting_share,
            "images": len(index),
            "peak_memory_gb": peak_memory_gb(),
        }
        results = write_results(config, run, predictions, preprocessing.to_dict(), selection, cost)
        if config.report.enabled:
            write_report(run, network)
        tracker.summary(results.summary)
        tracker.images(results.plots)
        if config.logger.artifacts:
            tracker.artifact(f"{run.path.name}-model", "model", [finished.best_checkpoint], ["best"])
            tracker.artifact(f"{run.path.name}-split", "split", [run / "index.parquet"], ["split"])
        for line in results.lines:
            log.info("%s", line)
    return finished.monitor_value


def predict_run(
    index: Index,
    cache: ImageCache,
    finished: FinishedTraining,
    network: Any,
    preprocessing: Preprocessing,
    settings: Any,
    store: FeatureStore,
    stage: int,
) -> Predictions:
    """Probabilities for the validation and test images by the chosen checkpoint, through the inference engine."""
    import numpy as np

    from raylight.models.build import class_probabilities
    from raylight.models.inference import InferenceEngine
    from raylight.report.predictions import Predictions

    engine = InferenceEngine(
        network, stage, None, preprocessing, precision=settings.inference_precision, threads=settings.threads
    )

    def outputs(images: Samples) -> np.ndarray:
        inputs = store.features(images, stage, None) if stage else images
        logits = np.empty((len(inputs), *engine.output_shape(inputs.store.shape[1:])), np.float32)
        engine.run_into(logits, np.arange(len(inputs)), inputs.store, inputs.rows)
        return logits

    parts = {"val": samples_of(index, cache, "val"), "test": test_samples(index, cache, finished)}
    tables = {split: index.in_split(split) for split in parts}
    logits = [outputs(images) for images in parts.values() if len(images)]
    groups = [group for table in tables.values() for group in table.column("group")]
    return Predictions(
        paths=[path for table in tables.values() for path in table.column("path")],
        splits=[split for split, table in tables.items() for _ in range(len(table))],
        labels=np.concatenate([table.targets() for table in tables.values()]),
        probabilities=class_probabilities(np.concatenate(logits)),
        class_names=index.class_names,
        positive_class=index.positive_class,
        groups=groups if any(group is not None for group in groups) else None,
    )


def _scheduler(config: RunConfig) -> Any:
    """Builds a phase's schedule; schedules with a length get the phase's, since each phase has one of its own."""
    if config.scheduler is None:
        return None
    from hydra.utils import instantiate

    lengths = [name for name in ("T_max", "epochs", "total_iters") if name in config.scheduler]
    several = len(config.finetune.phases) > 1

    def build(optimizer: Any, epochs: int) -> Any:
        return instantiate(config.scheduler)(optimizer, **(dict.fromkeys(lengths, epochs) if several else {}))

    return build


def _class_weights(config: RunConfig, train_images: Samples, n_classes: int) -> Any:
    if config.loss.class_weights is None:
        return None
    import numpy as np
    import torch

    counts = np.bincount(train_images.targets, minlength=n_classes)
    return torch.tensor(len(train_images) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)


def _fix_choices(config: RunConfig, settings: Any) -> None:
    """Write what was chosen for this machine into the config, so that repeating the run repeats it."""
    config.trainer.precision = settings.precision
    config.trainer.channels_last = str(settings.channels_last).lower()
    config.trainer.threads = settings.threads


def _write_model(run: RunDir, network: Any) -> None:
    from safetensors.torch import save

    from raylight.runs.run_dir import write_atomically

    state = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
    write_atomically(run / "model.safetensors", save(state))


def _write_rejected(run: RunDir, index: Index) -> None:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows(index.rejected())
    run.write_text("rejected.csv", text.getvalue())
    rejected = index.rejected()
    if rejected:
        log.warning("%d of %d files can't be used (rejected.csv):", len(rejected), len(index))
        for path, reason in rejected[:5]:
            log.warning("  %s: %s", path, reason)


def _check_sizes(config: RunConfig, index: Index) -> None:
    n_train = len(index.in_split("train"))
    if config.trainer.batch_size > n_train:
        raise ConfigError(
            [f"trainer.batch_size: {config.trainer.batch_size} is larger than the {n_train} training images"]
        )
    if config.model.head == "sigmoid" and len(index.class_names) != 2:
        raise ConfigError([f"model.head: sigmoid needs two classes, the data has {len(index.class_names)}"])
    if not len(index.in_split("test")):
        raise DataError("There are no test images; set data.test_fraction above 0 or ship a test folder.")


def _console_log() -> None:
    """Our messages on standard output, one line each; the libraries' chatter only when it warns."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def progress(label: str, mode: str, closing_line: bool = True) -> Any:
    """A progress bar on a terminal, a line at the end elsewhere; yields ``on_progress(done, total)``."""
    from raylight.runs.progress import progress_bar

    return progress_bar(label, mode, closing_line)
