import numpy as np
import pytest
from scipy.optimize import brute

from raylight.errors import RunError
from raylight.evaluation.calibration import (
    _candidates,
    apply_temperature,
    calibrated,
    choose_threshold,
    fit_temperature,
    reliability,
)
from raylight.evaluation.intervals import wilson
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions


def predictions(labels, probabilities, positive=1):
    n, n_classes = probabilities.shape
    names = tuple("abcdefgh"[:n_classes])
    return Predictions(
        [f"{i}" for i in range(n)], ["val"] * n, np.asarray(labels), probabilities, names, names[positive]
    )


def network(n, n_classes, boast, seed=0):
    """Predictions of a network whose logits are ``boast`` times what they should be."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 1.5
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    claimed = np.exp(logits * boast)
    return predictions(labels, claimed / claimed.sum(axis=1, keepdims=True))


def of_scores(positives, negatives, positive=1):
    p = np.array([*positives, *negatives], float)
    columns = [1 - p, p] if positive == 1 else [p, 1 - p]
    labels = np.repeat([positive, 1 - positive], [len(positives), len(negatives)])
    return predictions(labels, np.stack(columns, axis=1), positive)


@pytest.mark.parametrize(("n_classes", "boast"), [(2, 3.0), (2, 0.5), (5, 2.0)])
def test_the_temperature_undoes_how_much_a_network_boasts(n_classes, boast):
    validation, test = network(4000, n_classes, boast), network(4000, n_classes, boast, seed=1)
    temperature = fit_temperature(validation)
    assert temperature == pytest.approx(boast, rel=0.1)
    before, after = evaluate(test, n_resamples=2), evaluate(calibrated(test, temperature), n_resamples=2)
    assert after["ece"].value < 0.5 * before["ece"].value
    assert after["brier"].value < before["brier"].value
    assert after["accuracy"].value == before["accuracy"].value
    assert after["auroc"].value == pytest.approx(before["auroc"].value, abs=0.01)


@pytest.mark.parametrize(("claim", "least"), [(0.8, 0.25), (0.99, 0.7), (1 - 1e-9, 0.99), (1.0, 0.99)])
def test_a_validation_set_without_mistakes_gives_no_certainty(claim, least):
    labels = np.arange(40) % 2
    right = np.where(labels == 1, claim, 1 - claim)
    sample = predictions(labels, np.stack([1 - right, right], axis=1))
    temperature = fit_temperature(sample)
    # Left to the likelihood alone, it would fall to its lower bound. 40 claims of 0.8 that all come true
    # do speak for more than 0.8, those of 0.99 for hardly more.
    assert least < temperature <= 1.001
    if claim < 1 - 1e-9:
        assert calibrated(sample, temperature).probabilities.max() < 0.998


def test_a_single_image_hardly_moves_the_temperature():
    assert 0.5 < fit_temperature(predictions([1], np.array([[0.2, 0.8]]))) < 1.2


def test_temperatures_keep_the_order_and_one_changes_nothing():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [1e-30, 0.4, 0.6]])
    assert apply_temperature(probabilities, 1.0) == pytest.approx(probabilities, abs=1e-12)
    for temperature in (0.05, 3.0, 20.0):
        scaled = apply_temperature(probabilities, temperature)
        assert scaled.sum(axis=1) == pytest.approx(np.ones(3))
        assert scaled.argmax(axis=1).tolist() == [0, 2, 2]
    assert apply_temperature(np.array([[0.8, 0.2]]), 2.0)[0] == pytest.approx([2 / 3, 1 / 3])


def test_reliability_counts_what_came_true_in_each_bin():
    sample = of_scores(positives=[0.05, 0.31, 0.39, 1.0], negatives=[0.0, 0.02, 0.35])
    bins = reliability(sample, n_bins=10)
    assert bins.count.tolist() == [3, 3, 1]
    assert bins.predicted == pytest.approx([0.07 / 3, 0.35, 1.0])
    assert bins.observed == pytest.approx([1 / 3, 2 / 3, 1])
    assert (bins.low[1], bins.high[1]) == wilson(2, 3)


def test_reliability_of_more_classes_is_about_the_predicted_one():
    sample = predictions([0, 2, 1], np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.9, 0.0]]))
    bins = reliability(sample)
    assert bins.observed.tolist() == [0.5, 1]
    assert bins.count.tolist() == [2, 1]


POSITIVES = [0.9, 0.8, 0.75, 0.6, 0.3]
NEGATIVES = [0.7, 0.5, 0.4, 0.35, 0.2, 0.1]


@pytest.mark.parametrize(
    ("rule", "threshold", "value"),
    [
        # Above 0.55: 4 of 5 positives, 1 of 6 negatives.
        ("youden", 0.55, 4 / 5 + 5 / 6 - 1),
        ("f1", 0.55, 8 / 10),
        # The last positive lies at 0.3, the next score below at 0.2.
        ("recall>=0.95", 0.25, 1.0),
        ("recall>=0.8", 0.55, 0.8),
        # Three positives above 0.7 and no negative.
        ("precision>=0.9", 0.725, 1.0),
        ("specificity>=0.8", 0.55, 5 / 6),
        ("specificity>=1", 0.725, 1.0),
    ],
)
@pytest.mark.parametrize("positive", [0, 1])
def test_thresholds_on_a_sample_small_enough_to_see(rule, threshold, value, positive):
    decision = choose_threshold(of_scores(POSITIVES, NEGATIVES, positive), rule)
    assert decision.threshold == pytest.approx(threshold)
    assert decision.value == pytest.approx(value)
    assert (decision.n_positive, decision.n_negative, decision.met) == (5, 6, True)


def test_costs_weigh_misses_against_false_alarms():
    sample = of_scores(POSITIVES, NEGATIVES)
    dear_miss = choose_threshold(sample, "cost", cost_miss=20, cost_false_alarm=1)
    dear_alarm = choose_threshold(sample, "cost", cost_miss=1, cost_false_alarm=20)
    assert dear_miss.threshold == pytest.approx(0.25)
    assert dear_miss.value == pytest.approx(4 / 11)
    assert dear_alarm.threshold == pytest.approx(0.725)
    assert dear_alarm.value == pytest.approx(2 / 11)


def test_what_was_chosen_is_what_evaluation_finds():
    sample = network(300, 2, 2.0)
    for rule in ("youden", "f1", "recall>=0.95", "precision>=0.8", "specificity>=0.9"):
        decision = choose_threshold(sample, rule)
        found = evaluate(sample, decision.threshold, n_resamples=2)
        youden = found["recall"].value + found["specificity"].value - 1
        value = youden if rule == "youden" else found[decision.metric].value
        assert decision.value == pytest.approx(value), rule
        assert decision.met
    decision = choose_threshold(sample, "recall>=0.95")
    assert decision.interval == pytest.approx(
        (lambda e: (e.low, e.high))(evaluate(sample, decision.threshold, n_resamples=2)["recall"])
    )


@pytest.mark.parametrize("rule", ["recall>=0.8", "precision>=0.7", "specificity>=0.8", "f1", "0.4"])
def test_images_of_a_patient_count_as_dependent(rule: str) -> None:
    """Forty patients with six alike images each: bounds are those of ``evaluate`` on the same images."""
    few = network(40, 2, 1.0, seed=4)
    many = Predictions(
        *([f"{i}" for i in range(240)], ["val"] * 240, few.labels.repeat(6), few.probabilities.repeat(6, axis=0)),
        *(few.class_names, few.positive_class, [str(i // 6) for i in range(240)]),
    )
    decision = choose_threshold(many, rule)
    found = evaluate(many, decision.threshold, n_resamples=2)[decision.metric]
    assert (decision.value, *decision.interval) == pytest.approx((found.value, found.low, found.high))
    alone = choose_threshold(few, rule)
    assert decision.interval.high - decision.interval.low > 0.9 * (alone.interval.high - alone.interval.low)
    bins, of_few = reliability(many, 5), reliability(few, 5)
    assert np.all(bins.high - bins.low > 0.9 * (of_few.high - of_few.low))


def test_what_a_rule_was_chosen_on_is_told_with_its_own_n_and_interval():
    sample = of_scores(POSITIVES, NEGATIVES)
    # Above 0.55: 4 of 5 positives, 1 of 6 negatives.
    youden, f1 = choose_threshold(sample, "youden"), choose_threshold(sample, "f1")
    assert (youden.n, f1.n) == (11, 6)
    overlap = wilson(4, 6)
    assert f1.interval == pytest.approx([2 * bound / (1 + bound) for bound in overlap])
    assert youden.interval.low < youden.value < youden.interval.high
    recall = choose_threshold(sample, "recall>=0.95")
    assert (recall.n, recall.interval) == (5, wilson(5, 5))
    precision = choose_threshold(sample, "precision>=0.9")
    assert (precision.n, precision.interval) == (3, wilson(3, 3))
    cost = choose_threshold(sample, "cost")
    assert cost.n == 11
    assert np.isnan(cost.interval).all()


def test_a_recall_floor_keeps_as_much_specificity_as_it_can():
    sample = network(300, 2, 1.0)
    decision = choose_threshold(sample, "recall>=0.9")
    stricter = evaluate(sample, decision.threshold + 0.02, n_resamples=2)
    assert decision.value >= 0.9 > stricter["recall"].value


def test_a_floor_out_of_reach_takes_the_nearest_and_says_so():
    decision = choose_threshold(of_scores(positives=[0.6, 0.2], negatives=[0.9, 0.4, 0.3]), "precision>=0.9")
    assert not decision.met
    assert decision.value == pytest.approx(0.5)
    assert decision.threshold == pytest.approx(0.5)


def test_separated_classes_are_parted_in_the_middle_of_the_gap():
    sample = of_scores(positives=[0.9, 0.7], negatives=[0.1, 0.3])
    for rule in ("youden", "f1", "recall>=0.95", "precision>=0.95", "cost"):
        assert choose_threshold(sample, rule).threshold == pytest.approx(0.5), rule


def test_a_fixed_threshold_needs_no_second_class():
    decision = choose_threshold(of_scores(positives=[0.9, 0.2], negatives=[]), "0.3")
    assert (decision.threshold, decision.metric, decision.value) == (0.3, "accuracy", 0.5)


def test_rules_that_validation_cannot_answer_say_what_to_do():
    with pytest.raises(RunError, match=r"threshold=youden .* no image of 'a'; raise data.val_fraction, or set"):
        choose_threshold(of_scores(positives=[0.9], negatives=[]), "youden")
    many = predictions([0, 1], np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]))
    with pytest.raises(RunError, match=r"threshold=f1 needs two classes, and the data has 3; leave it at 0.5"):
        choose_threshold(many, "f1")
    decision = choose_threshold(many, "0.5")
    assert (decision.threshold, decision.value) == (None, 0.5)
    with pytest.raises(ValueError, match="is no rule"):
        choose_threshold(many, "best")


@pytest.mark.parametrize(("boast", "n"), [(3.0, 60), (0.4, 15)])
def test_the_temperature_is_the_maximum_of_the_posterior(boast, n):
    """Two classes have one logit, so that the likelihood can be written down; the prior's deviation is a factor of 2."""
    sample = network(n, 2, boast)
    logit = np.log(sample.probabilities[:, 1] / sample.probabilities[:, 0])
    sign = np.where(sample.labels == 1, 1, -1)

    def surprise(log_temperature):
        likelihood = np.logaddexp(0, -sign * logit / np.exp(log_temperature)).sum()
        return likelihood + (log_temperature / np.log(2)) ** 2 / 2

    (best,) = brute(lambda x: surprise(x[0]), [slice(-3, 3, 0.05)])
    assert fit_temperature(sample) == pytest.approx(np.exp(best), rel=1e-3)


