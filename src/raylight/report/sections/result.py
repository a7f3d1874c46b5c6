"""The sections on a run's training and result: metrics with intervals, curves, classes, images, shortcuts."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylight.config.rules.metric_names import LOWER_IS_BETTER, METRICS
from raylight.config.rules.recipe import recipe_of
from raylight.config.rules.shapes import height_width
from raylight.errors import RunError
from raylight.evaluation import intervals
from raylight.evaluation.caveats import CAVEATS
from raylight.evaluation.metrics import confusion_matrix
from raylight.report.facts import RunFacts, chosen_row
from raylight.report.images import (
    NEIGHBOURS_FILE,
    SAMPLE,
    Gallery,
    chart,
    jpeg,
)
from raylight.report.sections.data import ROWS
from raylight.report.subgroups import read_subgroups

log = logging.getLogger("raylight")

MANY_CLASSES = 12
"""Number of classes above which the confusion matrix is a figure, beside a list of the most frequent errors."""


CHART_WORDS = {
    "loss": "Loss by epoch. Where validation rises while train still falls, the network overfits.",
    "accuracy": "Accuracy by epoch, on training images as they were augmented and on validation images.",
    "learning_rate": "Learning rate by epoch.",
    "roc": "Recall against the false positive rate at each threshold. The diagonal is chance.",
    "precision_recall": "Precision against recall at each threshold. The dashed line is chance.",
    "reliability": "Predicted probability against observed frequency. On the diagonal, probabilities are calibrated.",
    "decision_curve": "Net benefit: true positives minus false positives weighted by the odds of the threshold probability. A "
    "model is useful where its curve lies above acting on all and on none.",
    "probabilities": "Predicted probabilities of the images of each class; where they overlap, the classes are confused.",
    "confusion_matrix": "Number of images by true class (rows) and predicted class (columns).",
}
"""Captions of the charts."""


def _charts(facts: RunFacts, names: tuple[str, ...], alts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The run's charts; an unreadable one is replaced by its error."""
    charts = []
    for name in names:
        path = facts.run / f"plots/{name}.png"
        if not path.is_file():
            continue
        try:
            uri, width, height = chart(path.read_bytes())
            charts.append({"uri": uri, "width": width, "height": height, "error": None})
        except (OSError, ValueError) as error:
            log.warning("The report's figure %s failed (%s: %s).", name, type(error).__name__, error)
            charts.append({"uri": "", "width": 0, "height": 0, "error": f"{type(error).__name__}: {error}"})
        charts[-1] |= {
            "name": name.replace("_", " "),
            "words": CHART_WORDS[name],
            "alt": alts.get(name, CHART_WORDS[name]),
        }
    return charts


def training(facts: RunFacts) -> dict[str, Any]:
    """Gather the curves of training and the chosen epoch."""
    history, row = facts.history, chosen_row(facts)
    if not history:
        raise RunError(f"{facts.run / 'history.csv'} is missing or empty")
    first, last = history[0], history[-1]
    alts = {
        name: f"{name.capitalize()} by epoch: "
        + ", ".join(
            f"{words} from {first[f'{split}/{name}']:.3f} to {last[f'{split}/{name}']:.3f}"
            for split, words in (("train", "training"), ("val", "validation"))
            if f"{split}/{name}" in first and f"{split}/{name}" in last
        )
        for name in ("loss", "accuracy")
    }
    gaps = [
        {"name": name, "train": row[f"train/{key}"], "val": row[f"val/{key}"]}
        for key, name in (("loss", "loss"), ("accuracy", "accuracy"), ("auroc", "AUROC"), ("f1", "F1"))
        if f"train/{key}" in row and f"val/{key}" in row
    ]
    rates = [row["learning_rate"] for row in history if "learning_rate" in row]
    return {
        "charts": _charts(facts, ("loss", "accuracy", "learning_rate"), alts),
        "gaps": gaps,
        "chosen": facts.chosen,
        "rates": (rates[0], min(rates), max(rates)) if rates else None,
        "phases": _phases(facts, history),
        "finetune": facts.config.finetune.name,
    }


def _phases(facts: RunFacts, history: Sequence[Mapping[str, float]]) -> list[str]:
    """Which layers trained for how many epochs; a solved head takes one."""
    parts = []
    for position, phase in enumerate(recipe_of(facts.config).phases):
        epochs = sum(row.get("phase", 0) == position for row in history)
        part = "all layers" if phase.train_from == "all" else phase.train_from.replace("_", " ")
        length = "solved" if phase.solve and epochs == 1 else f"for {epochs} epoch{'s' * (epochs != 1)}"
        parts += [f"{part} {length}"] if epochs else []
    return parts


