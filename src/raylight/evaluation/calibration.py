"""From probabilities that a network claims to ones that come true, and from those to a decision.

Covers temperature scaling, the bins of a reliability diagram and the choice of a decision threshold. All of
it is fitted on validation images, which is for the caller to see to. Leaves out the calibration error and
the Brier score, which are metrics like others (``evaluation``).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from raylight.config.decision_rule import CONSTRAINED, DecisionRule, parse_rule
from raylight.errors import RunError
from raylight.evaluation.intervals import NOWHERE, Interval, f1_from_overlap, mean_of, wilson
from raylight.evaluation.predictions import Predictions, Verdicts

COOLEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature; a fit that ends there says that the probabilities mean little."""

PRIOR_SPREAD = float(np.log(2))
"""Standard deviation of the log temperature before any image is seen: from 1/2 to 2."""


def fit_temperature(predictions: Predictions) -> float:
    """The temperature by which dividing the logits makes the probabilities most likely (Guo et al. 2017).

    Above 1 the network was too sure of itself. Few images, or many without a mistake, say little or nothing
    of it: the likelihood then grows for ever as the temperature falls. So the most probable temperature is
    taken instead of the likeliest, with a log-normal prior around 1, which 100 images all but outweigh.

    Args:
        predictions: of validation images, uncalibrated.

    Returns:
        A temperature between ``COOLEST`` and ``HOTTEST``.

    Raises:
        ValueError: no image of known class.
    """
    verdicts = predictions.verdicts()
    logits, rows = _log(verdicts.probabilities), np.arange(len(verdicts.labels))

    def surprise(log_temperature: float) -> float:
        claimed = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, verdicts.labels]
        return float(-claimed.sum() + (log_temperature / PRIOR_SPREAD) ** 2 / 2)

    best = minimize_scalar(surprise, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(best.x))


def apply_temperature(
    probabilities: Float[np.ndarray, "image class"], temperature: float
) -> Float[np.ndarray, "image class"]:
    """Probabilities at another temperature; 1 changes nothing, and no temperature changes their order.

    Args:
        probabilities: as the network gives them.
        temperature: above 0.
    """
    scaled: Float[np.ndarray, "image class"] = softmax(_log(probabilities) / temperature, axis=1)
    return scaled


def calibrated(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions at another temperature."""
    return replace(predictions, probabilities=apply_temperature(predictions.probabilities, temperature))


def _log(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image class"]:
    # The smallest float32, about what a network's own softmax can still tell from 0.
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was claimed and what came true, in bins of the probability; empty bins are left out.

    Attributes:
        claimed: mean probability in each bin.
        observed: share of the images in it for which it came true.
        low: lower bound of ``observed``, Wilson 95 %.
        high: upper bound.
        count: images in it.
    """

    claimed: Float[np.ndarray, " bin"]
    observed: Float[np.ndarray, " bin"]
    low: Float[np.ndarray, " bin"]
    high: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]


def reliability(predictions: Predictions, n_bins: int = 10) -> Reliability:
    """The bins of a reliability diagram.

    Two classes: the positive class's probability against how often it was the positive class. More classes:
    the highest probability against how often that class was right.

    Args:
        predictions: of one split.
        n_bins: of equal width from 0 to 1.
    """
    confidence, truth = predictions.verdicts().claims()
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    used = count > 0
    hits = np.bincount(bins, weights=truth, minlength=n_bins)[used]
    count, claimed = count[used], np.bincount(bins, weights=confidence, minlength=n_bins)[used]
    bounds = np.array([wilson(h, n) for h, n in zip(hits, count, strict=True)])
    return Reliability(claimed / count, hits / count, bounds[:, 0], bounds[:, 1], count)


