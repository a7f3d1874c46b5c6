"""Comparing recipes: which images are the same, what is tested, what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from typer.testing import CliRunner

from raylight.cli import app
from raylight.comparison.replicates import IncomparableError
from raylight.comparison.study import study_of
from raylight.comparison.sweep.table import sweep_table
from tests.comparison.run_folders import folds, run_folder, seeds


def test_images_are_paired_by_content_not_by_name(two: tuple[Path, Path]) -> None:
    (pair,) = study_of(two).pairs
    assert (pair.both, len(pair.only_first), len(pair.only_second), pair.neither) == (30, 8, 1, 1)
    assert pair.design == "networks"
    assert pair.differences["accuracy"].p_value == pytest.approx(
        mcnemar([[30, 8], [1, 1]], exact=False, correction=False).pvalue
    )
    assert pair.differences["accuracy"].value == pytest.approx(-7 / 40)
    assert pair.second.paths[pair.only_second[0]] == "cat/copy_000.png"
    assert next(pair.first.paths[key] for key in pair.only_first) == "dog/009.png"  # the surest mistake first


def test_caveats_of_runs_stand_beside_recipes_too(tmp_path: Path) -> None:
    """Eight test images of each class: rankings may miss the truth, whoever is compared."""
    few = [range(16)]
    study = study_of([*seeds(tmp_path, "small", [{0}, {1}], few), *seeds(tmp_path, "tiny", [{2, 3}, {3, 4, 5}], few)])
    assert [pair.design for pair in study.pairs] == ["recipes"]
    (told,) = [note for note in study.notes if "Fewer than 10 test images of a class" in note]
    assert told.startswith("AUROC, average precision:")
    alone = study_of(seeds(tmp_path / "alone", "small", [{0}, {1}], few))
    assert told in alone.notes


def test_three_runs_are_corrected_for_three_pairs(two: tuple[Path, Path], tmp_path: Path) -> None:
    third = run_folder(tmp_path / "third", tmp_path / "here", {0, 1, 30}, overrides=("model.name=third",))
    study = study_of([*two, third])
    assert len(study.pairs) == 3
    raw = [pair.differences["accuracy"].p_value for pair in study.pairs]
    corrected = [pair.corrected["accuracy"] for pair in study.pairs]
    assert corrected[raw.index(min(raw))] == pytest.approx(3 * min(raw))


def test_runs_that_differ_by_seed_alone_are_one_recipe_and_two_recipes_one_comparison(tmp_path: Path) -> None:
    """p and interval by Obuchowski and Rockette's formulas, from the sample covariances of right and wrong."""
    wrong = [
        [{0, 1, 5}, {1, 2}, {1, 3, 4, 5}],
        [{1, 6, 7, 8, 9, 11}, {1, 2, 6, 7, 12, 13, 14}, {1, 5, 6, 7, 8, 15, 16, 17}],
    ]
    study = study_of([*seeds(tmp_path, "small", wrong[0]), *seeds(tmp_path, "tiny", wrong[1])])
    assert [(one.name, len(one.replicates)) for one in study.recipes] == [
        ("small model.name=small", 3),
        ("tiny model.name=tiny", 3),
    ]
    (pair,) = study.pairs
    assert pair.design == "recipes"

    right = np.array([[[i not in mistakes for i in range(40)] for mistakes in recipe] for recipe in wrong], float)
    accuracy = right.mean(axis=2)
    cov = np.cov(right.reshape(6, 40)) / 40
    different = ~np.eye(3, dtype=bool)
    images = cov[:3, :3][different].mean() + cov[3:, 3:][different].mean() - 2 * cov[:3, 3:].mean()
    parts = accuracy.var(axis=1, ddof=1) / 3
    variance = parts.sum() + max(images, 0)
    freedom = variance**2 / (parts**2 / 2).sum()
    difference = accuracy[1].mean() - accuracy[0].mean()
    found = pair.differences["accuracy"]
    assert found.value == pytest.approx(difference)
    assert found.p_value == pytest.approx(2 * t.sf(abs(difference) / variance**0.5, freedom))
    assert found.high == pytest.approx(difference + t.ppf(0.975, freedom) * variance**0.5)


