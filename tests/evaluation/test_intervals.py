import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from raylight.evaluation import intervals
from raylight.evaluation.bootstrap import bca
from raylight.evaluation.intervals import Z


@pytest.mark.parametrize(("hits", "n"), [(40, 40), (0, 7), (1, 1), (39, 40), (8123, 9000)])
def test_wilson_agrees_with_scipy(hits, n):
    assert intervals.wilson(hits, n) == pytest.approx(
        stats.binomtest(hits, n).proportion_ci(method="wilson"), abs=1e-12
    )


def test_forty_of_forty_says_91_to_100_percent():
    low, high = intervals.wilson(40, 40)
    assert f"{low:.1%} to {high:.0%}" == "91.2% to 100%"


def likelihood_score(gains, losses, n, difference):
    """Tango's statistic, its nuisance share found by maximising the likelihood instead of by the closed form."""

    def surprise(q):
        shares, counts = (
            np.array([q + difference, q, 1 - 2 * q - difference]),
            np.array([gains, losses, n - gains - losses]),
        )
        return -sum(c * np.log(max(s, 1e-300)) for c, s in zip(counts, shares, strict=True) if c)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    q = optimize.minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (gains - losses - n * difference) / np.sqrt(n * (2 * q + difference - difference**2))


@pytest.mark.parametrize(("gains", "losses", "n"), [(2, 12, 50), (1, 0, 60), (5, 5, 60), (30, 9, 400)])
def test_tango_bounds_are_where_the_score_statistic_is_critical(gains, losses, n):
    low, high = intervals.tango(gains, losses, n)
    assert likelihood_score(gains, losses, n, low) == pytest.approx(Z, abs=1e-4)
    assert likelihood_score(gains, losses, n, high) == pytest.approx(-Z, abs=1e-4)
    assert intervals.tango(losses, gains, n) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("gains", "losses", "n"), [(0, 0, 40), (0, 0, 1), (5, 0, 5), (0, 5, 5)])
def test_tango_has_a_width_where_nothing_varies(gains, losses, n):
    low, high = intervals.tango(gains, losses, n)
    assert -1 <= low < (gains - losses) / n + 1e-6
    assert (gains - losses) / n - 1e-6 < high <= 1
    assert high - low > 0.1


def test_nothing_seen_has_no_interval():
    assert np.isnan(intervals.wilson(0, 0)).all()
    assert np.isnan(intervals.proportion(np.zeros(0, bool), None)).all()


def test_images_that_repeat_their_group_count_once():
    rng = np.random.default_rng(0)
    outcomes = rng.random(60) < 0.8
    tripled, groups = np.repeat(outcomes, 3), np.repeat(np.arange(60), 3)
    alone = intervals.proportion(outcomes, None)
    together = intervals.proportion(tripled, groups)
    # The same width as of 60 images, but for the t distribution that 60 groups ask for.
    assert np.subtract(*together) == pytest.approx(np.subtract(*alone), rel=0.03)
    assert np.subtract(*together) < 1.5 * np.subtract(*intervals.proportion(tripled, None))
    # All right: nothing shows whether images of a group agree, so groups count, not images.
    assert intervals.proportion(np.ones(180, bool), groups) == intervals.wilson(60, 60)


def test_groups_that_do_not_matter_cost_little():
    rng = np.random.default_rng(1)
    outcomes, groups = rng.random(3000) < 0.7, np.repeat(np.arange(1000), 3)
    assert intervals.effective_size(outcomes, groups) == pytest.approx(3000, rel=0.1)


def test_effective_groups_of_unequal_size():
    groups = np.array([0] * 8 + [1, 2])
    # Kish: 10^2 / (8^2 + 1 + 1).
    assert intervals.independent_groups(groups) == pytest.approx(100 / 66)
    assert intervals.independent_groups(None, 7) == 7


def test_a_mean_of_proportions_has_the_width_of_its_parts():
    parts = [intervals.wilson(18, 20), intervals.wilson(20, 20)]
    low, high = intervals.mean_of([0.9, 1.0], parts)
    assert low == pytest.approx(0.95 - np.hypot(0.9 - parts[0].low, 1 - parts[1].low) / 2)
    assert high == pytest.approx(0.95 + (parts[0].high - 0.9) / 2)


def test_a_mean_of_equal_recalls_is_the_proportion_of_all_images():
    assert intervals.mean_recall(np.full(8, 0.75), np.full(8, 4)) == pytest.approx(intervals.wilson(24, 32))
    # Without a mistake too; a class of one image counts as much as one of nine.
    assert intervals.mean_recall(np.ones(2), np.array([1, 9])) == pytest.approx(intervals.wilson(3.6, 3.6))


def test_a_mean_of_hundred_recalls_of_one_image_covers_the_truth():
    """Of 300 samples 95 % are 285; classes' own Wilson intervals, combined, cover 230."""
    rng = np.random.default_rng(10)
    samples = (rng.random((300, 100)) < 0.8).astype(float)
    covered = sum(low <= 0.8 <= high for low, high in (intervals.mean_recall(one, np.ones(100)) for one in samples))
    assert 274 <= covered <= 296


