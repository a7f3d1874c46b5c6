"""What the runs of a recipe say of an image, and which folds make one."""

from pathlib import Path

import numpy as np
import pytest

from raylight.comparison.recipes import _vote
from raylight.comparison.replicates import IncomparableError
from raylight.comparison.study import study_of
from tests.comparison.run_folders import folds, run_folder


def test_missing_folds_are_told(tmp_path: Path) -> None:
    with pytest.raises(IncomparableError, match=r"0, 1, 2, .* has 0, 2"):
        study_of([*folds(tmp_path, "small", set()), *folds(tmp_path, "tiny", set(), (0, 2))])


def test_where_as_many_runs_say_one_thing_as_another_the_more_probable_one_counts() -> None:
    said = _vote([(1, 0, np.array([0.9, 0.1])), (1, 1, np.array([0.4, 0.6]))])
    assert (said.predicted, said.right, said.most_are_right) == (0, 0.5, False)
    assert said.probability == pytest.approx(0.65)


def test_names_have_what_tells_recipes_apart_and_no_more(tmp_path: Path) -> None:
    def names(*overrides: tuple[str, ...]) -> list[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        runs = [
            run_folder(folder / str(i), folder / "images", {i}, overrides=("optimizer=null", *one))
            for i, one in enumerate(overrides)
        ]
        return [recipe.name for recipe in study_of(runs).recipes]

    weights = "model.weights=/some/where/"
    assert names(
        ("model.name=resnet18", f"{weights}18.pt", "report.gradcam=false", "seed=2", "cache_dir=/tmp"),
        ("model.name=resnet34", f"{weights}34.pt", "seed=2", "logger.name=csv"),
    ) == ["resnet18 model.name=resnet18", "resnet34 model.name=resnet34"]
    assert names((f"{weights}a.pt",), (f"{weights}b.pt",)) == [f"cnn2 {weights}a.pt", f"cnn2 {weights}b.pt"]
