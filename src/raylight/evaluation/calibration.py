"""Temperature scaling, reliability diagrams, and choosing a decision threshold.

All of it is to be fitted on validation images. Not here: calibration error and Brier score (``metrics``).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from raylight.config.rules.decision_rule import CONSTRAINED, DecisionRule, parse_rule
from raylight.errors import RunError
from raylight.evaluation.intervals import UNDEFINED, Interval, f1_from_overlap, mean_of, proportion
from raylight.evaluation.predictions import LabelledPredictions, Predictions

COOLEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature; a fit that reaches them means that the probabilities are of little use."""

PRIOR_DEVIATION = float(np.log(2))
"""Standard deviation of the prior of the log temperature: a factor of 2."""


def fit_temperature(predictions: Predictions) -> float:
    """Fits the temperature that the logits are divided by (Guo et al. 2017).

    Above 1, the network was overconfident. The estimate is the maximum a posteriori with a log-normal prior around 1, since
    without mistakes the likelihood has no maximum; 100 images all but outweigh the prior.

    Args:
        predictions: of validation images, uncalibrated.

    Returns:
        A temperature between ``COOLEST`` and ``HOTTEST``.

    Raises:
        ValueError: no labelled image.

    Example:
        >>> labels = np.repeat([0, 1], 500)
        >>> right = np.tile(np.arange(500) < 400, 2)  # an accuracy of 80 % at a confidence of 98 %
        >>> dog = np.where(right == (labels == 1), 0.98, 0.02)
        >>> of_split = Predictions("a" * 1000, ("val",) * 1000, labels, np.stack([1 - dog, dog], 1), ("cat", "dog"), "dog")
        >>> round(fit_temperature(of_split), 1), round(float(np.log(0.98 / 0.02) / np.log(0.8 / 0.2)), 1)
        (2.8, 2.8)
    """
    labelled = predictions.labelled()
    logits, rows = _log(labelled.probabilities), np.arange(len(labelled.labels))

    def negative_log_posterior(log_temperature: float) -> float:
        log_likelihoods = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labelled.labels]
        return float(-log_likelihoods.sum() + (log_temperature / PRIOR_DEVIATION) ** 2 / 2)

    best = minimize_scalar(negative_log_posterior, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(best.x))


def apply_temperature(
    probabilities: Float[np.ndarray, "image class"], temperature: float
) -> Float[np.ndarray, "image class"]:
    """Scales probabilities by a temperature; 1 leaves them unchanged, and the most probable class never changes.

    Args:
        probabilities: of the network, rows summing to 1.
        temperature: above 0; above 1 moves probabilities towards equal ones.

    Returns:
        Probabilities, rows summing to 1, in float64.

    Example:
        >>> apply_temperature(np.array([[0.9, 0.1]]), 2.0).round(3)
        array([[0.75, 0.25]])
    """
    scaled: Float[np.ndarray, "image class"] = softmax(_log(probabilities) / temperature, axis=1)
    return scaled


def calibrated(predictions: Predictions, temperature: float) -> Predictions:
    """Scales the probabilities of predictions by a temperature.

    Args:
        predictions: of the network.
        temperature: above 0; see ``apply_temperature``.

    Returns:
        The same images with scaled probabilities.
    """
    return replace(predictions, probabilities=apply_temperature(predictions.probabilities, temperature))


def _log(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image class"]:
    # The smallest normal float32: about the smallest output of a network's softmax.
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


@dataclass(frozen=True, eq=False)
class Reliability:
    """The bins of a reliability diagram, without empty ones.

    Attributes:
        predicted: mean predicted probability per bin.
        observed: observed frequency per bin.
        low: lower bound of ``observed`` (Wilson, 95 %; of groups where there are any).
        high: upper bound.
        count: images per bin.
    """

    predicted: Float[np.ndarray, " bin"]
    observed: Float[np.ndarray, " bin"]
    low: Float[np.ndarray, " bin"]
    high: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]


