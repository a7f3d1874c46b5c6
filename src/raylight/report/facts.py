"""The contents of a run's folder, for its pages: ``report.html`` and ``model_card.md``.

Each file is read when it is first needed, so that a broken one affects only what depends on it. Leaves out how they are
shown, and the pictures.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int
from safetensors import safe_open

from raylight.config.resume import saved_config
from raylight.config.rules.metric_names import LABELS, reported
from raylight.config.schema import RunConfig
from raylight.data.index import Index
from raylight.evaluation.bootstrap import n_units
from raylight.evaluation.predictions import UNKNOWN, Predictions, read_csv
from raylight.evaluation.sample_size import resolution
from raylight.installation import TRAIN
from raylight.models.preprocessing import Preprocessing
from raylight.report.results import read_history
from raylight.runs.looks import looks
from raylight.runs.run_dir import RunDir

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Measured:
    """A metric as in ``metrics.json``.

    Attributes:
        name: as in ``metrics.json``, without the split.
        label: for display.
        value: None where it isn't defined, as are the bounds.
        low: lower bound of its 95 % interval.
        high: upper bound.
        n: images that it is based on.
        caveat: why the interval's coverage may not be 95 %, a key of ``CAVEATS``; None for no caveat.
    """

    name: str
    label: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    caveat: str | None = None

    @property
    def words(self) -> str:
        """Value and interval, such as ``0.950 (0.863 to 0.983)``."""
        if self.value is None or self.low is None or self.high is None:
            return "not defined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class RunFacts:
    """A run folder, read lazily.

    Attributes:
        run: the folder; reading a missing or broken file raises RunError, OSError or ValueError.
    """

    run: RunDir

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The config as written, nested."""
        from omegaconf import OmegaConf

        settings = OmegaConf.to_container(OmegaConf.load(self.run / "config.yaml"), resolve=True)
        assert isinstance(settings, dict)
        return {str(key): value for key, value in settings.items()}

    @cached_property
    def config(self) -> RunConfig:
        """The typed settings; paths in them needn't exist any more."""
        return saved_config(self.run / "config.yaml")

    @cached_property
    def overrides(self) -> list[str] | None:
        """Arguments typed after ``train.py``; None where they weren't recorded."""
        return list(self.run.read_json("overrides.json")) if (self.run / "overrides.json").is_file() else None

    @cached_property
    def command(self) -> str:
        """The command that repeats the run."""
        import shlex

        return f"{TRAIN} --config-path {shlex.quote(str(self.run.path.resolve()))} --config-name config"

    @cached_property
    def title(self) -> str:
        """Model and data, for headings."""
        return f"{self.config.model.name} on {self.config.data.name}"

    @cached_property
    def status(self) -> Mapping[str, Any]:
        """``status.json``."""
        status: Mapping[str, Any] = self.run.read_json("status.json")
        return status

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """``environment.json``."""
        environment: Mapping[str, Any] = self.run.read_json("environment.json")
        return environment

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """``metrics.json``."""
        metrics: Mapping[str, Any] = self.run.read_json("metrics.json")
        return metrics

    def measured(self, split: str = "test") -> dict[str, Measured]:
        """The metrics of a split, by name, in the order of every table; those that it lacks are left out."""
        return measured_metrics(self.metrics, split)

    @cached_property
    def resolution(self) -> str:
        """What the number of test images can show, in a sentence."""
        groups = self.test.labelled().groups
        units = n_units(groups, len(self.test))
        accuracy = self.right / len(self.test)
        return resolution(units, accuracy).sentence("images" if groups is None else "groups of images")

    @cached_property
    def decision(self) -> Mapping[str, Any]:
        """How the threshold was chosen on validation; empty where there was none."""
        decision: Mapping[str, Any] = self.metrics["decision"] or {}
        return decision

    @property
    def threshold(self) -> float | None:
        """On the positive class's probability; None takes the most probable class."""
        return None if self.input["threshold"] is None else float(self.input["threshold"])

    @property
    def temperature(self) -> float:
        """Temperature of the calibrated probabilities; 1 without calibration."""
        return float(self.input["temperature"])

    @property
    def looks(self) -> int:
        """Number of evaluations on the test images."""
        return looks(self.run)

    @cached_property
    def chosen(self) -> Mapping[str, Any]:
        """How the checkpoint was chosen, and the files that it was tested on."""
        chosen: Mapping[str, Any] = self.metrics["provenance"]
        return chosen

    @cached_property
    def cost(self) -> Mapping[str, Any]:
        """Seconds by stage, memory and so on."""
        cost: Mapping[str, Any] = self.metrics["cost"]
        return cost

    @property
    def images_per_second(self) -> float | None:
        """Training images per second of the epochs, validation included; None without recorded times."""
        seconds = sum(row.get("seconds", 0.0) for row in self.history)
        return self.total("train") * len(self.history) / seconds if seconds else None

    @cached_property
    def index(self) -> Index:
        """The table of files."""
        return Index.read(self.run / "index.parquet")

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """A row per epoch."""
        return read_history(self.run)

    @cached_property
    def input(self) -> Mapping[str, Any]:
        """``preprocessing.json``."""
        facts: Mapping[str, Any] = self.run.read_json("preprocessing.json")
        return facts

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of images for the network."""
        return Preprocessing.from_dict(self.input)

    @cached_property
    def test(self) -> Predictions:
        """Calibrated predictions of the test images of known class."""
        test = read_csv(self.run / "predictions.csv", str(self.input["positive_class"])).subset("test")
        return test.where(test.labels != UNKNOWN)

    @cached_property
    def predicted(self) -> Int[np.ndarray, " image"]:
        """The predicted class of each test image."""
        return self.test.predicted(self.threshold)

    @cached_property
    def right(self) -> int:
        """Number of test images classified correctly."""
        return int((self.predicted == self.test.labels).sum())

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Usable images by class, then split; classes in the index's order."""
        counts = {name: dict.fromkeys(SPLITS, 0) for name in self.index.class_names}
        usable = self.index.usable()
        for label, split in zip(usable.column("label"), usable.column("split"), strict=True):
            if split in SPLITS:  # with data.limit some images are in no split
                counts[label][split] += 1
        return counts

    def total(self, split: str) -> int:
        """Usable images of a split."""
        return sum(row[split] for row in self.counts.values())

    @cached_property
    def shared_groups(self) -> set[str]:
        """Groups of which some images are in test and others in train or validation."""
        usable = self.index.usable()
        rows = list(zip(usable.column("group"), usable.column("split"), strict=True))
        tested = {group for group, split in rows if split == "test" and group is not None}
        return tested & {group for group, split in rows if split in ("train", "val")}

    @property
    def shared_with_training(self) -> list[Mapping[str, Any]]:
        """Test images whose patient or picture is in train or validation, too, each with path, partner, why and detail."""
        return list(self.metrics.get("leakage", {}).get("files", ()))

    @property
    def shortcuts_known(self) -> bool:
        """Whether the network was tested for shortcuts."""
        return (self.run / "shortcuts.json").is_file()

    @cached_property
    def audit(self) -> Mapping[str, Any] | None:
        """``audit.json`` of the data; None where the run has none."""
        path = self.run / "audit.json"
        if not path.is_file():
            return None
        audit: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
        return audit