CONFIDENCE = "metrics.confidence._target_=tests.evaluation.differences.test_own.Confidence"
"""Mean probability of the true class, which is a mean over images like accuracy."""


def confidences(wrong: Sequence[Sequence[set[int]]], images: int) -> np.ndarray:
    """Probability of the true class of each image, by recipe and run: what ``run_folder`` writes."""
    sure = 0.6 + 0.005 * np.arange(images)
    return np.array([[[1 - sure[i] if i in some else sure[i] for i in range(images)] for some in of] for of in wrong])


def test_own_metrics_of_several_seeds_are_averaged_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean, standard deviation and interval by hand, the difference by Obuchowski and Rockette's formulas."""
    monkeypatch.setenv("RAYLIGHT_ALLOWED_TARGETS", "tests")
    wrong = [[{0, 1, 5}, {1, 2}, {1, 3, 4, 5}], [{1, 6, 7, 8, 9}, {1, 2, 6, 7, 12, 13, 14}, {1, 5, 6, 15}]]
    small, tiny = (
        seeds(tmp_path / "sweep", name, of, (range(40),), CONFIDENCE)
        for name, of in zip(("small", "tiny"), wrong, strict=True)
    )
    study = study_of([*small, *tiny])
    surest = confidences(wrong, 40)
    means = surest.mean(axis=2)
    for recipe, of in zip(study.recipes, means, strict=True):
        found = recipe.metrics["confidence"]
        assert found.values == pytest.approx(of, abs=1e-6)
        assert found.mean == pytest.approx(of.mean(), abs=1e-6)
        assert found.deviation == pytest.approx(of.std(ddof=1), abs=1e-6)
        kept = [
            json.loads((one.facts.run / "metrics.json").read_text())["test/confidence"] for one in recipe.replicates
        ]
        below = np.mean([one["value"] - one["low"] for one in kept])
        assert found.low == pytest.approx(
            of.mean() - np.hypot(t.ppf(0.975, 2) * of.std(ddof=1) / 3**0.5, below), abs=1e-6
        )

    (pair,) = study.pairs
    cov = np.cov(surest.reshape(6, 40)) / 40
    different = ~np.eye(3, dtype=bool)
    images = cov[:3, :3][different].mean() + cov[3:, 3:][different].mean() - 2 * cov[:3, 3:].mean()
    parts = means.var(axis=1, ddof=1) / 3
    variance = parts.sum() + max(images, 0)
    freedom = variance**2 / (parts**2 / 2).sum()
    found = pair.differences["confidence"]
    assert (pair.design, found.value) == ("recipes", pytest.approx(means[1].mean() - means[0].mean(), abs=1e-6))
    assert found.p_value == pytest.approx(2 * t.sf(abs(found.value) / variance**0.5, freedom), rel=1e-4)
    assert found.high - found.value == pytest.approx(t.ppf(0.975, freedom) * variance**0.5, rel=1e-4)

    rows = sweep_table(tmp_path / "sweep").rows
    assert [row.metrics["confidence"].mean for row in rows] == pytest.approx(means.mean(axis=1), abs=1e-6)

    monkeypatch.delenv("RAYLIGHT_ALLOWED_TARGETS")
    (pair,) = study_of([*small, *tiny]).pairs
    assert "confidence" not in pair.differences
    assert pair.differences["accuracy"].p_value > 0


def test_a_split_per_seed_pairs_the_runs_of_a_seed(tmp_path: Path) -> None:
    """The corrected resampled t-test by hand; the fourth seed of one recipe has no partner."""
    images = [range(20), range(15, 35), range(30, 50), range(2, 22)]
    wrong = [[{0}, {15, 16}, set(), {2}], [{0, 1, 2}, {15, 16, 17}, {31, 32, 33, 34}]]
    small = seeds(tmp_path, "small", wrong[0], images, "data.split_seed=null")
    tiny = seeds(tmp_path, "tiny", wrong[1], images, "data.split_seed=null")
    (pair,) = study_of([*small, *tiny]).pairs
    assert (pair.design, pair.left_out) == ("splits", 1)
    differences = np.array([-2, -1, -4]) / 20
    # No image of these runs is a training image; the pipeline's have at least one.
    standard_error = (differences.var(ddof=1) * (1 / 3 + 20)) ** 0.5
    found = pair.differences["accuracy"]
    assert found.value == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(2 * t.sf(abs(differences.mean()) / standard_error, 2))


