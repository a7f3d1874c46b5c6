"""A finished run on its dashboard: result and cost, figures, predictions with pictures, artifacts.

Leaves out how it is sent (``runs.tracking``), curves by epoch (Lightning's) and the run's own page (``run_page``).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from raylight.evaluation.auroc import at_each_threshold
from raylight.report.facts import SPLITS, RunFacts, parameters_of
from raylight.report.images import Gallery
from raylight.report.results import Results, Selection
from raylight.runs.tracking import Tracker

KINDS = {"errors": "confident error", "uncertain": "least certain", "correct": "correct"}
"""Names of the kinds of images in the table."""

COLUMNS = ["kind", "picture", "grad_cam", "label", "predicted", "probability", "right", "path"]


def show_result(
    tracker: Tracker,
    gallery: Gallery,
    results: Results,
    selection: Selection,
    checkpoint: Path,
) -> None:
    """Send a run's result to its dashboard.

    Args:
        tracker: does nothing if it has no dashboard.
        gallery: its notable images.
        results: as written.
        selection: how the checkpoint was chosen.
        checkpoint: the chosen file.
    """
    if tracker.run is None:
        return
    facts = gallery.facts
    config = facts.config
    tracker.summary({**results.summary, **cost_summary(facts)})
    tracker.images(results.plots)
    log_curves(tracker, facts.test.labels, facts.predicted, facts.test.probabilities, facts.test.class_names)
    tracker.table("predictions", COLUMNS, lambda: sample_rows(gallery))
    if config.logger.artifacts:
        classes = list(facts.test.class_names)
        model = {"epoch": selection.epoch, selection.monitor: selection.value, "classes": classes}
        tracker.artifact("model", None, [checkpoint], ["best", f"epoch-{selection.epoch}"], model)
        split = {name: facts.total(name) for name in SPLITS}
        tracker.artifact("split", config.data.name, [facts.run / "index.parquet"], [f"seed-{config.split_seed}"], split)


def log_curves(
    tracker: Tracker,
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    probabilities: Float[np.ndarray, "image class"],
    class_names: Sequence[str],
) -> None:
    """Log ROC, precision-recall and the confusion matrix as charts that W&B draws and can overlay over runs.

    Args:
        tracker: gets them.
        labels: true classes, as positions in ``class_names``.
        predicted: predicted classes, likewise.
        probabilities: of each class.
        class_names: in the order of the columns.
    """
    tracker.log(
        "the confusion matrix",
        lambda: {"test/confusion_matrix": _confusion_chart(labels, predicted, class_names)},
    )

    tracker.log("the ROC and precision-recall curves", lambda: _curve_charts(labels, probabilities, class_names))


def _curve_charts(
    labels: Int[np.ndarray, " image"], probabilities: Float[np.ndarray, "image class"], names: Sequence[str]
) -> dict[str, Any]:
    """W&B's charts of curves of each class against the others, with at most as many points as W&B draws.

    Its own functions import scikit-learn's metrics and SciPy's statistics for them, half a second.
    """
    if len(np.unique(labels)) < len(names):  # not defined for a class that doesn't occur
        return {}
    import wandb
    from wandb import plot

    most = max(2, wandb.Table.MAX_ROWS // len(names))
    roc: list[list[Any]] = []
    precision_recall: list[list[Any]] = []
    for k, name in enumerate(names):
        recall, false_positive_rate, precision = (
            values.round(3).tolist() for values in at_each_threshold(probabilities[:, k], labels == k)
        )
        for i in np.unique(np.linspace(0, len(recall) - 1, most).round().astype(int)).tolist():
            roc.append([name, false_positive_rate[i], recall[i]])
            precision_recall.append([name, recall[i], precision[i]])

    def chart(title: str, x: tuple[str, str], y: tuple[str, str], rows: Any) -> Any:
        columns: Any = ["class", x[0], y[0]]
        table = wandb.Table(columns=columns, data=rows)
        titles = {"title": title, "x-axis-title": x[1], "y-axis-title": y[1]}
        return plot.plot_table("wandb/area-under-curve/v0", table, {"x": x[0], "y": y[0], "class": "class"}, titles)

    # Columns have the names that W&B gives them, so that these curves overlay those of other runs.
    rates = ("fpr", "False positive rate"), ("tpr", "Recall")
    return {
        "test/roc": chart("ROC", *rates, roc),
        "test/precision_recall": chart(
            "Precision and recall", ("recall", "Recall"), ("precision", "Precision"), precision_recall
        ),
    }


def _confusion_chart(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], class_names: Sequence[str]
) -> Any:
    """W&B's confusion matrix; if its table would be cut off, only of the non-zero cells.

    W&B's own function writes a row for each pair of classes and drops those beyond ``Table.MAX_ARTIFACT_ROWS``, which 448
    classes pass.
    """
    import wandb
    from wandb import plot

    names = list(class_names)
    if len(names) ** 2 <= wandb.Table.MAX_ARTIFACT_ROWS:
        return plot.confusion_matrix(y_true=labels.tolist(), preds=predicted.tolist(), class_names=names)
    cells = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    columns: Any = ["Actual", "Predicted", "nPredictions"]
    rows: Any = [[names[true], names[given], count] for (true, given), count in sorted(cells.items())]
    return plot.plot_table(
        "wandb/confusion_matrix/v1", wandb.Table(columns=columns, data=rows), {name: name for name in columns}
    )


def sample_rows(gallery: Gallery) -> list[list[Any]]:
    """A row per notable image, with the columns ``COLUMNS``; pictures are arrays of pixels, None if the file can't be read."""
    return [
        [KINDS[kind], e.pixels, e.heated, e.label, e.predicted, e.probability, e.right, e.path]
        for kind, examples in gallery.examples.items()
        for e in examples
    ]


def cost_summary(facts: RunFacts) -> dict[str, float]:
    """The cost of a run as flat numbers: parameters, seconds of each stage, training images per second, memory."""
    found: dict[str, float | None] = {
        "cost/parameters": parameters_of(facts.run),
        "cost/images_per_second": facts.images_per_second,
        "cost/peak_memory_gb": facts.cost.get("peak_memory_gb"),
        **{f"cost/seconds_{stage}": seconds for stage, seconds in facts.cost["seconds"].items()},
    }
    return {name: value for name, value in found.items() if value is not None}