def reliability(predictions: Predictions, n_bins: int = 10) -> Reliability:
    """Computes the bins of a reliability diagram (DeGroot and Fienberg 1983).

    Two classes: probability of the positive class against its frequency. More classes: highest probability against the
    accuracy.

    Args:
        predictions: of one split; unlabelled images are ignored.
        n_bins: number of bins of equal width from 0 to 1.

    Returns:
        The bins that have an image, in ascending order.

    Raises:
        ValueError: no labelled image.

    Example:
        >>> probabilities, labels = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1])
        >>> of_split = Predictions("abc", ("val",) * 3, labels, probabilities, ("cat", "dog"), "dog")
        >>> bins = reliability(of_split, n_bins=2)
        >>> bins.predicted.round(2), bins.observed.round(2), bins.count
        (array([0.1, 0.7]), array([0. , 0.5]), array([1, 2]))
    """
    labelled = predictions.labelled()
    confidence, truth = labelled.confidences()
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    used = count > 0
    hits = np.bincount(bins, weights=truth, minlength=n_bins)[used]
    count, predicted = count[used], np.bincount(bins, weights=confidence, minlength=n_bins)[used]
    bounds = np.array([proportion(truth, labelled.groups, bins == number) for number in np.flatnonzero(used)])
    return Reliability(predicted / count, hits / count, bounds[:, 0], bounds[:, 1], count)


@dataclass(frozen=True)
class Decision:
    """A decision threshold and how it was chosen.

    Attributes:
        threshold: the positive class is predicted if its probability is greater; ``None`` with more than two classes,
            where the most probable one is predicted.
        rule: as the user wrote it.
        metric: of the rule: ``accuracy`` (a fixed threshold), ``youden``, ``f1``, ``cost`` (mean cost per image),
            ``recall``, ``precision`` or ``specificity``.
        value: of the metric on validation. It is optimistic, since the threshold was chosen on the same images.
        interval: from Wilson's of images or their groups, for proportions and functions of them; as optimistic as the value.
        n: validation images that the metric is based on.
        n_positive: validation images of the positive class.
        n_negative: validation images of the other class.
        met: false if no threshold reaches the minimum that the rule sets; then the closest one was chosen.
    """

    threshold: float | None
    rule: str
    metric: str
    value: float
    interval: Interval
    n: int
    n_positive: int
    n_negative: int
    met: bool = True


def choose_threshold(
    predictions: Predictions, rule: str, cost_miss: float = 1.0, cost_false_alarm: float = 1.0
) -> Decision:
    """Chooses the decision threshold on validation.

    A minimum (``recall>=0.95``) selects, of all thresholds that satisfy it, the one with the highest specificity; for
    precision and specificity, the one with the highest recall. Candidates lie halfway between neighbouring probabilities;
    of equally good ones, the closest to 0.5 is chosen (for ``cost``, the closest to the optimum of perfectly calibrated
    probabilities, false alarm / (false alarm + miss)).

    Args:
        predictions: of validation images, calibrated if test predictions will be.
        rule: see ``parse_rule``.
        cost_miss: cost of a missed positive, for the rule ``cost``.
        cost_false_alarm: cost of a false positive, for the rule ``cost``.

    Returns:
        The threshold with the value of the rule's metric on validation; no threshold with more than two classes.

    Raises:
        ValueError: no labelled image, or an invalid rule.
        RunError: the rule needs two classes with images of both.

    Example:
        >>> probabilities, labels = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1])
        >>> of_split = Predictions("abc", ("val",) * 3, labels, probabilities, ("cat", "dog"), "dog")
        >>> decision = choose_threshold(of_split, "youden")
        >>> round(decision.threshold, 2), decision.value
        (0.7, 1.0)
    """
    parsed = parse_rule(rule)
    fixed = parsed.value if parsed.kind == "fixed" else None
    n_classes = len(predictions.class_names)
    labelled = predictions.labelled(fixed if n_classes == 2 else None)
    if n_classes > 2:
        return _multiclass_decision(parsed, labelled, predictions.class_names)
    truth = labelled.labels == labelled.positive
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    if fixed is not None:
        right = labelled.predicted == labelled.labels
        bounds = proportion(right, labelled.groups)
        return Decision(fixed, rule, "accuracy", float(right.mean()), bounds, len(truth), n_positive, n_negative)
    if n_positive == 0 or n_negative == 0:
        missing = predictions.class_names[labelled.positive if n_positive == 0 else 1 - labelled.positive]
        raise RunError(
            f"decision.threshold={rule} is chosen on validation, which has no image of {missing!r}; raise "
            f"data.val_fraction, or set decision.threshold to a number"
        )
    scores = labelled.probabilities[:, labelled.positive]
    candidates = _candidates(scores, truth)
    nearest_to, met = 0.5, True
    if parsed.kind in CONSTRAINED:
        values = candidates.rates(parsed.kind)
        # 1e-12: 19 of 20 satisfies 0.95 in spite of rounding.
        kept = values >= (parsed.value or 0) - 1e-12
        met = bool(kept.any())
        other = candidates.rates("specificity" if parsed.kind == "recall" else "recall")
        merit = np.where(kept, other, -1) if met else np.nan_to_num(values, nan=-1)
    elif parsed.kind == "cost":
        values = (cost_miss * candidates.fn + cost_false_alarm * candidates.fp) / len(truth)
        merit, nearest_to = -values, cost_false_alarm / (cost_false_alarm + cost_miss)
    else:
        values = merit = candidates.rates(parsed.kind)
    best = merit >= merit.max() - 1e-12
    chosen = int(np.where(best, np.abs(candidates.thresholds - nearest_to), np.inf).argmin())
    return Decision(
        threshold=float(candidates.thresholds[chosen]),
        rule=rule,
        metric=parsed.kind,
        value=float(values[chosen]),
        interval=_interval(parsed.kind, truth, scores > candidates.thresholds[chosen], labelled.groups),
        n=candidates.n(parsed.kind, chosen),
        n_positive=n_positive,
        n_negative=n_negative,
        met=met,
    )


