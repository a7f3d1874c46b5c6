"""What a training consists of: the network, processor settings, batches and cached features."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from raylight.config.quoting import as_yaml
from raylight.config.rules.nodes import network_node
from raylight.config.rules.recipe import planned_epochs, recipe_of, with_epochs, with_length
from raylight.config.schema import RunConfig
from raylight.cpu.settings import CpuSettings, Work, choose_settings, measured_settings
from raylight.data.augment import build_augmenter
from raylight.data.batches import Batches, Batching
from raylight.data.mixing import Mixer
from raylight.data.samples import Samples
from raylight.errors import ConfigError
from raylight.evaluation.bootstrap import sampled_positions
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.differences.feature_heads import FOLDS, heads_on_features
from raylight.evaluation.differences.non_inferiority import non_inferiority, refusal
from raylight.evaluation.predictions import group_numbers
from raylight.machine import keep_freed_memory
from raylight.models.build import build_network, class_logits
from raylight.models.freezing import freeze
from raylight.models.leave_one_out import leave_one_out
from raylight.models.stages import StagedNetwork
from raylight.models.weights import load_saved
from raylight.pipeline.images import Images
from raylight.process import environment, flushed_denormals, torch_threads, use_torch_threads
from raylight.runs.environment import environment as machine_facts
from raylight.runs.run_dir import RunDir
from raylight.training.callbacks.checkpoints import network_state
from raylight.training.features import FeatureStore
from raylight.training.loaders import EpochLoaders, FeatureSources, Sampling
from raylight.training.losses import build_loss
from raylight.training.module import Classifier, Task
from raylight.training.optimization import Optimization
from raylight.training.phases import Phase, TrainingPlan, describe_phases, describe_views, plan_phases
from raylight.training.probe import head_inputs, solve_head

log = logging.getLogger("raylight")

MOST_LEFT_OUT = 5000
"""Maximum number of images that are left out in turn to judge the head."""

MOST_WRONG = 10
"""Number of images that a linear head may be wrong on without more being trained (``experiments/recipes``)."""

INT8_FEATURES = "int8_features.json"
"""The certificates of features in int8, in the run folder."""


@dataclass(frozen=True)
class Learner:
    """All that training needs, and judging after it.

    Attributes:
        network: in its start state; training changes it.
        classifier: trains it.
        settings: how the processor is used.
        phases: which stages train when.
        store: features of frozen stages, as the network computes them where it is deployed.
        learnt: those of the training images; in int8 if ``finetune.features_precision`` says so.
        loaders: batches of train and val.
        config: the run's settings, without the phases that its images don't need.
        chosen: the whole config, with what was chosen for this machine.
    """

    network: StagedNetwork
    classifier: Classifier
    settings: CpuSettings
    phases: tuple[Phase, ...]
    store: FeatureStore
    learnt: FeatureStore
    loaders: EpochLoaders
    config: RunConfig
    chosen: dict[str, Any]


@contextmanager
def restored_processor(accelerator: str) -> Iterator[None]:
    """Leave torch's number of threads and its treatment of denormal numbers as they are for the next job of a sweep.

    A training on the processor sees no GPU meanwhile: torch's builds for GPUs ask for a driver at each optimizer step, a tenth
    of what a small head's whole step takes.
    """
    with torch_threads(), flushed_denormals(), environment(CUDA_VISIBLE_DEVICES="" if accelerator == "cpu" else None):
        yield


def build_learner(
    config: RunConfig,
    run: RunDir,
    images: Images,
    cache_dir: Path,
    last: Path | None,
    on_progress: Callable[[int, int], None],
) -> Learner:
    """Seed everything, build the network and choose the processor's settings, which go into the run's ``config.yaml``.

    Args:
        config: the run's settings; they aren't changed.
        run: gets ``config.yaml`` and ``environment.json``.
        images: to train on.
        cache_dir: where features and measured settings are kept.
        last: the checkpoint to resume from, which replaces ``model.weights``; None starts from the beginning.
        on_progress: called with the number of images whose features are done.

    Raises:
        WeightsError: the network's weights are missing.
        ConfigError: the recipe doesn't fit the network, or int8 its features.
    """
    keep_freed_memory()
    pl.seed_everything(config.seed, verbose=False)
    names = images.index.class_names
    network = build_network(config.model if last is None else replace(config.model, weights=None), len(names))
    if last is not None:
        load_saved(network, network_state(last), str(last))
    config = suited(config, images, network, cache_dir, on_progress)
    phases = _phases(config, network)
    settings = _cpu_settings(config, network, images, phases, cache_dir)
    use_torch_threads(settings.threads)
    chosen = asdict(_with_choices(config, settings))
    run.write_text("config.yaml", as_yaml(chosen))
    run.write_json("environment.json", machine_facts())
    log.info(
        "%s: %.2f M parameters; precision %s (%s)",
        config.model.name,
        sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        settings,
        settings.reason,
    )
    train_images = images.of("train")
    log.info(
        "Recipe %s: %s, %d training images: %s. finetune=NAME takes another.",
        config.finetune.name,
        "random weights" if config.model.weights is None else "pretrained",
        len(train_images),
        describe_phases(phases, network.stage_names, network.head_start),
    )
    mixer = Mixer(config.augment, len(names), config.seed)
    weights, positive = _class_weights(config, train_images, len(names)), names.index(images.index.positive_class)
    plan = TrainingPlan(
        phases=phases,
        optimization=Optimization(config.optimizer, config.scheduler, per_phase=len(phases) > 1),
        loss=build_loss(config.loss, len(names), weights, soft=bool(mixer)),
        mixer=mixer,
    )
    task = Task(len(names), positive, OwnMetrics(config.metrics, len(names), positive))
    classifier = Classifier(network, images.preprocessing, plan, task, settings.channels_last, config.seed)
    store = feature_store(config, images, network, settings, cache_dir, on_progress)
    learnt = store
    if config.finetune.features_precision == "int8":
        learnt = store.in_int8(train_images)
        if last is None:  # a resumed run was certified when it began
            run.write_json(INT8_FEATURES, certificates_of_int8(images, phases, store, learnt))
    augmenter = build_augmenter(config.augment.transforms, config.seed)
    if augmenter and (line := describe_views(phases)):
        log.info("%s", line)
    loaders = EpochLoaders(
        train=train_images,
        val=images.of("val"),
        phases=phases,
        features=FeatureSources(learnt.features, store.features),
        augmenter=augmenter,
        sampling=Sampling(
            batch_size=config.trainer.batch_size,
            seed=config.seed,
            limit=config.trainer.limit_batches,
            weighted=config.data.sampler == "weighted",
            groups=images.linked("train", config.data.group_duplicates) if any(p.solve for p in phases) else None,
        ),
    )
    return Learner(network, classifier, settings, phases, store, learnt, loaders, config, chosen)


def suited(
    config: RunConfig, images: Images, network: StagedNetwork, cache_dir: Path, on_progress: Callable[[int, int], None]
) -> RunConfig:
    """Fill in phases and number of epochs by how well a linear head tells the training images apart (``finetune.enough``).

    Args:
        config: of the run.
        images: those of training are predicted, each by a head that was fitted without it and its group.
        network: in its start state.
        cache_dir: of features.
        on_progress: called with the number of images whose features are done.

    Returns:
        The config with ``trainer.max_epochs`` and the phases that train, and without ``finetune.enough``.
    """
    planned = with_epochs(config, sum(len(images.index.in_split(split)) for split in ("train", "val", "test")))
    finetune = config.finetune
    decided = replace(planned, finetune=replace(finetune, enough=None, otherwise=[]))
    if finetune.enough is None or not _phases(planned, network)[0].solve:
        return decided
    head_alone = replace(
        decided,
        finetune=replace(decided.finetune, phases=[replace(finetune.phases[0], epochs=None, share=None)]),
        trainer=replace(decided.trainer, max_epochs=1),
        scheduler=with_length(config.scheduler, None, 1),
    )
    store = feature_store(config, images, network, choose_settings(config.trainer), cache_dir, on_progress)
    train, groups = images.of("train"), group_numbers(images.index.in_split("train").column("group"))
    chosen = sampled_positions(len(train), MOST_LEFT_OUT)
    some = train.at(chosen)
    stage, n_classes = _phases(head_alone, network)[0].input_stage, len(images.index.class_names)
    features = head_inputs(network, store.features(some, stage, None), stage)
    linked = None if groups is None else groups[chosen]
    wrong = int((~leave_one_out(features, some.targets, n_classes, linked).right(some.targets)).sum())
    most = max(MOST_WRONG, int((1 - finetune.enough) * len(some) + 1e-9))
    head_is_enough = wrong <= most or not finetune.otherwise
    log.info(
        "A linear head on %s's features is wrong on %d of %d images, each left out: %s.",
        *(config.model.name, wrong, len(some)),
        "enough to train the head alone" if head_is_enough else f"more than {most}, so more than the head is trained",
    )
    if not head_is_enough:
        return replace(decided, finetune=replace(decided.finetune, phases=finetune.otherwise))
    return head_alone if config.trainer.max_epochs is None else decided


def _phases(config: RunConfig, network: StagedNetwork) -> tuple[Phase, ...]:
    return plan_phases(network, recipe_of(config), planned_epochs(config), config.model.last_blocks_from)


def feature_store(
    config: RunConfig,
    images: Images,
    network: StagedNetwork,
    settings: CpuSettings,
    cache_dir: Path,
    on_progress: Callable[[int, int], None],
) -> FeatureStore:
    """The cache of frozen stages' outputs, shared by runs with the same stages and images.

    Args:
        config: may name another folder.
        images: that enter the network.
        network: its frozen stages.
        settings: of the processor.
        cache_dir: where features are kept unless ``finetune.cache_dir`` says otherwise.
        on_progress: called with the number of images whose features are done.
    """
    return FeatureStore(
        folder=Path(config.finetune.cache_dir or cache_dir).expanduser() / "features",
        images_key=images.key,
        network=network,
        preprocessing=images.preprocessing,
        precision=settings.inference_precision,
        threads=settings.threads,
        on_progress=on_progress,
        network_node=network_node(config.model),
        transforms=config.augment.transforms,
    )


def certificates_of_int8(
    images: Images, phases: Sequence[Phase], store: FeatureStore, learnt: FeatureStore
) -> dict[str, Any]:
    """Test on the validation images whether heads lose accuracy by learning from int8 features; before any others are computed.

    Args:
        images: of the run.
        phases: whose features are tested.
        store: exact features, which heads are judged on, as after training.
        learnt: features in int8.

    Returns:
        The certificate of each stage whose inputs are cached.

    Raises:
        ConfigError: there are too few validation images, or a loss above one percentage point isn't excluded.
    """
    network, index, val = store.network, images.index.in_split("val"), images.of("val")
    setting, way_out = "finetune.features_precision", "use finetune.features_precision=auto"
    groups, n_classes = group_numbers(index.column("group")), len(images.index.class_names)
    fewest = int(np.bincount(val.targets, minlength=n_classes).min())
    if fewest < FOLDS:
        needed = f"{FOLDS} validation images of each class, and one has {fewest}; raise data.val_fraction, or {way_out}"
        raise ConfigError([f"{setting}: int8 needs {needed}"])
    all_right = np.ones(len(val), bool)
    if not (best := non_inferiority(all_right, all_right, groups)).shown:
        raise ConfigError([f"{setting}: {refusal(best, 'int8', way_out)}"])
    found = {}
    for stage in sorted({phase.input_stage for phase in phases} - {0}):
        exact, cheaper = (head_inputs(network, each.features(val, stage, None), stage) for each in (store, learnt))
        strength = solve_head(exact, val.targets, (exact[:0], val.targets[:0]), n_classes, groups=groups).strength
        certificate = heads_on_features(exact, cheaper, val.targets, groups, strength)
        if not certificate.shown:
            raise ConfigError([f"{setting}: {refusal(certificate, 'int8', way_out)}"])
        name = network.stage_names[stage]
        found[name] = certificate.as_json()
        log.info(
            "int8 below %s: on %d validation images heads that learn from it differ by %+.1f points, at worst %+.1f with "
            "95 %% confidence",
            *(name, certificate.n, 100 * certificate.difference, 100 * certificate.low),
        )
    return found


def _cpu_settings(
    config: RunConfig, network: StagedNetwork, images: Images, phases: tuple[Phase, ...], cache_dir: Path
) -> CpuSettings:
    """Choose by the processor's flags, or by timing if the longest phase trains from images for long enough."""
    by_flags = choose_settings(config.trainer)
    phase = max(phases, key=lambda phase: phase.epochs)
    on_gpu = config.trainer.accelerator == "gpu"
    if phase.input_stage or config.trainer.limit_batches is not None or on_gpu:
        return by_flags
    freeze(network, phase.boundary)
    batches = Batches(images.of("train"), Batching(config.trainer.batch_size))
    loss = build_loss(replace(config.loss, class_weights=None), len(images.index.class_names), None)
    batch = next(iter(batches))
    work = Work(
        network=network,
        boundary=phase.boundary,
        preprocessing=images.preprocessing,
        loss=lambda outputs, targets: loss(class_logits(outputs), targets),
        images=batch.inputs,
        targets=batch.targets,
        steps=len(batches) * phase.epochs,
    )
    return measured_settings(config.trainer, by_flags, work, cache_dir / "cpu_settings")


def _class_weights(config: RunConfig, train_images: Samples, n_classes: int) -> Any:
    if config.loss.class_weights is None:
        return None
    counts = np.bincount(train_images.targets, minlength=n_classes)
    return torch.tensor(len(train_images) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)


def _with_choices(config: RunConfig, settings: CpuSettings) -> RunConfig:
    """The config with the settings chosen for this machine, so that the run can be repeated."""
    trainer = replace(
        config.trainer,
        precision=settings.precision,
        channels_last=str(settings.channels_last).lower(),
        threads=settings.threads,
    )
    return replace(config, trainer=trainer)