def result(facts: RunFacts) -> dict[str, Any]:
    """Gather the test metrics, the decision and the figures."""
    test, measured = facts.test, facts.measured()
    auroc, precision = measured.get("auroc"), measured.get("average_precision")
    alts = {
        "roc": f"ROC curve with an area of {auroc.words}." if auroc else "ROC curve.",
        "precision_recall": f"Precision-recall curve, average precision {precision.words}." if precision else "Curve.",
        "reliability": f"Reliability diagram, calibration error {measured['ece'].words}." if "ece" in measured else "",
    }
    matrix = confusion_matrix(test, facts.threshold)
    few = len(matrix) <= MANY_CLASSES
    mistakes = sorted(
        ((int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j), key=lambda cell: (-cell[0], *cell[1:])
    )
    before = {name: facts.metrics.get(f"test/uncalibrated_{name}") for name in ("ece", "brier")}
    least = min(
        [0.0, *(metric.low for metric in measured.values() if metric.name in METRICS and metric.low is not None)]
    )
    return {
        "metrics": list(measured.values()),
        "caveats": {one.caveat: CAVEATS[one.caveat] for one in measured.values() if one.caveat},
        "lower": LOWER_IS_BETTER,
        "least": least,
        "span": 1 - least,
        "matrix": [
            (test.class_names[i], [(int(n), float(n) / max(int(row.sum()), 1)) for n in row], int(row.sum()))
            for i, row in enumerate(matrix)
        ]
        if few
        else None,
        "names": test.class_names,
        "mistakes": [(n, test.class_names[i], test.class_names[j]) for n, i, j in mistakes[:10]],
        "classes": _classification(facts),
        "charts": _charts(
            facts,
            ("roc", "precision_recall", "reliability", *(() if few else ("confusion_matrix",))),
            alts,
        ),
        "practice": {
            "charts": _charts(facts, ("decision_curve", "probabilities"), alts),
            "recalibration": facts.metrics.get("recalibration"),
            "curve": facts.metrics.get("decision_curve"),
        }
        if "decision_curve" in facts.metrics
        else None,
        "subgroups": read_subgroups(facts.run),
        "resolution": facts.resolution,
        "unknown": facts.metrics.get("unknown"),
        "abstention": facts.metrics.get("abstention"),
        "plotted": facts.config.report.plots,
        "before": before,
        "temperature": facts.temperature,
        "positive": test.positive_class if len(test.class_names) == 2 else None,
        "threshold": facts.threshold,
        "grouped": test.groups is not None,
        "unshared": list(facts.measured("test_unshared").values()),
        "shared": facts.shared_with_training[:ROWS],
        "n_shared": len(facts.shared_with_training),
    }


def _classification(facts: RunFacts) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class, with Wilson's intervals where they are proportions."""
    labelled = facts.test.labelled(facts.threshold)
    hits = labelled.labels == labelled.predicted
    rows = []
    for k, name in enumerate(facts.test.class_names[:ROWS]):
        row: dict[str, Any] = {"name": name, "support": int((labelled.labels == k).sum())}
        for metric, among in (("precision", labelled.predicted == k), ("recall", labelled.labels == k)):
            groups = None if labelled.groups is None else labelled.groups[among]
            share = float(hits[among].mean()) if among.any() else None
            row[metric] = share
            row[f"{metric}_bounds"] = None if share is None else tuple(intervals.proportion(hits[among], groups))
        overlap = int((hits & (labelled.labels == k)).sum())
        either = int((labelled.labels == k).sum() + (labelled.predicted == k).sum())
        row["f1"] = 2 * overlap / either if either else None
        rows.append(row)
    return rows


def images(gallery: Gallery) -> dict[str, Any]:
    """Gather errors, uncertain and correct test images, with Grad-CAM if there is a network."""
    facts, files, found = gallery.facts, gallery.files, gallery.examples
    kinds = (
        (
            "errors",
            "Most confident errors",
            "Errors with the highest confidence. Look here for wrong labels and shortcuts.",
        ),
        ("uncertain", "Least certain", "Nearest to the decision boundary, right or wrong."),
        ("correct", "Correct", "Sampled at random, balanced over the classes."),
    )
    neighbours = facts.run.read_json(NEIGHBOURS_FILE) if (facts.run / NEIGHBOURS_FILE).is_file() else {}
    return {
        "kinds": [(title, words, found[name]) for name, title, words in kinds],
        "neighbours": {
            path: [
                (jpeg(view), label, near) for near, label in rows if (view := files.pixels(near, SAMPLE)) is not None
            ]
            for path, rows in neighbours.items()
        },
        "missing": files.missing_words,
        "no_heat": gallery.no_heat,
        "n_errors": len(facts.test) - facts.right,
        "n": len(facts.test),
        "resize": facts.preprocessing.resize,
        "size": height_width(facts.preprocessing.size)[::-1],
    }


def shortcuts(facts: RunFacts) -> dict[str, Any]:
    """Gather the accuracy on reduced test images."""
    found = facts.run.read_json("shortcuts.json")
    return {
        "checks": [found["real"], *(check for check in found["checks"] if check["name"] != "gradcam_border")],
        "heat": next((check for check in found["checks"] if check["name"] == "gradcam_border"), None),
        "chance": found["chance"],
        "n": found["real"]["n"],
        "note": found["note"],
    }
