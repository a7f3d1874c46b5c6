"""Finds all problems of a config before any work starts.

Checks names, types, values and combinations without reading an image; the code that a config may name is checked in
``raylight.config.rules.targets``. What depends on the data (too few images, a missing class) is checked in ``data``.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylight.config.paths import default_root
from raylight.config.rules.decision_rule import parse_rule
from raylight.config.rules.metric_names import METRICS, better
from raylight.config.rules.names import name_problems
from raylight.config.rules.pretrained import fill, model_input
from raylight.config.rules.recipe import planned_epochs, recipe_of
from raylight.config.rules.shapes import height_width, size_text, smallest_image_size
from raylight.config.rules.targets import secret_problem, target_problems
from raylight.config.schema import DataConfig, Range, RunConfig
from raylight.config.uris import is_uri
from raylight.errors import ConfigError, did_you_mean, first_line
from raylight.installation import TRAIN
from raylight.machine import usable_cpus

MONITORED = ("loss", *METRICS)
"""Validation metrics that can choose a checkpoint."""


def known_keys(node: Any = RunConfig, prefix: str = "") -> Iterator[str]:
    """All dotted keys of the schema, including sections."""
    hints = get_type_hints(node)
    for setting in fields(node):
        key = prefix + setting.name
        yield key
        if is_dataclass(hints[setting.name]):
            yield from known_keys(hints[setting.name], key + ".")


def value_problem(key: str, value: Any) -> str | None:
    """The problem of a value at a dotted key, an unknown name or a wrong type; ``None`` if there is none."""
    keys = _known()
    if key not in keys:
        if inside_free_node(key):
            return None
        return f"{key}: there is no such setting{did_you_mean(key, sorted(keys))}"
    if isinstance(value, str) and "${" in value:
        return None
    hint = _hint_at(key)
    if is_dataclass(hint):
        return None if isinstance(value, Mapping | DictConfig) else f"{key}: is a section, not a value; set {key}.NAME"
    try:
        OmegaConf.update(_trial(), key, value)
    except OmegaConfBaseException:
        return f"{key}: {value!r} is not {_expected(hint)}"
    return None


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(known_keys())


@functools.cache
def _schema() -> Container:
    """The schema as a config; making it takes five times as long as copying it."""
    schema: Container = OmegaConf.structured(RunConfig)
    return schema


@functools.cache
def _trial() -> Container:
    """A config to try values on, one after the other."""
    return copy.deepcopy(_schema())


def load_config(config: DictConfig, *, weights_needed: bool = True) -> RunConfig:
    """Checks a composed config and converts it to typed settings.

    Args:
        config: composed by Hydra, or read from ``config.yaml``.
        weights_needed: whether the file of ``model.weights`` must exist; not for a run, which has its own checkpoint.

    Raises:
        ConfigError: with all problems, a sentence each, which begins with the dotted key.
    """
    written = OmegaConf.to_container(config, resolve=False)
    wrong = (value_problem(key, value) for key, value in _leaves(written))
    if problems := [*filter(None, wrong), *_secret_problems(written)]:
        raise ConfigError(problems)
    try:
        typed = completed(config)
        run = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(
            [f"{error.full_key}: {first_line(error)}" if error.full_key else first_line(error)]
        ) from error
    assert isinstance(run, RunConfig)
    if problems := [
        *_secret_problems(OmegaConf.to_container(typed, resolve=True)),
        *_limit_problems(typed),
        *_combination_problems(run),
        *_process_problems(run),
        *_path_problems(run, weights_needed=weights_needed),
        *name_problems(run),
        *target_problems(run),
    ]:
        raise ConfigError(problems)
    return run


def completed(config: DictConfig) -> DictConfig:
    """Adds the missing settings of the schema to a config, and the preprocessing that belongs to the weights.

    Raises:
        ConfigError: there is no such network.
        OmegaConfBaseException: a value has the wrong type.
    """
    typed = OmegaConf.merge(_schema(), config)
    assert isinstance(typed, DictConfig)
    fill(typed)
    return typed


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and not _is_free(prefix.rstrip(".")):
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}{name}.")
    elif prefix:
        yield prefix.rstrip("."), node


def _secret_problems(node: Any, key: str = "") -> list[str]:
    """Problems of all texts at any depth, including ``_target_`` nodes and lists."""
    if isinstance(node, Mapping):
        inner = [(f"{key}.{name}" if key else str(name), value) for name, value in node.items()]
    elif isinstance(node, list):
        inner = [(f"{key}[{position}]", value) for position, value in enumerate(node)]
    else:
        return [problem] if (problem := secret_problem(key, node)) else []
    return [problem for name, value in inner for problem in _secret_problems(value, name)]


_FREE = ("optimizer", "scheduler", "model.arguments", "loss.arguments", "metrics", "report.subgroups", "data.source")
"""Nodes whose arguments the schema doesn't list."""


def _is_free(key: str) -> bool:
    return key in (*_FREE, "model.normalize")


def inside_free_node(key: str) -> bool:
    """Whether a key lies in a node whose arguments the schema doesn't list: a ``_target_`` node or a phase."""
    return key.startswith((*(f"{node}." for node in _FREE), "augment.transforms", "finetune.phases"))