def test_probabilities_of_zero_have_the_logit_of_the_smallest_float():
    tiny = float(np.finfo(np.float32).tiny)
    assert apply_temperature(np.array([[1.0, 0.0]]), 20.0)[0, 1] == pytest.approx(tiny**0.05 / (1 + tiny**0.05))


@pytest.mark.parametrize("positive", [0, 1])
def test_rules_have_intervals_of_the_images_that_they_speak_of(positive):
    sample = of_scores(POSITIVES, NEGATIVES, positive)
    youden = choose_threshold(sample, "youden")
    recall, specificity = wilson(4, 5), wilson(5, 6)
    # Youden's index is a sum of two independent proportions: their distances to the bounds add up as squares.
    below = np.hypot(4 / 5 - recall.low, 5 / 6 - specificity.low)
    above = np.hypot(recall.high - 4 / 5, specificity.high - 5 / 6)
    assert youden.interval == pytest.approx((youden.value - below, youden.value + above))
    floor = choose_threshold(sample, "specificity>=0.8")
    assert (floor.n, floor.interval) == (6, wilson(5, 6))
    assert (floor.metric, floor.rule, floor.met) == ("specificity", "specificity>=0.8", True)


@pytest.mark.parametrize("positive", [0, 1])
def test_a_fixed_threshold_has_the_accuracy_and_the_counts_of_validation(positive):
    sample = of_scores(POSITIVES, NEGATIVES, positive)
    decision = choose_threshold(sample, "0.38")
    # Above 0.38: four of five positives and three of six negatives.
    assert (decision.threshold, decision.value, decision.n) == (0.38, 7 / 11, 11)
    assert decision.interval == wilson(7, 11)
    assert (decision.n_positive, decision.n_negative, decision.met) == (5, 6, True)