def test_own_metrics_are_compared_where_each_seed_has_a_split_and_where_no_image_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLIGHT_ALLOWED_TARGETS", "tests")
    images, wrong = [range(20), range(15, 35)], [[{0}, {15, 16}], [{0, 1, 2}, {15, 17}]]
    small, tiny = (
        seeds(tmp_path, name, of, images, "data.split_seed=null", CONFIDENCE)
        for name, of in zip(("small", "tiny"), wrong, strict=True)
    )
    surest = confidences(
        [[{i - part[0] for i in some} for some, part in zip(of, images, strict=True)] for of in wrong], 20
    )
    (pair,) = study_of([*small, *tiny]).pairs
    differences = (surest[1] - surest[0]).mean(axis=1)
    standard_error = (differences.var(ddof=1) * (1 / 2 + 20)) ** 0.5
    found = pair.differences["confidence"]
    assert (pair.design, found.value) == ("splits", pytest.approx(differences.mean(), abs=1e-6))
    assert found.p_value == pytest.approx(2 * t.sf(abs(differences.mean()) / standard_error, 1), rel=1e-4)

    (pair,) = study_of(
        [
            small[0],
            run_folder(
                tmp_path / "other",
                tmp_path / "data",
                {41},
                range(40, 60),
                overrides=("model.name=b", "data.split_seed=2", CONFIDENCE),
            ),
        ]
    ).pairs
    other = confidences([[{1}]], 20)[0, 0]
    found = pair.differences["confidence"]
    assert (pair.design, found.value) == ("unpaired", pytest.approx(other.mean() - surest[0, 0].mean(), abs=1e-6))
    # The jackknife leaves out 40 images, one at a time; a mean over 20 moves by (mean - value) / 19 where it has the image.
    standard_error = (39 / 40 * (surest[0, 0].var(ddof=1) + other.var(ddof=1)) / 19) ** 0.5
    assert found.high - found.value == pytest.approx(t.ppf(0.975, 39) * standard_error, rel=1e-4)


def test_runs_on_other_images_are_compared_unpaired_and_it_is_said(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", tmp_path / "data", {1, 2}, range(40), overrides=("model.name=a", "seed=1"))
    other = run_folder(
        tmp_path / "other",
        tmp_path / "data",
        set(range(50, 60)),
        range(40, 80),
        overrides=("model.name=b", "data.split_seed=2"),
    )
    done = CliRunner().invoke(app, ["compare", str(one), str(other)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "have 0 in common), so they aren't paired and the interval is wider" in said
    assert "data.split_seed=1" in said
    (pair,) = study_of([one, other]).pairs
    standard_error = (0.05 * 0.95 / 39 + 0.25 * 0.75 / 39) ** 0.5
    found = pair.differences["accuracy"]
    assert (found.high - found.value) / t.ppf(0.975, 79) == pytest.approx(standard_error, rel=0.01)


def test_different_labels_are_refused(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", tmp_path / "data", set())
    other = run_folder(tmp_path / "other", tmp_path / "data", set(), relabelled=frozenset({4}))
    with pytest.raises(IncomparableError, match=r"1 of 40 images have another class .*cat/004.png"):
        study_of([one, other])


def test_the_folds_of_a_cross_validation_are_joined(tmp_path: Path) -> None:
    study = study_of([*folds(tmp_path, "small", {3}), *folds(tmp_path, "tiny", {3, 4, 14, 25})])
    assert [one.name for one in study.recipes] == ["small model.name=small", "tiny model.name=tiny"]
    (pair,) = study.pairs
    assert pair.shared == 30
    assert (len(pair.only_first), len(pair.only_second), pair.neither) == (3, 0, 1)
    assert pair.first.seconds == pytest.approx(37.5)
    assert any("folds" in note for note in study.notes)
