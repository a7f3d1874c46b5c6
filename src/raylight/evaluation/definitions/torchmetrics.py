"""The metrics of training, validation and test, by torchmetrics.

Covers which metrics there are, what they mean for two classes and for more, and what they are where they
aren't defined. ``weighted``, beside this file, has the same values for resamples. Leaves out intervals and the table of a
finished run (``evaluation.metrics``).

Two classes: every metric speaks of the positive class, by its probability. More classes: precision, recall,
specificity, F1, AUROC and average precision are macro averages of one class against the rest; balanced
accuracy is the mean recall; the calibration error looks at the most probable class.

Undefined is NaN, not 0: precision without a predicted positive, recall without a positive, specificity
without a negative, AUROC, average precision and Matthews correlation of a single class. Macro averages leave
out classes that neither occur nor are predicted, and a class that is never predicted has precision 0
(torchmetrics' rules); AUROC and average precision leave out those that don't occur.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryCalibrationError,
    BinaryF1Score,
    BinaryMatthewsCorrCoef,
    BinaryPrecision,
    BinaryRecall,
    BinaryStatScores,
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
    MulticlassPrecision,
    MulticlassRecall,
    MulticlassSpecificity,
)
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.utilities.data import dim_zero_cat

from raylight.config.rules.metric_names import CALIBRATION_BINS, METRICS

NAN = float("nan")


class ClassificationMetrics(MetricCollection):
    """A metric collection that is updated with the probabilities of all classes."""

    def __init__(self, metrics: dict[str, Metric | MetricCollection], positive: int | None, **settings: Any) -> None:
        super().__init__(metrics, **settings)
        self.positive = positive

    def update(  # type: ignore[override]  # a ModuleDict is a dict, and update its method
        self, probabilities: Float[Tensor, "batch class"], targets: Int[Tensor, " batch"]
    ) -> None:
        """Adds a batch.

        Args:
            probabilities: of each class, rows summing to 1; not logits.
            targets: position of each image's class.
        """
        super().update(*self._arguments(probabilities, targets))

    def forward(self, probabilities: Float[Tensor, "batch class"], targets: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        """Adds a batch and computes the metrics of this batch alone; slower than ``update``.

        Args:
            probabilities: of each class, rows summing to 1; not logits.
            targets: position of each image's class.

        Returns:
            A scalar by name.
        """
        return super().forward(*self._arguments(probabilities, targets))

    def _arguments(self, probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = probabilities.detach().float()
        if self.positive is None:
            return probabilities, targets
        return probabilities[:, self.positive], (targets == self.positive).long()


def metric_collection(n_classes: int, positive: int, prefix: str | None = None) -> ClassificationMetrics:
    """All metrics, sharing the work among those that count the same.

    All are scalars, so ``self.log_dict(collection)`` of Lightning takes them. The decision is made at 0.5 for
    two classes (a tie is negative), by the most probable class for more.

    Args:
        n_classes: 2 or more.
        positive: position of the positive class; of no effect with more than two classes.
        prefix: put before each name, like ``val/``.

    Returns:
        A collection whose ``update(probabilities, targets)`` takes float[batch, class] and int[batch].

    Example:
        >>> metrics = metric_collection(2, positive=1, prefix="val/")
        >>> metrics.update(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), torch.tensor([0, 1, 1]))
        >>> round(metrics.compute()["val/recall"].item(), 2)
        0.5
    """
    meanings = _binary() if n_classes == 2 else _multiclass(n_classes)
    metrics = {name: meanings[name] for name in METRICS}
    counted = ["balanced_accuracy", "precision", "recall", "specificity", "f1"]
    return ClassificationMetrics(
        metrics,
        positive if n_classes == 2 else None,
        prefix=prefix,
        compute_groups=[["accuracy", *counted] if n_classes == 2 else counted, ["auroc", "average_precision"]],
    )


def confusion_matrix(n_classes: int) -> MulticlassConfusionMatrix:
    """A metric that counts images by true and predicted class.

    Args:
        n_classes: 2 or more.

    Returns:
        A metric updated like ``metric_collection``; it computes int64[true class, predicted class].

    Example:
        >>> counts = confusion_matrix(2)
        >>> counts.update(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 0]))
        >>> counts.compute()
        tensor([[1, 1],
                [0, 0]])
    """
    return MulticlassConfusionMatrix(n_classes, validate_args=False)


def _binary() -> dict[str, Metric | MetricCollection]:
    unchecked: dict[str, Any] = {"validate_args": False}
    undefined: dict[str, Any] = {"zero_division": NAN, **unchecked}
    return {
        "accuracy": BinaryAccuracy(**unchecked),
        "balanced_accuracy": BalancedAccuracy(**unchecked),
        "precision": BinaryPrecision(**undefined),
        "recall": BinaryRecall(**undefined),
        "specificity": Specificity(**unchecked),
        "f1": BinaryF1Score(**undefined),
        "auroc": AUROC(**unchecked),
        "average_precision": AveragePrecision(**unchecked),
        "mcc": BinaryMatthews(**unchecked),
        "ece": BinaryCalibrationError(n_bins=CALIBRATION_BINS, norm="l1", **unchecked),
        "brier": BrierScore(),
    }


def _multiclass(n_classes: int) -> dict[str, Metric | MetricCollection]:
    unchecked: dict[str, Any] = {"validate_args": False}
    macro: dict[str, Any] = {"num_classes": n_classes, "average": "macro", **unchecked}
    return {
        "accuracy": MulticlassAccuracy(n_classes, average="micro", **unchecked),
        "balanced_accuracy": MulticlassAccuracy(**macro),
        "precision": MulticlassPrecision(**macro),
        "recall": MulticlassRecall(**macro),
        "specificity": MulticlassSpecificity(**macro),
        "f1": MulticlassF1Score(**macro),
        "auroc": MacroAUROC(**macro),
        "average_precision": MacroAveragePrecision(**macro),
        "mcc": MulticlassMatthews(n_classes, **unchecked),
        "ece": TopLabelCalibrationError(n_classes, n_bins=CALIBRATION_BINS, norm="l1", **unchecked),
        "brier": BrierScore(),
    }


class BalancedAccuracy(BinaryStatScores):
    """Mean of recall and specificity; NaN where one of the two classes doesn't occur."""

    higher_is_better = True

    def compute(self) -> Tensor:
        """The value over all batches."""
        tp, fp, tn, fn = (count.float() for count in self._final_state())
        return (tp / (tp + fn) + tn / (tn + fp)) / 2