def test_more_classes_have_the_accuracy_of_the_most_probable_one():
    decision = choose_threshold(predictions([0, 1, 2, 2], np.eye(3)[[0, 1, 2, 0]] * 0.7 + 0.1), "0.5")
    assert (decision.value, decision.n, decision.interval) == (0.75, 4, wilson(3, 4))
    assert (decision.metric, decision.n_positive, decision.n_negative) == ("accuracy", 0, 0)


@pytest.mark.parametrize(
    ("positives", "negatives", "missing"), [([], [0.3, 0.8], "b"), ([0.3], [], "a"), ([0.3, 0.8], [], "a")]
)
def test_a_rule_names_the_class_that_validation_lacks(positives, negatives, missing):
    with pytest.raises(RunError, match=f"no image of '{missing}'"):
        choose_threshold(of_scores(positives, negatives), "f1")
    other = "a" if missing == "b" else "b"
    with pytest.raises(RunError, match=f"no image of '{other}'"):
        choose_threshold(of_scores(positives, negatives, positive=0), "f1")


def test_of_equally_good_thresholds_the_nearest_to_the_middle_or_to_the_price_is_taken():
    # Between 0.2 and 0.6, 0.6 and 0.8, 0.8 and 0.9: Youden's index is 1/2 at 0.4 and at 0.85.
    sample = of_scores(positives=[0.9, 0.6], negatives=[0.8, 0.2])
    assert choose_threshold(sample, "youden").threshold == pytest.approx(0.4)
    # One miss or one alarm cost the same 1/4: at 0.4 and at 0.85, and nothing costs less.
    assert choose_threshold(sample, "cost").threshold == pytest.approx(0.4)
    # A false alarm costs 1 and a miss 1/19: at 0.85, (1/19) / 4 beats all others; the threshold lies nearest to 0.95.
    dear = choose_threshold(sample, "cost", cost_miss=1 / 19, cost_false_alarm=1)
    assert (dear.threshold, dear.value) == (pytest.approx(0.85), pytest.approx(1 / 76))
    # Neither price can be told apart from the other by the counts: 3:1 pulls it towards 1/4, 1:3 towards 3/4.
    symmetric = of_scores(positives=[0.9, 0.1], negatives=[0.9, 0.1])
    assert choose_threshold(symmetric, "cost", 1, 1).threshold == pytest.approx(0.5)
    assert choose_threshold(symmetric, "cost", 3, 1).threshold == pytest.approx(0.05)
    assert choose_threshold(symmetric, "cost", 1, 3).threshold == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("rule", "threshold", "value"),
    [
        # All are chosen only below the lowest probability, none only above the highest.
        ("recall>=1", 0.1, 1.0),
        ("specificity>=1", 0.9, 1.0),
    ],
)
def test_thresholds_beyond_the_lowest_and_the_highest_probability_lie_halfway_to_the_end(rule, threshold, value):
    decision = choose_threshold(of_scores(positives=[0.2, 0.7], negatives=[0.8, 0.5]), rule)
    assert (decision.threshold, decision.value) == (pytest.approx(threshold), value)