@functools.cache
def _hint_at(key: str) -> Any:
    node: Any = RunConfig
    for name in key.split("."):
        node = get_type_hints(node)[name]
    return node


def _expected(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if hint in names:
        return names[hint]
    if get_origin(hint) is list:
        return "a list"
    return " or ".join(_expected(part) for part in get_args(hint)) or "what the schema says"


@functools.cache
def _limits() -> dict[str, tuple[Any, ...]]:
    """The ranges and words beside the type of each setting in the schema, by dotted key."""
    found = {}
    for key in known_keys():
        section, _, name = key.rpartition(".")
        hint = get_type_hints(_hint_at(section) if section else RunConfig, include_extras=True)[name]
        found[key] = getattr(hint, "__metadata__", ())
    return found


def _limit_problems(typed: Container) -> Iterator[str]:
    for key, limits in _limits().items():
        value: Any = OmegaConf.select(typed, key) if limits else None
        for limit in limits if value is not None else ():
            if isinstance(limit, Range):
                numbers = value if isinstance(value, ListConfig) else [value]
                if not all(limit.low <= number <= limit.high for number in numbers):
                    yield f"{key}: {value} is outside {limit.low:g} to {limit.high:g}"
            elif str(value).lower() not in (allowed := get_args(limit)):
                yield f"{key}: {value!r} is not one of {', '.join(allowed)}{did_you_mean(str(value), allowed)}"


def _combination_problems(run: RunConfig) -> Iterator[str]:
    data, model, finetune, trainer = run.data, run.model, recipe_of(run), run.trainer
    if data.fold is not None and data.folds is None:
        yield f"data.fold: fold {data.fold} of how many? set data.folds, for example data.folds=5"
    if data.folds is not None and data.fold is None:
        yield f"data.fold: not set; choose one of 0 to {data.folds - 1}, or sweep them with -m data.fold=0,1,..."
    if data.folds is not None and data.fold is not None and data.fold >= data.folds:
        yield f"data.fold: {data.fold} is not below data.folds={data.folds}; folds count from 0"
    if data.val_fraction + data.test_fraction >= 1:
        yield (
            f"data.val_fraction: {data.val_fraction} + data.test_fraction {data.test_fraction} leave no image to train on"
        )
    if data.layout == "csv" and data.csv is None:
        yield "data.csv: not set, but data.layout=csv reads a table; set data.csv=PATH"
    if data.sampler == "weighted" and (run.loss.class_weights is not None or data.feed == "stream"):
        yield "data.sampler: weighted " + (
            "draws with replacement, which a stream can't; use data.feed=cache, or loss=balanced"
            if data.feed == "stream"
            else "and loss.class_weights both balance the classes; choose one"
        )
    if model.family == "convnet" and not model.channels:
        yield "model.channels: empty; a convnet needs at least one block, for example [32, 64]"
    smallest, shown = smallest_image_size(model), model_input(model)
    if min(height_width(shown.size)) < smallest:
        yield f"model.image_size: {size_text(shown.size)} is too small for {model.name}; it needs at least {smallest} pixels"
    if shown.resize == "pad" and shown.resize_size is not None:
        yield f"model.resize_size: {shown.resize_size}, but model.resize=pad resizes the longer side to the size; use null"
    elif shown.resize_size is not None and shown.resize_size < (cut := min(height_width(shown.size))):
        yield f"model.resize_size: {shown.resize_size} is less than the {cut} pixels (model.image_size) to crop"
    if finetune.requires_weights and model.weights is None:
        remedy = (
            "finetune=scratch"
            if model.family == "convnet"
            else f"{'' if model.family == 'own' else 'model.weights=DEFAULT or '}model.weights=PATH, or finetune=scratch"
        )
        yield (
            f"finetune: {finetune.name!r} freezes layers, but {model.name} starts from random weights (model.weights=null); "
            f"use {remedy}"
        )
    if model.family in ("convnet", "own") and model.weights == "DEFAULT":
        yield f"model.weights: there are no published weights for {model.name}; use null or the path of a state dict"
    if not finetune.phases:
        yield "finetune.phases: empty; at least one phase has to train something"
    for position, phase in enumerate(finetune.phases[:-1]):
        if phase.epochs is None:
            yield f"finetune.phases[{position}].epochs: not set; only the last phase may leave it open"
    fixed, epochs = sum(phase.epochs or 0 for phase in finetune.phases), planned_epochs(run)
    if trainer.max_epochs is None and finetune.samples is None:
        yield "trainer.max_epochs: null, but finetune.samples doesn't say how long training takes; give one of them"
    if finetune.phases and finetune.phases[-1].epochs is None and fixed >= epochs:
        yield f"trainer.max_epochs: {epochs} leaves no epoch for the last phase; the others take {fixed}"
    if finetune.phases and finetune.phases[-1].epochs is not None and fixed != epochs:
        yield f"trainer.max_epochs: {epochs}, but the phases of finetune add up to {fixed}"
    split, _, metric = trainer.monitor.partition("/")
    if split != "val" or metric not in (*MONITORED, *run.metrics):
        valid = [f"val/{name}" for name in MONITORED]
        yield (
            f"trainer.monitor: {trainer.monitor!r} can't choose a checkpoint; only validation may "
            f"(val/ and one of {', '.join([*MONITORED, *run.metrics])}){did_you_mean(trainer.monitor, valid)}"
        )
    elif metric in MONITORED and better(metric, trainer.monitor_mode) != better(metric):
        yield f"trainer.monitor_mode: {trainer.monitor_mode!r} would keep the worst {trainer.monitor}; use auto"
    elif metric not in MONITORED and trainer.monitor_mode == "auto":
        yield f"trainer.monitor_mode: auto can't tell whether a lower or a higher {trainer.monitor} is better; use min or max"
    if trainer.averaging != "none" and trainer.averaging_start >= epochs:
        yield (
            f"trainer.averaging_start: {trainer.averaging_start} leaves no epoch to average; "
            f"trainer.max_epochs={epochs} end with epoch {epochs - 1}"
        )
    try:
        parse_rule(run.decision.threshold)
    except ValueError as error:
        yield f"decision.threshold: {error}"


def _process_problems(run: RunConfig) -> Iterator[str]:
    """Problems of training processes that could never start, or would have nothing to do."""
    trainer, workers = run.trainer, run.trainer.num_workers
    if trainer.launcher == "none" and workers > 1:
        yield (
            f"trainer.num_workers: {workers}, but trainer={trainer.name} trains in one process; choose trainer=ddp (this "
            "machine) or trainer=ray (a cluster)"
        )
    if trainer.batch_size < workers:
        yield (
            f"trainer.batch_size: {trainer.batch_size} images per step leave some of trainer.num_workers={workers} processes "
            "without any; it needs at least one each"
        )
    if trainer.precision == "16" and trainer.accelerator == "cpu":
        yield "trainer.precision: '16' needs a GPU (trainer=gpu); on a processor use bf16, 32 or auto"
    elsewhere = trainer.launcher == "ray" and run.ray.cluster != "local"
    if workers > (cores := usable_cpus()) and trainer.accelerator == "cpu" and not elsewhere:
        yield (
            f"trainer.num_workers: {workers} processes on {cores} processor cores would wait for each other; use {cores} or "
            "fewer, or join a larger cluster with trainer=ray ray.address=HOST:PORT"
        )
    if run.data.feed == "stream" and run.trainer.launcher != "none" and run.decode.engine == "ray":
        yield (
            f"decode.engine: ray would need processors of its own beside those that trainer={run.trainer.name} trains on; "
            "with data.feed=stream each training process decodes its own share: decode=threads"
        )


def _path_problems(run: RunConfig, *, weights_needed: bool) -> Iterator[str]:
    yield from _root_problems(run.data)
    yield from _table_problems(run.data)
    weights = run.model.weights
    path = Path(str(weights)).expanduser()
    found = weights in (None, "DEFAULT") or path.is_file() or (path / "model.safetensors").is_file()
    if weights_needed and not found:
        what = (
            f"{weights!r} has neither a file {run.model.name}.pt (.pth, .safetensors) nor, as runs have, model.safetensors"
            if path.is_dir()
            else f"there is no file {weights!r}"
        )
        yield f"model.weights: {what}; give a path, a run folder, DEFAULT, or null for random weights"


def _table_problems(data: DataConfig) -> Iterator[str]:
    """Problems of a table that is neither in the working folder nor in the root; URIs are checked when they are read."""
    if data.csv is None or is_uri(data.csv) or Path(data.csv).expanduser().is_file():
        return
    root = data.root or default_root(data.name)
    if not is_uri(root) and not Path(root, data.csv).expanduser().is_file():
        yield f"data.csv: there is no file {data.csv!r}, neither here nor in data.root={root}"


def _root_problems(data: DataConfig) -> Iterator[str]:
    if data.root and is_uri(data.root) and (data.kind == "demo" or data.download):
        what = "draw the demo" if data.kind == "demo" else "download"
        yield f"data.root: {data.root!r} isn't a folder of this machine, the only place to {what} into"
        return
    if data.root and is_uri(data.root):
        user, at, _ = data.root.partition("://")[2].partition("/")[0].rpartition("@")
        if at and ":" in user:
            yield "data.root: holds a password; leave it out and give it through the environment (AWS_SECRET_ACCESS_KEY, ...)"
        return
    if data.kind == "demo" or data.download or data.source is not None:
        return
    root = Path(data.root or default_root(data.name))
    if root.expanduser().is_dir():
        return
    found = f"there is no folder {data.root!r}" if data.root else f"there are no images of {data.name!r} in {root}"
    origin = f" Get them from {data.homepage}." if data.homepage else ""
    fetch = " Or let Raylight fetch them with data.download=true." if data.archive_url or data.kaggle else ""
    yield (
        f"data.root: {found}.{origin}{fetch} Place them as ROOT/CLASS/*.jpg or ROOT/{{train,test}}/CLASS/*.jpg, set "
        f"data.root=ROOT, and try them with: {TRAIN} data={data.name} data.root=ROOT trainer=debug"
    )
