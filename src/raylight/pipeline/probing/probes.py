"""Networks as probes on one set of images: decoded once per preprocessing, with cached features."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytorch_lightning as pl
from jaxtyping import Bool, Float, Int64

from raylight.config.rules.recipe import recipe_of
from raylight.config.schema import RunConfig
from raylight.cpu.settings import choose_settings
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.data.samples import Samples
from raylight.data.splits.split import linked_groups
from raylight.machine import keep_freed_memory
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.pipeline.images import Images, decoded, indexed
from raylight.pipeline.learner import feature_store, restored_processor
from raylight.process import use_torch_threads
from raylight.runs.console import progress_bar
from raylight.runs.run_dir import RunDir
from raylight.training import features
from raylight.training.features import FeatureStore
from raylight.training.phases import plan_phases
from raylight.training.probe import head_inputs

TIMED = 32
"""Images that a network's speed is measured on."""


@dataclass(frozen=True, eq=False)
class ProbedImages:
    """Some images of a data set, preprocessed for each of several networks.

    Attributes:
        part: their index.
        groups: group number of each, for patients and near-duplicates.
        shown: for each network, the decoded images of the whole data set.
    """

    part: Index
    groups: Int64[np.ndarray, " image"]
    shown: tuple[Images, ...]

    @property
    def targets(self) -> Int64[np.ndarray, " image"]:
        """Class number of each image."""
        return self.part.targets()


@dataclass(frozen=True, eq=False)
class Probe:
    """A network whose head is solved on features of frozen layers.

    Attributes:
        network: all of it.
        stage: position of the stage that the features enter.
        samples: its decoded images.
        store: the cache of their features.
    """

    network: StagedNetwork
    stage: int
    samples: Samples
    store: FeatureStore

    def features(self, chosen: Int64[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen feature"]:
        """The inputs of the linear head for some images, computed if they aren't cached.

        Args:
            chosen: their positions.
        """
        some = self.samples.at(chosen)
        return head_inputs(self.network, self.store.features(some, self.stage, None), self.stage)

    def images_per_second(self) -> float:
        """Measure the speed of the frozen layers on this machine."""
        return self.store.images_per_second(self.samples, self.stage, TIMED)

    @property
    def parameters(self) -> int:
        """Number of parameters of all layers."""
        return sum(parameter.numel() for parameter in self.network.parameters())


@contextmanager
def probed_images(configs: Sequence[RunConfig], *, with_test: bool) -> Iterator[ProbedImages]:
    """Find, split and decode the images for several configs that differ in the model alone.

    Inside the context, torch uses the processor as in a run.

    Args:
        configs: one for each network.
        with_test: include the test images.

    Raises:
        RaylightError: the images can't be used.
    """
    first = configs[0]
    cache_dir = Path(first.cache_dir).expanduser()
    with (
        TemporaryDirectory(prefix="raylight-probe-") as folder,
        restored_processor(first.trainer.accelerator),
        _silenced(features.__name__),
    ):
        keep_freed_memory()
        run = RunDir(Path(folder))
        index = indexed(first, cache_dir)
        preprocessing = [Preprocessing.from_config(config.model) for config in configs]
        sources: dict[DecodeSpec, Images] = {}
        for config, steps in zip(configs, preprocessing, strict=True):
            if steps.decode_spec not in sources:
                sources[steps.decode_spec] = decoded(config, run, index, cache_dir)
                index = sources[steps.decode_spec].index  # without the files that can't be decoded
        wanted: Bool[np.ndarray, " file"] = index.column("status") == "ok"
        if not with_test:
            wanted &= index.column("split") != "test"
        part = index.select(wanted)
        groups = linked_groups(part, first.data.group_duplicates)
        shown = (Images(index, sources[steps.decode_spec].source, steps) for steps in preprocessing)
        yield ProbedImages(part, groups, tuple(shown))


@contextmanager
def _silenced(*modules: str) -> Iterator[None]:
    """Silence the log messages of modules, which would repeat for each network."""
    loggers = [logging.getLogger(name) for name in modules]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def probe_of(config: RunConfig, images: ProbedImages, number: int, on_progress: Callable[[int, int], None]) -> Probe:
    """Build a network for its features.

    Args:
        config: with ``finetune=probe``.
        images: for the probe.
        number: position of the network among the configs of ``images``.
        on_progress: called with the number of images whose features are done.

    Raises:
        WeightsError: the weights are missing.
        ConfigError: the network has no linear head on layers that run in sequence.
    """
    shown = images.shown[number]
    pl.seed_everything(config.seed, verbose=False)
    network = build_network(config.model, len(shown.index.class_names))
    (phase,) = plan_phases(network, recipe_of(config), 1, config.model.last_blocks_from)
    settings = choose_settings(config.trainer)
    use_torch_threads(settings.threads)
    cache_dir = Path(config.cache_dir).expanduser()
    store = feature_store(config, shown, network, settings, cache_dir, on_progress)
    return Probe(network, phase.input_stage, shown.source.samples(images.part), store)


def features_of_all(config: RunConfig, *, with_test: bool) -> tuple[ProbedImages, Float[np.ndarray, "image feature"]]:
    """Compute the features of all images for a probe, with a progress bar.

    Args:
        config: with ``finetune=probe``.
        with_test: whether the test images are among them.

    Raises:
        RaylightError: the images or the network can't be used.
    """
    with (
        probed_images([config], with_test=with_test) as images,
        progress_bar("features", config.trainer.progress) as on_progress,
    ):
        return images, probe_of(config, images, 0, on_progress).features(np.arange(len(images.part)))