def test_nineteen_of_twenty_meet_a_floor_of_95_percent():
    positives = np.linspace(0.5, 0.9, 19)
    decision = choose_threshold(of_scores([*positives, 0.1], [0.3, 0.2]), "recall>=0.95")
    assert (decision.value, decision.threshold, decision.met) == (0.95, pytest.approx(0.4), True)


def test_a_floor_counts_ties_as_one_threshold():
    decision = choose_threshold(of_scores([0.8, 0.6, 0.6], [0.6, 0.2]), "recall>=0.5")
    assert (decision.threshold, decision.value) == (pytest.approx(0.4), 1.0)


def test_the_default_of_reliability_is_ten_bins_of_equal_width():
    sample = of_scores(positives=[0.15, 0.55, 0.999], negatives=[0.149, 0.25, 0.5])
    bins = reliability(sample)
    assert bins.count.tolist() == [2, 1, 2, 1]
    assert bins.predicted == pytest.approx([0.1495, 0.25, 0.525, 0.999])
    for i, (hits, n) in enumerate([(1, 2), (0, 1), (1, 2), (1, 1)]):
        assert (bins.low[i], bins.high[i]) == wilson(hits, n)


def test_candidates_lie_halfway_between_probabilities_and_once_below_and_above_all():
    found = _candidates(np.array([0.2, 0.6, 0.6, 0.8]), np.array([False, True, False, True]))
    assert found.thresholds == pytest.approx([0.1, 0.4, 0.7, 0.9])
    counts = [found.tp.tolist(), found.fp.tolist(), found.fn.tolist(), found.tn.tolist()]
    assert counts == [[2, 2, 1, 0], [2, 1, 0, 0], [0, 0, 1, 2], [0, 1, 2, 2]]