def measured_metrics(metrics: Mapping[str, Any], split: str) -> dict[str, Measured]:
    """The metrics of a split in the order of every table; missing ones are left out.

    Args:
        metrics: content of a ``metrics.json``.
        split: prefix of their names, such as ``test``.

    Returns:
        The metrics by name.
    """
    found = {name: metrics.get(f"{split}/{name}") for name in reported(metrics, split)}
    return {
        name: Measured(name, LABELS[name], cell["value"], cell["low"], cell["high"], int(cell["n"]), cell.get("caveat"))
        for name, cell in found.items()
        if cell is not None
    }


def chosen_row(facts: RunFacts) -> dict[str, float]:
    """The history's row of the chosen epoch; empty where there is none."""
    rows = [row for row in facts.history if row["epoch"] == facts.chosen["selected_epoch"]]
    return rows[-1] if rows else {}


def parameters_of(run: RunDir) -> int | None:
    """Parameters of a run's network, from the header of its weights; None where there are no weights."""
    path = run / "model.safetensors"
    if not path.is_file():
        return None
    batch_norm_buffers = ("running_mean", "running_var", "num_batches_tracked")
    with safe_open(path, "numpy") as file:
        names = [name for name in file.keys() if name.rpartition(".")[2] not in batch_norm_buffers]  # noqa: SIM118
        return int(sum(math.prod(file.get_slice(name).get_shape()) for name in names))
