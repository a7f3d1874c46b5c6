"""All metrics as functions of weights on the images, so that a resample is a row of a weight matrix.

Counts, calibration error and Brier score are one matrix product then, and rankings (AUROC, average precision) are sorted only
once. The values are those of ``torchmetrics``, beside this file. Leaves out resampling (``evaluation.bootstrap``).
"""

import numpy as np
from jaxtyping import Float, Int

from raylight.config.rules.metric_names import CALIBRATION_BINS
from raylight.evaluation.predictions import LabelledPredictions


class WeightedMetrics:
    """The metrics of one set of predictions, as a function of weights on its images.

    Args:
        labelled: the predictions.
        scores: for AUROC and average precision, a column per class; ``None`` for the probabilities.
    """

    def __init__(self, labelled: LabelledPredictions, scores: Float[np.ndarray, "image class"] | None = None) -> None:
        labels, probabilities, positive = labelled.labels, labelled.probabilities, labelled.positive
        self.n_classes = labelled.n_classes
        self.positive = positive
        classes = np.arange(self.n_classes)
        truth = labels[:, None] == classes
        chosen = labelled.predicted[:, None] == classes
        confidence, correct = labelled.confidences()
        if self.n_classes == 2:
            brier, ranked = (confidence - correct) ** 2, [positive]
        else:
            brier, ranked = ((probabilities - truth) ** 2).sum(axis=1), np.unique(labels).tolist()
        gaps = calibration_bins(confidence)[:, None] == np.arange(CALIBRATION_BINS + 1)
        # Everything that is a weighted sum over images, one column each.
        columns = [truth & chosen, truth, chosen, gaps * (correct - confidence)[:, None], brier]
        self._columns = np.column_stack(columns).astype(np.float64)
        self._columns_float32 = self._columns.astype(np.float32)
        scores = probabilities if scores is None else scores
        self._rankings = [RankingMetrics(scores[:, k], truth[:, k]) for k in ranked]

    def __call__(self, weights: Float[np.ndarray, "resample image"]) -> dict[str, Float[np.ndarray, " resample"]]:
        """Computes each metric for each row of weights.

        Args:
            weights: weight of each image in each resample; float32 or float64, which is also the precision of the
                sums.

        Returns:
            Values by name, one per resample; NaN where the metric is undefined.
        """
        total = weights.sum(axis=1)
        k = self.n_classes
        sums = weights @ (self._columns_float32 if weights.dtype == np.float32 else self._columns)
        hits, true, chosen = sums[:, :k], sums[:, k : 2 * k], sums[:, 2 * k : 3 * k]
        with np.errstate(divide="ignore", invalid="ignore"):
            decided = self._binary(hits, true, chosen) if k == 2 else _macro(hits, true, chosen, total)
            areas = [ranking(weights) for ranking in self._rankings]
            single = (true > 0).sum(axis=1) < 2
            auroc, precision = (_mean_of_defined(np.stack(each)) for each in zip(*areas, strict=True))
            return {
                "accuracy": hits.sum(axis=1) / total,
                **decided,
                "auroc": np.where(single, np.nan, auroc),
                "average_precision": np.where(single, np.nan, precision),
                "mcc": _matthews(hits, true, chosen, total),
                "ece": np.abs(sums[:, 3 * k : -1]).sum(axis=1) / total,
                "brier": sums[:, -1] / total,
            }

    def _binary(self, hits: np.ndarray, true: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        yes, no = self.positive, 1 - self.positive
        recall = hits[:, yes] / true[:, yes]
        specificity = hits[:, no] / true[:, no]
        return {
            "balanced_accuracy": (recall + specificity) / 2,
            "precision": hits[:, yes] / chosen[:, yes],
            "recall": recall,
            "specificity": specificity,
            "f1": 2 * hits[:, yes] / (true[:, yes] + chosen[:, yes]),
        }


class RankingMetrics:
    """AUROC and average precision of one score, with ties and weights.

    Args:
        scores: higher means more likely positive.
        positive: the truth.
    """

    def __init__(self, scores: Float[np.ndarray, " image"], positive: np.ndarray) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._positive = positive[self._order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self._starts = None if len(starts) == len(scores) else starts

    def __call__(
        self, weights: Float[np.ndarray, "resample image"]
    ) -> tuple[Float[np.ndarray, " resample"], Float[np.ndarray, " resample"]]:
        """Computes AUROC and average precision for each row of weights.

        Args:
            weights: weight of each image in each resample.

        Returns:
            AUROC, and average precision, of each resample.
        """
        every = weights[:, self._order]
        positive = every * self._positive.astype(weights.dtype)
        if self._starts is not None:
            every = np.add.reduceat(every, self._starts, axis=1)
            positive = np.add.reduceat(positive, self._starts, axis=1)
        chosen = np.cumsum(every, axis=1)
        hits = np.cumsum(positive, axis=1)
        positives, negatives = hits[:, -1], chosen[:, -1] - hits[:, -1]
        # Negatives at or above a score cost a positive there one win each, those in a tie half of it.
        lost = chosen - hits - (every - positive) / 2
        auroc = 1 - np.einsum("rs,rs->r", positive, lost) / (positives * negatives)
        ratio = np.divide(hits, chosen, out=np.zeros_like(hits), where=chosen > 0)
        return auroc, np.einsum("rs,rs->r", positive, ratio) / positives


def calibration_bins(confidence: Float[np.ndarray, " image"]) -> Int[np.ndarray, " image"]:
    """The calibration bin of each probability, of bins of equal width.

    Args:
        confidence: 0 to 1.

    Returns:
        Bin numbers from 0; a probability of exactly 1 has a bin of its own, as in torchmetrics.

    Example:
        >>> calibration_bins(np.array([0.0, 0.5, 0.99, 1.0]))
        array([ 0,  7, 14, 15])
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins: Int[np.ndarray, " image"] = np.searchsorted(edges, confidence, side="right") - 1
    return bins


def _mean_of_defined(values: Float[np.ndarray, "class resample"]) -> Float[np.ndarray, " resample"]:
    """The mean over the classes that occur in a resample."""
    defined = np.isfinite(values)
    mean: Float[np.ndarray, " resample"] = np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)
    return mean


def _macro(hits: np.ndarray, true: np.ndarray, chosen: np.ndarray, total: np.ndarray) -> dict[str, np.ndarray]:
    """Averages over the classes that occur or are predicted; 0/0 counts as 0 (as in torchmetrics)."""
    present = true + chosen > 0
    rest = total[:, None] - true

    def mean(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        ratio = np.where(denominator > 0, numerator / denominator, 0)
        average: np.ndarray = (ratio * present).sum(axis=1) / present.sum(axis=1)
        return average

    recall = mean(hits, true)
    return {
        "balanced_accuracy": recall,
        "precision": mean(hits, chosen),
        "recall": recall,
        "specificity": mean(rest - chosen + hits, rest),
        "f1": mean(2 * hits, true + chosen),
    }


def _matthews(hits: np.ndarray, true: np.ndarray, chosen: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The K-class correlation (Gorodkin 2004): NaN where one class occurs, 0 where one is predicted."""
    covariance = hits.sum(axis=1) * total - (true * chosen).sum(axis=1)
    spread_true = total**2 - (true**2).sum(axis=1)
    spread_chosen = total**2 - (chosen**2).sum(axis=1)
    value = np.where(spread_chosen > 0, covariance / np.sqrt(spread_true * spread_chosen), 0)
    return np.where((true > 0).sum(axis=1) < 2, np.nan, value)