@dataclass(frozen=True)
class Decision:
    """A decision threshold and how it came about.

    Attributes:
        threshold: the positive class is decided on where its probability is greater; ``None`` with more than
            two classes, where the most probable one is.
        rule: as the user wrote it.
        metric: what the rule is about: ``accuracy`` (a fixed threshold), ``youden``, ``f1``, ``cost`` (mean
            price of an image), ``recall``, ``precision`` or ``specificity``.
        value: of that metric on validation, at this threshold. The choice was made to please this value, so
            that test can be expected to fall a little short of it.
        interval: Wilson's, where the metric is a proportion or made of some; it is as optimistic as the value.
        n: validation images that the metric rests on.
        n_positive: validation images of the positive class.
        n_negative: of the other one.
        met: false where the rule sets a floor that no threshold reaches; the nearest one was taken.
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
    """Choose the decision threshold on validation.

    A floor (``recall>=0.95``) takes, of all thresholds that keep it, the one with the highest specificity,
    or for precision and specificity the highest recall. Thresholds lie halfway between neighbouring
    probabilities; of equally good ones the nearest to 0.5 is taken (for ``cost``: to the best one of
    perfectly calibrated probabilities, false alarm / (false alarm + miss)).

    Args:
        predictions: of validation images, calibrated if test ones will be.
        rule: see ``parse_rule``.
        cost_miss: price of a missed positive, for the rule ``cost``.
        cost_false_alarm: price of a false alarm, for the rule ``cost``.

    Raises:
        ValueError: no image of known class, or a rule that can't be read.
        RunError: a rule that these images can't answer: one class only, or more than two.
    """
    parsed = parse_rule(rule)
    fixed = parsed.value if parsed.kind == "fixed" else None
    n_classes = len(predictions.class_names)
    verdicts = predictions.verdicts(fixed if n_classes == 2 else None)
    if n_classes > 2:
        return _of_many_classes(parsed, verdicts, predictions.class_names)
    truth = verdicts.labels == verdicts.positive
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    if fixed is not None:
        hits = int((verdicts.predicted == verdicts.labels).sum())
        bounds = wilson(hits, len(truth))
        return Decision(fixed, rule, "accuracy", hits / len(truth), bounds, len(truth), n_positive, n_negative)
    if n_positive == 0 or n_negative == 0:
        missing = predictions.class_names[verdicts.positive if n_positive == 0 else 1 - verdicts.positive]
        raise RunError(
            f"decision.threshold={rule} is chosen on validation, which has no image of {missing!r}; raise "
            f"data.val_fraction, or set decision.threshold to a number"
        )
    candidates = _candidates(verdicts.probabilities[:, verdicts.positive], truth)
    nearest_to, met = 0.5, True
    if parsed.kind in CONSTRAINED:
        values = candidates.rates(parsed.kind)
        # 1e-12: 19 of 20 is meant to satisfy 0.95, whatever binary fractions make of it.
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
        interval=candidates.interval(parsed.kind, chosen),
        n=candidates.n(parsed.kind, chosen),
        n_positive=n_positive,
        n_negative=n_negative,
        met=met,
    )


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Every threshold that tells the images apart differently, and the counts that it leads to."""

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

    def interval(self, metric: str, i: int) -> Interval:
        """The interval of the metric at one threshold; none of a cost."""
        tp, fp, fn, tn = (float(counts[i]) for counts in (self.tp, self.fp, self.fn, self.tn))
        if metric == "youden":
            bounds = mean_of([tp / (tp + fn), tn / (tn + fp)], [wilson(tp, tp + fn), wilson(tn, tn + fp)])
            return Interval(2 * bounds.low - 1, 2 * bounds.high - 1)
        if metric == "f1":
            return Interval(*map(f1_from_overlap, wilson(tp, tp + fp + fn)))
        hits = {"recall": tp, "specificity": tn, "precision": tp}
        return wilson(hits[metric], self.n(metric, i)) if metric in hits else NOWHERE

    def n(self, metric: str, i: int) -> int:
        """The images that the metric rests on at one threshold."""
        tp, fp, fn, tn = (int(counts[i]) for counts in (self.tp, self.fp, self.fn, self.tn))
        return {"recall": tp + fn, "specificity": tn + fp, "precision": tp + fp, "f1": tp + fp + fn}.get(
            metric, tp + fp + fn + tn
        )


def _candidates(scores: Float[np.ndarray, " image"], truth: Bool[np.ndarray, " image"]) -> _Candidates:
    levels = np.unique(scores)
    thresholds = np.concatenate([levels[:1] / 2, (levels[:-1] + levels[1:]) / 2, (levels[-1:] + 1) / 2])
    fn = np.searchsorted(np.sort(scores[truth]), thresholds, side="right")
    tn = np.searchsorted(np.sort(scores[~truth]), thresholds, side="right")
    return _Candidates(thresholds, truth.sum() - fn, (~truth).sum() - tn, fn, tn)


def _of_many_classes(rule: DecisionRule, verdicts: Verdicts, class_names: tuple[str, ...]) -> Decision:
    if (rule.kind, rule.value) != ("fixed", 0.5):
        raise RunError(
            f"decision.threshold={rule.text} needs two classes, and the data has {len(class_names)}; "
            f"leave it at 0.5, which decides for the most probable class"
        )
    correct = verdicts.labels == verdicts.predicted
    bounds = wilson(float(correct.sum()), len(correct))
    return Decision(None, rule.text, "accuracy", float(correct.mean()), bounds, len(correct), 0, 0)
