"""Splits that training or testing could not use are refused or told."""

import contextlib
from typing import Any

import pytest

from raylight.config.schema import DataConfig
from raylight.data.splits.check import check_shares, check_splits
from raylight.data.splits.split import assign_splits, split_size_warnings
from raylight.errors import DataError
from tests.data.splits.test_split import make_index


def test_a_part_that_lacks_a_class_is_refused_and_the_remedy_works(caplog: pytest.LogCaptureFixture) -> None:
    two = make_index(["a", "b"] * 20 + ["a"] * 4, splits=["train"] * 40 + ["val"] * 4)
    with pytest.raises(DataError, match=r"validation split has no usable image of 'b': no threshold .* data.folds=10"):
        check_splits(assign_splits(two, DataConfig(), 1))
    check_splits(assign_splits(two, DataConfig(folds=10, fold=0), 1))
    three = make_index(["a", "b", "c"] * 20 + ["a", "b"] * 4, splits=["train"] * 60 + ["val"] * 8)
    with caplog.at_level("WARNING"):
        check_splits(assign_splits(three, DataConfig(), 1))
    assert "The validation split has no usable image of 'c'" in caplog.text
    with pytest.raises(DataError, match=r"val/auroc can't be computed on it"):
        check_splits(assign_splits(three, DataConfig(), 1), "val/auroc")
    untrained = make_index(["a", "b"] * 20 + ["c"] * 8, splits=["train"] * 40 + ["val"] * 8)
    with pytest.raises(DataError, match="training split has no usable image of 'c'"):
        check_splits(untrained)


def test_small_classes_held_out_beyond_the_setting_are_told() -> None:
    index = make_index([f"{number:03}" for number in range(100) for _ in range(5)])
    lines = split_size_warnings(index, assign_splits(index, DataConfig(), 1), DataConfig())
    assert [line.split(",")[0] for line in lines] == ["val is 20% of the images", "test is 20% of the images"]
    enough = make_index(["a", "b"] * 100)
    assert split_size_warnings(enough, assign_splits(enough, DataConfig(), 1), DataConfig()) == []


@pytest.mark.parametrize(
    ("settings", "shipped", "refused"),
    [
        ({"val_fraction": 0}, {None}, r"data.val_fraction=0: .* data.folds=5 data.fold=0"),
        ({"val_fraction": 0}, {"train", "test"}, r"data.val_fraction=0: .* ship a val folder"),
        ({"test_fraction": 0}, {"train", "val"}, r"data.test_fraction=0: .* ship a test folder"),
        (
            {"test_fraction": 0, "folds": 5, "fold": 0},
            {None},
            r"data.test_fraction=0: nothing would be left to test on",
        ),
        ({"val_fraction": 0, "folds": 5, "fold": 0}, {None}, None),
        ({"val_fraction": 0, "test_fraction": 0}, {"train", "val", "test"}, None),
    ],
)
def test_a_share_of_nothing_is_refused_unless_that_part_is_shipped(
    settings: dict[str, Any], shipped: set[str | None], refused: str | None
) -> None:
    with pytest.raises(DataError, match=refused) if refused else contextlib.nullcontext():
        check_shares(DataConfig(**settings), shipped)


def test_a_shipped_validation_or_folds_need_no_share() -> None:
    shipped = ["train"] * 20 + ["val"] * 4 + ["test"] * 4
    index = make_index(["a", "b"] * 14, splits=shipped)
    assert list(assign_splits(index, DataConfig(val_fraction=0), 1).column("split")) == shipped
    folds = assign_splits(make_index(["a", "b"] * 14), DataConfig(val_fraction=0, folds=2, fold=0), 1)
    assert 8 <= (folds.column("split") == "val").sum() <= 14
