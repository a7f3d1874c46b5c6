"""The bootstrap: all metrics on many resamples at once, and the interval that resamples give.

Covers resamples as integer weights, clustered by group, all metrics of ``training.metrics`` as functions of such weights, and
BCa intervals. A resample is a row of a weight matrix, so that counts, calibration error and Brier score are one matrix product,
and rankings (AUROC, average precision) are sorted only once. Not here: intervals from formulas (``intervals``), and
which metric takes which (``metrics``, ``differences``).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

from raylight.evaluation.intervals import UNDEFINED, Interval, Z
from raylight.evaluation.predictions import LabelledPredictions

CALIBRATION_BINS = 15
"""Bins of equal width of the calibration error, as in ``training.metrics``."""

CHUNK_ELEMENTS = 1 << 19
"""Weights per chunk: 2 MB of float32, which fit into the caches of a core."""


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
        self._columns32 = self._columns.astype(np.float32)
        scores = probabilities if scores is None else scores
        self._rankings = [Ranking(scores[:, k], truth[:, k]) for k in ranked]

    def __call__(self, weights: Float[np.ndarray, "resample image"]) -> dict[str, Float[np.ndarray, " resample"]]:
        """The value of each metric for each row of weights; NaN where it is undefined.

        Args:
            weights: weight of each image in each resample; float32 or float64, which is also the precision of the
                sums.
        """
        total = weights.sum(axis=1)
        k = self.n_classes
        sums = weights @ (self._columns32 if weights.dtype == np.float32 else self._columns)
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


class Ranking:
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
        """AUROC and average precision for each row of weights."""
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


def bootstrap(
    models: Sequence[WeightedMetrics],
    n: int,
    groups: Int[np.ndarray, " image"] | None,
    n_resamples: int,
    seed: int,
) -> list[dict[str, Float[np.ndarray, " resample"]]]:
    """All metrics of one or several models on the same resamples: see ``resampling_weights``."""
    # One thread: these products are small, and waking every core for each of them is slower.
    with threadpool_limits(1, "blas"):
        chunks = [[model(weights) for model in models] for weights in resampling_weights(n, groups, n_resamples, seed)]
    return [
        {name: np.concatenate([chunk[i][name] for chunk in chunks]) for name in chunks[0][i]}
        for i in range(len(models))
    ]


def bca(
    value: float,
    resampled: Float[np.ndarray, " resample"],
    jackknife: Float[np.ndarray, " left_out"],
    units: int | None = None,
) -> Interval:
    """The bias-corrected and accelerated bootstrap interval (Efron 1987), extended to contain the value.

    It is widened for few units: by the ratio of Student's t to the normal quantile, and by sqrt(n / (n - 1)), since
    resampling underestimates the variance (Hesterberg 2015).

    Args:
        value: the metric on the whole sample.
        resampled: the metric on bootstrap resamples; NaN is ignored.
        jackknife: the metric with one image (or group, or block of them) left out at a time.
        units: number of images or groups resampled; ``None`` for no widening.

    Example:
        >>> resampled = np.random.default_rng(0).normal(0.8, 0.03, 1000)
        >>> [round(bound, 2) for bound in bca(0.8, resampled, jackknife=np.array([0.79, 0.80, 0.81]))]
        [0.75, 0.86]
    """
    resampled = resampled[np.isfinite(resampled)]
    if np.isnan(value) or len(resampled) < 2:
        return UNDEFINED
    # Float32 and float64 sums differ in the seventh digit; metrics of few images have many true ties.
    below = np.mean(resampled < value - 1e-6) + np.mean(np.abs(resampled - value) <= 1e-6) / 2
    edge = 1 / len(resampled)
    bias = norm.ppf(np.clip(below, edge, 1 - edge))
    left_out = jackknife[np.isfinite(jackknife)]
    difference = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = (difference**2).sum()
    acceleration = (difference**3).sum() / (6 * spread**1.5) if spread > 1e-12 else 0.0
    ends = bias + np.array([-Z, Z])
    low, high = np.quantile(resampled, norm.cdf(bias + ends / (1 - acceleration * ends)))
    stretch = 1.0
    if units is not None and units > 1:
        stretch = student.ppf(0.975, units - 1) / Z * np.sqrt(units / (units - 1))
    return Interval(float(value - stretch * max(value - low, 0)), float(value + stretch * max(high - value, 0)))


def n_units(groups: Int[np.ndarray, " image"] | None, n: int) -> int:
    """Number of units per resample: of groups, or of images."""
    return n if groups is None else len(np.unique(groups))


def drawn(n: int, most: int) -> Int[np.ndarray, " image"]:
    """Positions of at most ``most`` of n images, in order; the same ones for the same numbers."""
    chosen: Int[np.ndarray, " image"] = np.sort(np.random.default_rng(0).permutation(n)[:most])
    return chosen


def resampling_weights(
    n: int, groups: Int[np.ndarray, " image"] | None, n_resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "resample image"]]:
    """Bootstrap resamples as weights: how often each image was drawn.

    Resampling isn't stratified, so that class frequencies vary as between samples. With groups, whole groups are drawn
    instead of images.

    Args:
        n: number of images.
        groups: group number of each image; ``None`` if images are independent.
        n_resamples: number of rows over all chunks.
        seed: the same seed gives the same weights.

    Yields:
        Chunks of rows, float32.
    """
    unit_of_image = None if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = n if unit_of_image is None else int(unit_of_image.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, n_resamples, chunk):
        rows = min(chunk, n_resamples - start)
        drawn = rng.integers(0, n_units, (rows, n_units), np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * n_units
        weights = np.bincount(drawn.ravel(), minlength=rows * n_units).reshape(rows, n_units).astype(np.float32)
        yield weights if unit_of_image is None else weights[:, unit_of_image]


def left_out_weights(
    labels: Int[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None, most: int = 400
) -> Float[np.ndarray, "left_out image"]:
    """Jackknife weights: each row leaves out one image, or group, or a block of them where there are many.

    Args:
        labels: class number of each image; blocks are stratified by it.
        groups: group number of each image; groups are left out as a whole.
        most: maximum number of rows.
    """
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    unit_labels = labels if groups is None else _majority(labels, units)
    blocks = np.empty(len(unit_labels), np.int64)
    blocks[np.argsort(unit_labels, kind="stable")] = np.arange(len(unit_labels)) % most
    rows = np.arange(min(most, len(unit_labels)))
    kept: Float[np.ndarray, "left_out image"] = (blocks[units] != rows[:, None]).astype(np.float32)
    return kept


def calibration_bins(confidence: Float[np.ndarray, " image"]) -> Int[np.ndarray, " image"]:
    """Bin number of each probability; a probability of exactly 1 has a bin of its own, as in torchmetrics.

    Example:
        >>> calibration_bins(np.array([0.0, 0.5, 0.99, 1.0]))
        array([ 0,  7, 14, 15])
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins: Int[np.ndarray, " image"] = np.searchsorted(edges, confidence, side="right") - 1
    return bins


def _majority(labels: np.ndarray, unit_of_image: np.ndarray) -> np.ndarray:
    counts = np.zeros((unit_of_image.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (unit_of_image, labels), 1)
    majority: np.ndarray = counts.argmax(axis=1)
    return majority


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