@pytest.mark.parametrize(
    ("n", "positives", "recall", "specificity"), [(12, 0.5, 0.84, 0.84), (12, 0.5, 0.9, 0.9), (20, 0.2, 0.6, 0.9)]
)
def test_the_interval_of_two_recalls_covers_the_truth_by_enumeration(n, positives, recall, specificity):
    """Every outcome, weighed by its binomial probability. Alone, Wilson's combined cover 91.9, 90.8 and 96.2 %, and Wilson's
    of the shrunk mean 96.1, 95.5 and 89.6 %."""
    covered = total = 0.0
    for k in range(1, n):
        probability = stats.binom.pmf(k, n, positives) * np.outer(
            stats.binom.pmf(np.arange(k + 1), k, recall), stats.binom.pmf(np.arange(n - k + 1), n - k, specificity)
        )
        for hits, rejected in np.argwhere(probability > 1e-6):
            recalls, sizes = np.array([hits / k, rejected / (n - k)]), np.array([k, n - k], float)
            low, high = intervals.balanced_recall(recalls, sizes)
            total += probability[hits, rejected]
            covered += probability[hits, rejected] * (low <= (recall + specificity) / 2 <= high)
    assert 0.94 < covered / total < 0.975


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(5)
    data = rng.exponential(size=60)
    theirs = stats.bootstrap((data,), np.mean, n_resamples=4000, method="BCa", rng=rng)
    left_out = (data.sum() - data) / 59
    ours = bca(data.mean(), theirs.bootstrap_distribution, left_out)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.004)
    # An exponential mean is skewed; plain percentiles lie further down.
    assert ours.high > np.quantile(theirs.bootstrap_distribution, 0.975)


def test_bca_of_few_units_is_widened_as_students_t_is():
    drawn = np.random.default_rng(3).normal(0.5, 0.1, 4000)
    low, high = bca(0.5, drawn, np.full(10, 0.5))
    few = bca(0.5, drawn, np.full(10, 0.5), units=10)
    factor = stats.t.ppf(0.975, 9) / Z * np.sqrt(10 / 9)
    assert few == pytest.approx((0.5 - factor * (0.5 - low), 0.5 + factor * (high - 0.5)))


def test_bca_leaves_undefined_resamples_aside_and_says_when_there_is_nothing():
    rng = np.random.default_rng(6)
    drawn = rng.normal(0.5, 0.1, 500)
    some = bca(0.5, np.r_[drawn, [np.nan] * 50], np.full(10, 0.5))
    assert some == bca(0.5, drawn, np.full(10, 0.5))
    assert np.isnan(bca(np.nan, drawn, drawn)).all()


def calibration_interval(probabilities, truth, groups=None):
    bins = np.minimum((probabilities * 15).astype(int), 14)
    claimed = probabilities * (1 - probabilities)
    return intervals.calibration_error(truth - probabilities, claimed, bins, groups)


def test_calibration_bounds_hold_for_calibrated_and_for_wrong_probabilities():
    rng = np.random.default_rng(7)
    calibrated, wrong = 0, 0
    for _ in range(60):
        honest = rng.beta(0.7, 0.7, 150)
        truth = rng.random(150) < honest
        calibrated += calibration_interval(honest, truth).low == 0
        # Claims of 0.9 and 0.1 that come true at 0.7 and 0.3: an error of 0.2.
        boast = np.repeat([0.9, 0.1], 75)
        low, high = calibration_interval(boast, rng.random(150) < np.where(boast > 0.5, 0.7, 0.3))
        wrong += low <= 0.2 <= high
    assert calibrated >= 56
    assert wrong >= 55


def test_calibration_bounds_are_wider_for_groups():
    rng = np.random.default_rng(8)
    boast = np.repeat([0.9, 0.1], 60)
    truth = rng.random(120) < np.where(boast > 0.5, 0.6, 0.4)
    single = calibration_interval(boast, truth)
    repeated = calibration_interval(np.repeat(boast, 4), np.repeat(truth, 4), np.repeat(np.arange(120), 4))
    assert repeated == pytest.approx(single, abs=0.02)


def test_every_interval_contains_its_value():
    for hits, n in itertools.product(range(6), [5, 6]):
        low, high = intervals.wilson(hits, n)
        assert 0 <= low <= hits / n <= high <= 1


