"""The names of all metrics: the single list that settings, training and tables use.

Leaves out their definitions (``evaluation.definitions.torchmetrics``) and intervals (``evaluation.metrics``).
"""

import re
from collections.abc import Mapping
from typing import Any


class _Labels(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name.replace("_", " ")


LABELS: Mapping[str, str] = _Labels(
    {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "precision": "precision",
        "recall": "recall",
        "specificity": "specificity",
        "f1": "F1",
        "auroc": "AUROC",
        "average_precision": "average precision",
        "mcc": "Matthews correlation",
        "ece": "calibration error",
        "brier": "Brier score",
    }
)
"""The metrics as reports write them, in the order of all tables; a user's own metric is written by its name."""

METRICS = tuple(LABELS)
"""The metrics as settings and files write them."""

CALIBRATION_BINS = 15
"""Bins of equal width of the expected calibration error (L1), torchmetrics' own default."""

LOWER_IS_BETTER = ("ece", "brier")
"""Metrics whose best value is 0."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def own_name_problem(name: str) -> str | None:
    """The problem of the name of a user's own metric; ``None`` if there is none."""
    if name in (*METRICS, "loss"):
        return f"metrics.{name}: there is a metric of that name; choose another"
    if not _NAME.fullmatch(name) or name.startswith("uncalibrated_"):
        return f"metrics.{name}: isn't a name for a metric; use small letters, digits and _, such as f2"
    return None


def better(metric: str, mode: str = "auto") -> str:
    """Whether a lower or a higher value of a metric is better.

    Args:
        metric: such as ``val/loss``; ``auto`` knows the loss and all of ``METRICS``.
        mode: of the settings (``trainer.monitor_mode``): ``auto``, ``min`` or ``max``.

    Returns:
        ``min`` or ``max``.

    Example:
        >>> better("val/loss"), better("val/auroc"), better("val/mae", "min")
        ('min', 'max', 'min')
    """
    if mode != "auto":
        return mode
    return "min" if metric.rpartition("/")[2] in ("loss", *LOWER_IS_BETTER) else "max"


def reported(metrics: Mapping[str, Any], split: str = "test") -> list[str]:
    """Lists the metrics of a split in a ``metrics.json``.

    Args:
        metrics: the content of the file.
        split: ``val`` or ``test``.

    Returns:
        Names in the order of ``METRICS``; the user's own last.

    Example:
        >>> reported({"test/f2": {}, "test/accuracy": {}, "test/uncalibrated_ece": {}, "val/f1": {}})
        ['accuracy', 'f2']
    """
    names = [key.partition("/")[2] for key in metrics if key.startswith(f"{split}/")]
    own = [name for name in names if name not in METRICS and not name.startswith("uncalibrated_")]
    return [*(name for name in METRICS if name in names), *own]
