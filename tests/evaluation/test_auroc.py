import numpy as np
import pytest
from scipy import stats

from raylight.evaluation.auroc import auroc_interval, midranks
from raylight.evaluation.intervals import Z


def brute_force_delong(positives, negatives):
    wins = np.array([[(p > n) + 0.5 * (p == n) for n in negatives] for p in positives])
    variance = wins.mean(axis=1).var(ddof=1) / len(positives) + wins.mean(axis=0).var(ddof=1) / len(negatives)
    return wins.mean(), variance


def hanley_mcneil(area, n_positive, n_negative):
    """In Newcombe's form: both classes have the mean number of others."""
    others = (n_positive + n_negative) / 2 - 1
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    # Hanley and McNeil: A(1-A) + (n-1)(Q1-A^2) + (n-1)(Q2-A^2), over the pairs.
    return (area * (1 - area) + others * (q1 - area**2 + q2 - area**2)) / (n_positive * n_negative)


def test_the_auroc_interval_solves_its_score_equation_with_delongs_variance_ties_included():
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], [230, 310])
    scores = np.round(rng.normal(labels, 1), 1)
    area, variance = brute_force_delong(scores[labels == 1], scores[labels == 0])
    ratio = variance / hanley_mcneil(area, 230, 310)
    informative = 230 * 4 * area * (1 - area)
    ratio = max(ratio, (ratio * informative + 1.25 * 7) / (informative + 7))
    interval, method = auroc_interval(labels, scores[:, None], [1], None)
    assert method == "score"
    for bound in interval:
        assert abs(area - bound) == pytest.approx(Z * np.sqrt(ratio * hanley_mcneil(bound, 230, 310)), rel=1e-6)
    # Of many images it is what everyone's is.
    assert (interval.high - interval.low) / (2 * Z) == pytest.approx(np.sqrt(variance), rel=0.03)


def test_delong_of_repeated_images_is_that_of_their_groups():
    rng = np.random.default_rng(3)
    labels = np.repeat([1, 0], [100, 120])
    scores = rng.normal(labels * 1.5, 1)[:, None]
    alone, _ = auroc_interval(labels, scores, [1], None)
    grouped, _ = auroc_interval(np.repeat(labels, 4), np.repeat(scores, 4, axis=0), [1], np.repeat(np.arange(220), 4))
    ungrouped, _ = auroc_interval(np.repeat(labels, 4), np.repeat(scores, 4, axis=0), [1], None)
    assert grouped == pytest.approx(alone, abs=2e-3)
    assert np.diff(ungrouped) < 0.55 * np.diff(alone)


def test_a_mean_of_several_aurocs_varies_as_its_bootstrap_does():
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], 70)
    scores = rng.normal(size=(210, 3)) + 1.5 * np.eye(3)[labels]
    (low, high), _ = auroc_interval(labels, scores, [0, 1, 2], None)

    def mean_area(rows):
        areas = []
        for k in range(3):
            score, truth = scores[rows, k], labels[rows] == k
            ranks = stats.rankdata(score)[truth].sum()
            areas.append((ranks - truth.sum() * (truth.sum() + 1) / 2) / (truth.sum() * (~truth).sum()))
        return np.mean(areas)

    drawn = [mean_area(np.concatenate([k * 70 + rng.integers(0, 70, 70) for k in range(3)])) for _ in range(600)]
    assert (high - low) / (2 * Z) == pytest.approx(np.std(drawn), rel=0.12)


