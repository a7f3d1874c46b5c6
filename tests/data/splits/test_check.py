"""Splits that training or testing could not use are refused or told."""

import contextlib
import re
from typing import Any

import pytest

from raylight.config.schema import DataConfig
from raylight.data.index import Index
from raylight.data.splits.check import check_splits, share_problems
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
        ({"val_fraction": 0}, {"train", "test"}, r"data.val_fraction=0: .* add a val folder"),
        ({"test_fraction": 0}, {"train", "val"}, r"data.test_fraction=0: .* add a test folder"),
        (
            {"test_fraction": 0, "folds": 5, "fold": 0},
            {None},
            r"data.test_fraction=0: there would be no images to test on",
        ),
        ({"val_fraction": 0, "folds": 5, "fold": 0}, {None}, None),
        ({"val_fraction": 0, "test_fraction": 0}, {"train", "val", "test"}, None),
    ],
)
def test_a_share_of_nothing_is_refused_unless_that_part_is_shipped(
    settings: dict[str, Any], shipped: set[str | None], refused: str | None
) -> None:
    said = list(share_problems(DataConfig(**settings), shipped))
    assert len(said) == (refused is not None)
    assert refused is None or re.match(refused, said[0])


def test_both_shares_of_nothing_are_told_at_once() -> None:
    assert [line.split(":")[0] for line in share_problems(DataConfig(val_fraction=0, test_fraction=0), {"train"})] == [
        "data.val_fraction=0",
        "data.test_fraction=0",
    ]


def test_a_shipped_validation_or_folds_need_no_share() -> None:
    shipped = ["train"] * 20 + ["val"] * 4 + ["test"] * 4
    index = make_index(["a", "b"] * 14, splits=shipped)
    assert list(assign_splits(index, DataConfig(val_fraction=0), 1).column("split")) == shipped
    folds = assign_splits(make_index(["a", "b"] * 14), DataConfig(val_fraction=0, folds=2, fold=0), 1)
    assert 8 <= (folds.column("split") == "val").sum() <= 14


def lacking(n_classes: int, split: str, *absent: str) -> Index:
    """Four images of each class in each split, but for those that a split lacks."""
    names = [f"c{i}" for i in range(n_classes)]
    rows = [(name, part) for part in ("train", "val", "test") for name in names for _ in range(4)]
    rows = [(name, part) for name, part in rows if part != split or name not in absent]
    return make_index([name for name, _ in rows], splits=[part for _, part in rows])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("monitor", ["val/loss", "val/auroc", "val/average_precision"])
def test_what_lacks_a_class_is_refused_or_told_by_what_it_is_needed_for(
    n_classes: int, monitor: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_splits(lacking(n_classes, "none"), monitor)
    assert caplog.text == ""
    with pytest.raises(DataError, match=r"^The training split has no usable image of 'c0': it can't be learnt"):
        check_splits(lacking(n_classes, "train", "c0"), monitor)
    refused = n_classes == 2 or monitor != "val/loss"
    what = "no threshold can be fitted" if n_classes == 2 else f"{monitor} can't be computed"
    with pytest.raises(DataError, match=f"of 'c1': {what}") if refused else contextlib.nullcontext():
        check_splits(lacking(n_classes, "val", "c1"), monitor)
    said = "The validation split has no usable image of 'c1': they count neither in the choice of the checkpoint"
    assert (said in caplog.text) == (not refused)
    caplog.clear()
    check_splits(lacking(n_classes, "test", "c1"), monitor)
    assert "The test split has no usable image of 'c1': their recall stays unknown" in caplog.text
    assert ("AUROC can't be measured" in caplog.text) == (n_classes == 2)


@pytest.mark.parametrize(("absent", "ending"), [(6, "'c5'"), (7, "'c5', ... (7 in all)")])
def test_at_most_six_classes_are_named(absent: int, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    check_splits(lacking(9, "test", *(f"c{i}" for i in range(absent))))
    assert f"image of 'c0', 'c1', 'c2', 'c3', 'c4', {ending}: their" in caplog.text


def test_an_image_that_cannot_be_read_is_none() -> None:
    index = lacking(2, "none")
    last = [i for i, (name, part) in enumerate(zip(index.column("label"), index.column("split"), strict=True)) if
            (name, part) == ("c1", "train")]  # fmt: skip
    with pytest.raises(DataError, match="training split has no usable image of 'c1'"):
        check_splits(index.with_column("status", ["bad" if i in last else "ok" for i in range(len(index))]))