def test_the_effective_size_has_statsmodels_clustered_variance():
    import statsmodels.api as sm

    rng = np.random.default_rng(12)
    groups = np.repeat(np.arange(25) + 100, rng.integers(1, 9, 25))
    outcomes = rng.random(len(groups)) < np.repeat(rng.beta(3, 1.5, 25), np.unique(groups, return_counts=True)[1])
    fitted = sm.OLS(outcomes.astype(float), np.ones(len(groups))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    share = outcomes.mean()
    known = stats.t.ppf(0.975, 24)  # 25 groups tell the variance no better than so
    expected = share * (1 - share) / fitted.cov_params()[0, 0] * (Z / known) ** 2
    assert intervals.independent_groups(groups) < expected < len(groups)
    assert intervals.effective_size(outcomes, groups) == pytest.approx(expected)
    assert intervals.proportion(outcomes, groups) == pytest.approx(intervals.wilson(share * expected, expected))


def test_a_single_group_is_a_single_image_and_two_may_be_more():
    outcomes = np.array([True, True, False, True])
    assert intervals.effective_size(outcomes, np.zeros(4, int)) == 1
    # Groups that have the same share in each: their variance is 0, and their images are as good as independent.
    balanced = np.array([True, False, True, False])
    assert intervals.effective_size(balanced, np.array([0, 0, 1, 1])) == 4
    # No image at all.
    assert intervals.effective_size(np.zeros(0, bool), np.zeros(0, int)) == 0
    assert intervals.independent_groups(np.zeros(0, int)) == 0
    assert intervals.independent_groups(None) == 0


def test_tango_without_images_or_with_nothing_but_gains():
    assert np.isnan(intervals.tango(0, 0, 0)).all()
    assert intervals.tango(9, 0, 9).high == 1
    assert intervals.tango(0, 9, 9).low == -1
    # All gains: the lower bound solves n (1 - d) = z^2 (1 + d), where the likelihood is greatest without losses.
    assert intervals.tango(9, 0, 9).low == pytest.approx((9 - Z**2) / (9 + Z**2), abs=1e-6)


def test_a_mean_of_unequal_recalls_is_shrunk_by_two_images():
    recalls, sizes = np.array([1.0, 0.5, 0.25]), np.array([1.0, 4.0, 8.0])
    mean = 1.75 / 3
    shrunk = (recalls * sizes + 2 * mean) / (sizes + 2)
    n = mean * (1 - mean) / (np.sum(shrunk * (1 - shrunk) / sizes) / 9)
    assert intervals.mean_recall(recalls, sizes) == pytest.approx(intervals.wilson(mean * n, n))
    # All wrong: nine classes over the sum of 1 / size.
    assert intervals.mean_recall(np.zeros(3), sizes) == pytest.approx(intervals.wilson(0, 9 / (1 + 1 / 4 + 1 / 8)))


def test_two_recalls_have_the_wider_of_both_bounds():
    recalls, sizes = np.array([0.6, 0.95]), np.array([5.0, 40.0])
    each = intervals.mean_of([0.6, 0.95], [intervals.wilson(3, 5), intervals.wilson(38, 40)])
    shrunk = intervals.mean_recall(recalls, sizes)
    assert each.low != shrunk.low
    assert intervals.balanced_recall(recalls, sizes) == (min(each.low, shrunk.low), max(each.high, shrunk.high))
    assert intervals.f1_from_overlap(0.25) == pytest.approx(0.4)


def test_calibration_bounds_of_a_bin_are_those_of_its_normal_noise():
    """One bin: the noise is normal, so that 97.5 % of its absolute values lie within 2.24 deviations."""
    truth = np.repeat([1.0, 0.0], [70, 30])
    gaps, model_variance = truth - 0.5, np.full(100, 0.25)
    deviation = np.sqrt(max(np.sum((gaps - gaps.mean()) ** 2), 25.0))  # 25 under the model's probabilities
    low, high = intervals.calibration_error(gaps, model_variance, np.full(100, 3), None)
    assert high == pytest.approx(0.2 + Z * deviation / 100)
    assert low == pytest.approx(0.2 - stats.norm.ppf(0.9875) * deviation / 100, abs=0.006)
    # Fewer certain claims have more variance of their own than the model says.
    spread_out = intervals.calibration_error(gaps, np.full(100, 0.05), np.full(100, 3), None)
    assert spread_out.high == pytest.approx(0.2 + Z * np.sqrt(100 * 0.7 * 0.3) / 100)


def test_calibration_bounds_of_bins_that_share_groups_add_their_covariances():
    gaps = np.array([0.3, -0.5, 0.2, 0.6, 0.1, -0.2])
    bins, groups = np.array([0, 0, 0, 7, 7, 7]), np.array([1, 1, 2, 1, 2, 2])
    centred = gaps - np.repeat([gaps[:3].mean(), gaps[3:].mean()], 3)
    sums = np.array([[centred[(bins == b) & (groups == g)].sum() for b in (0, 7)] for g in (1, 2)])
    covariance = sums.T @ sums
    _, high = intervals.calibration_error(gaps, np.zeros(6), bins, groups)
    error = (abs(gaps[:3].sum()) + abs(gaps[3:].sum())) / 6
    assert high == pytest.approx(error + Z * np.sqrt(np.abs(covariance).sum()) / 6)
    # Many images of little noise: bounds of the range.
    assert intervals.calibration_error(np.full(4, 0.99), np.full(4, 9.0), np.arange(4), None) == (0, 1)