@dataclass(frozen=True, eq=False)
class _Candidates:
    """All thresholds that give different decisions, and the resulting counts."""

    thresholds: Float[np.ndarray, " threshold"]
    tp: Int[np.ndarray, " threshold"]
    fp: Int[np.ndarray, " threshold"]
    fn: Int[np.ndarray, " threshold"]
    tn: Int[np.ndarray, " threshold"]

    def rates(self, metric: str) -> Float[np.ndarray, " threshold"]:
        """The metric at each threshold; precision is NaN where nothing is predicted positive."""
        recall, specificity = self.tp / (self.tp + self.fn), self.tn / (self.tn + self.fp)
        chosen = self.tp + self.fp
        rates: dict[str, Float[np.ndarray, " threshold"]] = {
            "recall": recall,
            "specificity": specificity,
            "precision": np.divide(self.tp, chosen, out=np.full(len(chosen), np.nan), where=chosen > 0),
            "youden": recall + specificity - 1,
            "f1": 2 * self.tp / (2 * self.tp + self.fp + self.fn),
        }
        return rates[metric]

    def n(self, metric: str, i: int) -> int:
        """Number of images that the metric is based on at one threshold."""
        tp, fp, fn, tn = (int(counts[i]) for counts in (self.tp, self.fp, self.fn, self.tn))
        return {"recall": tp + fn, "specificity": tn + fp, "precision": tp + fp, "f1": tp + fp + fn}.get(
            metric, tp + fp + fn + tn
        )


def _interval(
    metric: str,
    truth: Bool[np.ndarray, " image"],
    said: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None,
) -> Interval:
    """The interval of a rule's metric at its threshold; undefined for a cost."""
    recall, specificity = proportion(said, groups, truth), proportion(~said, groups, ~truth)
    if metric == "youden":
        bounds = mean_of([float(said[truth].mean()), float((~said)[~truth].mean())], [recall, specificity])
        return Interval(2 * bounds.low - 1, 2 * bounds.high - 1)
    if metric == "f1":
        return Interval(*map(f1_from_overlap, proportion(said & truth, groups, said | truth)))
    if metric == "precision":
        return proportion(truth, groups, said)
    return {"recall": recall, "specificity": specificity}.get(metric, UNDEFINED)


def _candidates(scores: Float[np.ndarray, " image"], truth: Bool[np.ndarray, " image"]) -> _Candidates:
    levels = np.unique(scores)
    thresholds = np.concatenate([levels[:1] / 2, (levels[:-1] + levels[1:]) / 2, (levels[-1:] + 1) / 2])
    fn = np.searchsorted(np.sort(scores[truth]), thresholds, side="right")
    tn = np.searchsorted(np.sort(scores[~truth]), thresholds, side="right")
    return _Candidates(thresholds, truth.sum() - fn, (~truth).sum() - tn, fn, tn)


def _multiclass_decision(rule: DecisionRule, labelled: LabelledPredictions, class_names: tuple[str, ...]) -> Decision:
    if (rule.kind, rule.value) != ("fixed", 0.5):
        raise RunError(
            f"decision.threshold={rule.text} needs two classes, and the data has {len(class_names)}; "
            f"leave it at 0.5, which decides for the most probable class"
        )
    correct = labelled.labels == labelled.predicted
    bounds = proportion(correct, labelled.groups)
    return Decision(None, rule.text, "accuracy", float(correct.mean()), bounds, len(correct), 0, 0)