class Specificity(BinaryStatScores):
    """Share of the negatives that are recognised; NaN without a negative (torchmetrics' own gives 0)."""

    higher_is_better = True

    def compute(self) -> Tensor:
        """The value over all batches."""
        _, fp, tn, _ = (count.float() for count in self._final_state())
        return tn / (tn + fp)


class _Matthews(Metric):
    """Matthews correlation: NaN where only one class occurs, 0 where only one is predicted.

    The second is the usual convention, and scikit-learn's; torchmetrics' own depends on the class balance.
    """

    def compute(self) -> Any:
        """The value over all batches."""
        counts: Any = self.confmat
        if (counts.sum(dim=1) > 0).sum() < 2:
            return torch.tensor(NAN, device=counts.device)
        if (counts.sum(dim=0) > 0).sum() < 2:
            return torch.tensor(0.0, device=counts.device)
        return super().compute()  # type: ignore[safe-super]  # of the metric beside it


class BinaryMatthews(_Matthews, BinaryMatthewsCorrCoef):
    """Matthews correlation of two classes."""


class MulticlassMatthews(_Matthews, MulticlassMatthewsCorrCoef):
    """Matthews correlation of several classes."""


class _OfBothClasses(Metric):
    """NaN where only one class occurs (torchmetrics' own gives 0)."""

    def compute(self) -> Any:
        """The value over all batches."""
        targets = dim_zero_cat(self.target)  # type: ignore[arg-type]  # a list of batches, or all of them
        if targets.min() == targets.max():
            return torch.tensor(NAN, device=targets.device)
        return super().compute()  # type: ignore[safe-super]  # of the metric beside it


class AUROC(_OfBothClasses, BinaryAUROC):
    """Area under the ROC curve."""


class AveragePrecision(_OfBothClasses, BinaryAveragePrecision):
    """Average precision."""


class MacroAUROC(MulticlassAUROC):
    """Mean one-against-the-rest AUROC of the classes that occur; NaN when a single one does.

    torchmetrics' own counts a class that doesn't occur as 0.
    """

    def compute(self) -> Tensor:  # type: ignore[override]
        """The value over all batches."""
        return _mean_over_classes(dim_zero_cat(self.preds), dim_zero_cat(self.target), binary_auroc)


class MacroAveragePrecision(MulticlassAveragePrecision):
    """Mean one-against-the-rest average precision of the classes that occur; NaN when a single one does."""

    def compute(self) -> Tensor:  # type: ignore[override]
        """The value over all batches."""
        return _mean_over_classes(dim_zero_cat(self.preds), dim_zero_cat(self.target), binary_average_precision)


def _mean_over_classes(preds: Tensor, targets: Tensor, metric: Any) -> Tensor:
    classes = torch.unique(targets)
    if len(classes) < 2:
        return torch.tensor(NAN, device=preds.device)
    values = [metric(preds[:, k], (targets == k).long(), validate_args=False) for k in classes.tolist()]
    return torch.stack(values).mean()


class TopLabelCalibrationError(MulticlassCalibrationError):
    """torchmetrics' calibration error of the most probable class, without ``torch.max(dim=...)``.

    That call wakes every thread for any batch, however small: 8 ms on a busy machine, where this takes 5 µs.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch.

        Args:
            preds: probabilities, float[batch, class].
            target: position of each image's class, int[batch].
        """
        self.confidences.append(preds.amax(dim=1))
        self.accuracies.append((preds.argmax(dim=1) == target).float())


class BrierScore(Metric):
    """Mean squared distance between probabilities and the truth; 0 is best.

    Two classes: of the positive class's probability, 0 to 1. More classes: summed over classes, 0 to 2, as
    Brier (1950) defined it. scikit-learn's ``brier_score_loss`` draws the same line.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch.

        Args:
            preds: float[batch] of the positive class with targets 0 and 1, or float[batch, class].
            target: position of each image's class, int[batch].
        """
        truth = target if preds.ndim == 1 else torch.nn.functional.one_hot(target, preds.shape[1])
        self.total += (preds - truth).square().sum()
        self.count += len(target)

    def compute(self) -> Tensor:
        """The value over all batches."""
        return self.total / self.count