def test_a_perfect_auroc_is_not_certain():
    labels = np.repeat([1, 0], 20)
    (low, high), _ = auroc_interval(labels, labels[:, None] * 0.8, [1], None)
    assert high == 1
    assert 1 - low == pytest.approx(Z * np.sqrt(1.25 * hanley_mcneil(low, 20, 20)), rel=1e-6)
    # Fewer patients than images: less is known.
    (grouped_low, _), _ = auroc_interval(labels, labels[:, None] * 0.8, [1], np.arange(40) // 4)
    assert grouped_low < low - 0.1
    # Turned around, it mirrors.
    turned, _ = auroc_interval(labels, labels[:, None] * -0.8, [1], None)
    assert turned == pytest.approx((0, 1 - low), abs=1e-6)


@pytest.mark.parametrize(("n_positive", "n_negative"), [(20, 180), (20, 20)])
@pytest.mark.parametrize("hopeless", [0.0, 0.06])
def test_an_auroc_of_twenty_positives_is_covered(n_positive, n_negative, hopeless):
    """Of 300, 95 % are 285; of normal scores and 180 negatives, DeLong's logit interval covers some 271."""
    rng = np.random.default_rng(9)
    labels = np.repeat([1, 0], [n_positive, n_negative])
    truth, distance = (0.97, stats.norm.ppf(0.97) * np.sqrt(2)) if hopeless == 0 else (0.97, 6.0)
    covered = 0
    for _ in range(300):
        shift = np.where(rng.random(len(labels)) < hopeless, 0, distance) * labels
        (low, high), _ = auroc_interval(labels, rng.normal(shift, 1)[:, None], [1], None)
        covered += low <= truth <= high
    assert covered >= 275


def brute_force_mean_area(labels, scores, units):
    """The mean area over classes, its variance from influences of all pairs, and Hanley and McNeil's counts."""
    k, n = scores.shape[1], len(labels)
    areas, influence = [], np.zeros(n)
    for c in range(k):
        positive = labels == c
        wins = (scores[positive, c][:, None] > scores[~positive, c]) + 0.5 * (
            scores[positive, c][:, None] == scores[~positive, c]
        )
        areas.append(wins.mean())
        influence[positive] += (wins.mean(axis=1) - wins.mean()) / positive.sum() / k
        influence[~positive] += (wins.mean(axis=0) - wins.mean()) / (~positive).sum() / k
    total = np.zeros(n)
    for c in range(k):
        rows = labels == c
        clusters = len(set(units[rows]))
        several = (influence[rows] - influence[rows].mean()) * np.sqrt(clusters / max(clusters - 1, 1))
        total[rows] = several if clusters > 1 else influence[rows]  # a single image has no variance of its own to widen
    variance = sum(total[units == unit].sum() ** 2 for unit in set(units))
    return areas, variance


@pytest.mark.parametrize(("grouped", "rarest"), [(False, 8), (True, 8), (False, 1)])
def test_the_interval_of_a_mean_of_aurocs_solves_its_equation(grouped, rarest):
    rng = np.random.default_rng(13)
    labels = np.repeat([0, 1, 2], [rarest, 22 - rarest, 20])
    scores = np.round(rng.normal(size=(42, 3)) + 1.2 * np.eye(3)[labels], 1)
    groups = np.arange(42) // 2 * 5 if grouped else None
    units = np.arange(42) if groups is None else groups
    areas, variance = brute_force_mean_area(labels, scores, units)
    area = np.mean(areas)
    effective = lambda side: 1 / np.sum(np.square(np.unique(units[side], return_counts=True)[1] / side.sum()))  # noqa: E731
    counts = [(effective(labels == c), effective(labels != c)) for c in range(3)]
    claimed = lambda each: sum(hanley_mcneil(a, *n) for a, n in zip(each, counts, strict=True)) / 9  # noqa: E731
    ratio = variance / claimed(np.clip(areas, 1e-3, 1 - 1e-3))  # a perfect area has no variance to compare with
    informative = sum(positives for positives, _ in counts) * 4 * area * (1 - area)
    ratio = max(ratio, (ratio * informative + 1.25 * 7) / (informative + 7))
    z = stats.t.ppf(0.975, 21 - 3) if grouped else Z
    interval, _ = auroc_interval(labels, scores, [0, 1, 2], groups)
    for bound in interval:
        assert abs(area - bound) == pytest.approx(z * np.sqrt(ratio * claimed([bound] * 3)), rel=1e-5)


def test_an_auroc_without_one_of_the_sides_is_not_defined():
    interval, method = auroc_interval(np.zeros(4, int), np.ones((4, 1)), [0], None)
    assert np.isnan(interval).all()
    assert method == "not defined"


def test_equal_values_share_the_mean_of_their_ranks():
    values = np.random.default_rng(0).integers(0, 20, 100) / 7
    np.testing.assert_array_equal(midranks(values), stats.rankdata(values))
