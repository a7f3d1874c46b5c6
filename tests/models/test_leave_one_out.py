"""What the closed form gives is what scikit-learn's ridge regression gives that is fitted anew without each image or group."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from raylight.models.leave_one_out import RATIOS, head_of, leave_one_out, probabilities_of


def clouds(n: int, d: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    targets = np.arange(n) % n_classes
    features = rng.normal(0, 1, (n, d)) * rng.uniform(0.1, 30, d) + 5
    features[:, : n_classes - 1] += 20 * (targets[:, None] == np.arange(n_classes - 1))
    return features, targets


def refitted(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, penalty: float) -> np.ndarray:
    scaled = (features - features.mean(0)) / features.std(0)
    alpha = penalty * (scaled**2).sum() / len(scaled)
    truth, scores = np.eye(targets.max() + 1)[targets], np.zeros((len(targets), targets.max() + 1))
    for group in np.unique(groups):
        out = groups == group
        scores[out] = Ridge(alpha=alpha).fit(scaled[~out], truth[~out]).predict(scaled[out])
    return scores


@pytest.mark.parametrize(("n", "d", "n_classes"), [(40, 6, 2), (30, 50, 3)])
@pytest.mark.parametrize("grouped", [False, True])
def test_it_is_what_refitting_gives(n: int, d: int, n_classes: int, grouped: bool) -> None:
    features, targets = clouds(n, d, n_classes)
    groups = np.random.default_rng(0).permutation(np.arange(n) // 3 if grouped else np.arange(n))
    found = leave_one_out(features, targets, n_classes, groups)
    wanted = refitted(features, targets, groups, found.penalty)
    np.testing.assert_allclose(found.scores, wanted, atol=1e-8)
    truth = np.eye(n_classes)[targets]
    assert found.error == pytest.approx(((wanted - truth) ** 2).mean())
    errors = {ratio: ((refitted(features, targets, groups, ratio) - truth) ** 2).mean() for ratio in RATIOS}
    assert found.penalty == min(errors, key=lambda ratio: errors[ratio])
    assert found.right(targets).tolist() == (wanted.argmax(1) == targets).tolist()


def test_the_penalty_is_that_of_scikit_learn() -> None:
    features, targets = clouds(60, 80, 2)
    found = leave_one_out(features, targets, 2)
    scaled = (features - features.mean(0)) / features.std(0)
    alphas = np.array(RATIOS) * (scaled**2).sum() / 60
    wanted = RidgeCV(alphas=alphas).fit(scaled, targets)
    assert RATIOS[0] < found.penalty < RATIOS[-1]
    assert alphas[RATIOS.index(found.penalty)] == pytest.approx(wanted.alpha_)


def test_features_that_never_vary_do_no_harm_and_one_group_is_refused() -> None:
    features, targets = clouds(20, 4, 2)
    features[:, 3] = 7.0
    same = leave_one_out(features[:, :3], targets, 2)
    np.testing.assert_allclose(leave_one_out(features, targets, 2).scores, same.scores, atol=1e-8)
    with pytest.raises(ValueError, match="all images are of one group"):
        leave_one_out(features, targets, 2, np.zeros(20, int))


@pytest.mark.parametrize(("n", "d", "n_classes"), [(40, 6, 2), (30, 50, 3)])
def test_a_head_for_other_images_is_scikit_learns(n: int, d: int, n_classes: int) -> None:
    features, targets = clouds(n, d, n_classes)
    scaled = (features - features.mean(0)) / features.std(0)
    others = np.random.default_rng(1).normal(5, 10, (7, d))
    alpha = leave_one_out(features, targets, n_classes).penalty * (scaled**2).sum() / n
    wanted = Ridge(alpha=alpha).fit(scaled, np.eye(n_classes)[targets])
    given = head_of(features, targets, n_classes)(others)
    np.testing.assert_allclose(given, wanted.predict((others - features.mean(0)) / features.std(0)), atol=1e-9)


def test_probabilities_are_the_softmax_at_the_best_temperature() -> None:
    features, targets = clouds(60, 80, 3)
    found = leave_one_out(features, targets, 3)
    probabilities = probabilities_of(found, targets)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    losses = [
        -np.log(np.exp(found.scores / t)[np.arange(60), targets] / np.exp(found.scores / t).sum(1)).mean()
        for t in np.geomspace(0.01, 10, 400)
    ]
    assert -np.log(probabilities[np.arange(60), targets]).mean() <= min(losses) + 1e-6
