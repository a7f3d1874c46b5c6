"""Cuts follow (seed, content), keep classes in proportion and groups together; shipped splits stay."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raylight.config.schema import DataConfig
from raylight.data.index import INDEX_SCHEMA, Index
from raylight.data.splits.check import check_splits
from raylight.data.splits.split import assign_splits, limit_per_class
from raylight.errors import DataError


def make_index(
    labels: Sequence[str],
    groups: Sequence[str | None] | None = None,
    splits: Sequence[str | None] | None = None,
    content: Sequence[int] | None = None,
    root: str = "/data",
    bad: Sequence[int] = (),
) -> Index:
    n = len(labels)
    numbers = list(range(n)) if content is None else list(content)
    table = pa.table(
        {
            "path": [f"{number}.jpg" for number in range(n)],
            "label": list(labels),
            "group": pa.array(groups or [None] * n, pa.string()),
            "split": pa.array(splits or [None] * n, pa.string()),
            "bytes": [1] * n,
            "width": [1] * n,
            "height": [1] * n,
            "mode": ["RGB"] * n,
            "format": ["JPEG"] * n,
            "sha256": [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers],
            "status": ["bad" if number in bad else "ok" for number in range(n)],
            "reason": pa.array([None] * n, pa.string()),
            "note": pa.array([None] * n, pa.string()),
            "metadata": pa.array([None] * n, pa.string()),
        },
        schema=INDEX_SCHEMA,
    )
    thumbnails = np.stack([np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8) for number in numbers])
    return Index(Path(root), tuple(sorted(set(labels))), max(labels), table, thumbnails)


def count(index: Index, split: str | None, label: str) -> int:
    return int(((index.column("split") == split) & (index.column("label") == label)).sum())


def by_content(index: Index) -> dict[str, str]:
    return dict(zip(index.column("sha256"), index.column("split"), strict=True))


def test_fractions_are_met_exactly_in_each_class() -> None:
    index = assign_splits(make_index(["a"] * 300 + ["b"] * 60), DataConfig(val_fraction=0.15, test_fraction=0.2), 1)
    assert [count(index, split, "a") for split in ("train", "val", "test")] == [195, 45, 60]
    assert [count(index, split, "b") for split in ("train", "val", "test")] == [39, 9, 12]


def test_order_and_names_change_nothing_seeds_and_content_do() -> None:
    index = make_index(["a"] * 100 + ["b"] * 100)
    split = by_content(assign_splits(index, DataConfig(), 1))
    order = np.random.default_rng(0).permutation(200)
    moved = make_index(
        [str(index.column("label")[i]) for i in order], content=[int(i) for i in order], root="/elsewhere"
    )
    assert by_content(assign_splits(moved, DataConfig(), 1)) == split
    assert by_content(assign_splits(index, DataConfig(), 2)) != split


def test_groups_are_never_divided_and_shares_still_met() -> None:
    rng = np.random.default_rng(3)
    patients = [f"p{number}" for number in rng.integers(0, 90, 300)]
    labels = ["ab"[int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 2] for patient in patients]
    for seed in range(5):
        index = assign_splits(make_index(labels, patients), DataConfig(val_fraction=0.1, test_fraction=0.2), seed)
        seen: dict[str, set[str]] = {}
        for patient, split in zip(index.column("group"), index.column("split"), strict=True):
            seen.setdefault(patient, set()).add(split)
        assert all(len(splits) == 1 for splits in seen.values())
        for label in "ab":
            total = labels.count(label)
            assert abs(count(index, "test", label) - 0.2 * total) <= 2
            assert abs(count(index, "val", label) - 0.1 * total) <= 2


def test_same_content_and_alike_pictures_stay_together() -> None:
    content = [*range(60), *range(60)]
    index = make_index((["a"] * 30 + ["b"] * 30) * 2, content=content)
    for duplicates in (True, False):
        split = assign_splits(index, DataConfig(group_duplicates=duplicates), 1).column("split")
        assert list(split[:60]) == list(split[60:])
    other_bytes = index.with_column("sha256", [hashlib.sha256(f"x{i}".encode()).hexdigest() for i in range(120)])
    split = assign_splits(other_bytes, DataConfig(), 1).column("split")
    assert list(split[:60]) == list(split[60:])
    split = assign_splits(other_bytes, DataConfig(group_duplicates=False), 1).column("split")
    assert list(split[:60]) != list(split[60:])


def test_shipped_test_is_kept_and_val_is_cut_from_train() -> None:
    shipped = (["train"] * 40 + ["test"] * 10) * 2
    index = assign_splits(make_index(["a"] * 50 + ["b"] * 50, splits=shipped), DataConfig(), 1)
    assert [split == "test" for split in index.column("split")] == [split == "test" for split in shipped]
    assert count(index, "val", "a") == count(index, "val", "b") == 4


def test_shipped_val_is_kept_and_test_is_cut_from_train() -> None:
    shipped = (["train"] * 40 + ["val"] * 10) * 2
    index = assign_splits(make_index(["a"] * 50 + ["b"] * 50, splits=shipped), DataConfig(test_fraction=0.25), 1)
    assert [split == "val" for split in index.column("split")] == [split == "val" for split in shipped]
    assert count(index, "test", "a") == 10


def test_a_group_with_shipped_members_is_not_cut_elsewhere() -> None:
    shipped = (["train"] * 20 + ["test"] * 5) * 2
    groups: list[str | None] = [None] * 50
    groups[0] = groups[20] = "patient"
    for seed in range(20):
        index = assign_splits(make_index(["a"] * 25 + ["b"] * 25, groups, shipped), DataConfig(val_fraction=0.3), seed)
        assert index.column("split")[0] == "train"


def test_bad_files_have_no_split() -> None:
    index = assign_splits(make_index(["a", "b"] * 30, bad=[0, 7]), DataConfig(), 1)
    assert list(np.flatnonzero(index.column("split") == None)) == [0, 7]  # noqa: E711 - elementwise


def test_folds_hold_out_everything_once_with_one_test() -> None:
    patients = [f"p{number // 2}" for number in range(200)]
    index = make_index(["a"] * 120 + ["b"] * 80, patients)
    held: list[np.ndarray] = []
    for fold in range(4):
        split = assign_splits(index, DataConfig(folds=4, fold=fold, test_fraction=0.2), 1).column("split")
        held.append(split == "val")
        tests = split == "test"
        assert tests.sum() == 40
        assert (tests == (assign_splits(index, DataConfig(test_fraction=0.2), 1).column("split") == "test")).all()
        assert (split[::2] == split[1::2]).all()
        assert (held[-1] & (index.column("label") == "a")).sum() == 24
        assert held[-1].sum() == 40
    assert (np.sum(held, axis=0) + tests == 1).all()


def test_folds_over_what_is_not_shipped_as_test() -> None:
    shipped = (["train"] * 20 + ["val"] * 10 + ["test"] * 10) * 2
    index = make_index(["a"] * 40 + ["b"] * 40, splits=shipped)
    held = [assign_splits(index, DataConfig(folds=3, fold=fold), 1).column("split") for fold in range(3)]
    assert all(((split == "test") == (np.array(shipped) == "test")).all() for split in held)
    assert (np.sum([split == "val" for split in held], axis=0) == (np.array(shipped) != "test")).all()


def test_without_test_where_none_is_wanted() -> None:
    index = make_index(["a", "b"] * 20)
    assert "test" not in assign_splits(index, DataConfig(test_fraction=0), 1).column("split")
    assert "test" not in assign_splits(index, DataConfig(test_fraction=0, folds=2, fold=0), 1).column("split")


def test_limit_takes_the_same_images_whatever_their_order() -> None:
    index = make_index(["a"] * 50 + ["b"] * 30 + ["c"] * 5, bad=[2])
    few = limit_per_class(index, 10, 1)
    usable = few.usable()
    assert [list(usable.column("label")).count(name) for name in "abc"] == [10, 10, 5]
    assert few.rejected() == index.rejected()
    order = np.arange(85)[::-1]
    again = limit_per_class(index.select(order), 10, 1).usable()
    assert set(again.column("path")) == set(usable.column("path"))
    assert set(limit_per_class(index, 10, 2).usable().column("path")) != set(usable.column("path"))
    assert len(assign_splits(index, DataConfig(limit=10, val_fraction=0.2), 1).in_split("train")) == 7 + 7 + 3


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (["a"] * 20 + ["b"] * 2, {}, r"The class 'b' has too few images for data.val_fraction=0.1: 1 left"),
        (
            ["a"] * 20 + ["b"],
            {"test_fraction": 0},
            r"The class 'b' has too few images for data.val_fraction=0.1: 1 left",
        ),
        (
            ["a"] * 20 + ["b"] * 4,
            {"folds": 5, "fold": 4, "test_fraction": 0},
            r"'b' has too few images for data.folds=5",
        ),
        (["a", "b"] * 9, {"fold": 1}, r"data.fold=1 without data.folds"),
        (["a", "b"] * 9, {"folds": 5}, r"data.folds=5 without data.fold: say which one is held out, 0 to 4"),
        (["a", "b"] * 9, {"folds": 5, "fold": 5}, r"data.fold=5: expected 0 to 4"),
        (["a", "b"] * 9, {"folds": 1, "fold": 0}, r"data.folds=1: expected 2 or more"),
        (["a", "b"] * 9, {"val_fraction": 0.5, "test_fraction": 0.5}, r"leave nothing to train on"),
        (["a", "b"] * 9, {"limit": 0}, r"data.limit=0: expected 1 or more"),
    ],
)
def test_what_cannot_be_cut_is_said(labels: list[str], settings: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        assign_splits(make_index(labels), DataConfig(**settings), 1)  # type: ignore[arg-type]


def test_one_patient_cannot_be_on_both_sides() -> None:
    index = make_index(["a"] * 20 + ["b"] * 20, [None] * 20 + ["p"] * 20)
    with pytest.raises(DataError, match=r"The class 'b' has too few .* in 1 group\(s\) that stay together"):
        assign_splits(index, DataConfig(), 1)


def test_folds_fail_alike_and_name_a_number_that_works() -> None:
    """Ten folds of nine images once failed in the last two alone, after eight trainings."""
    index = make_index(["a"] * 9 + ["b"] * 90)
    for fold in (0, 9):
        with pytest.raises(
            DataError, match=r"class 'a' has too few images for data.folds=10: .* data.folds=9 works\.$"
        ):
            assign_splits(index, DataConfig(folds=10, fold=fold, test_fraction=0), 1)
    for fold in range(9):
        check_splits(assign_splits(index, DataConfig(folds=9, fold=fold, test_fraction=0), 1))


def test_where_no_number_of_folds_works_none_is_named() -> None:
    """A class of one image is in every fold's training images or in none's."""
    index = make_index(["a"] + ["b"] * 90)
    with pytest.raises(DataError, match=r"No number of folds works: at least two groups of each class are needed\.$"):
        assign_splits(index, DataConfig(folds=3, fold=0, test_fraction=0), 1)


def test_a_test_folder_that_copies_train_is_recognised() -> None:
    labels = (["a"] * 10 + ["b"] * 10) * 2
    index = make_index(labels, splits=["train"] * 20 + ["test"] * 20, content=[*range(20), *range(20)])
    with pytest.raises(
        DataError, match=r"All 10 training images of 'a' show the same pictures .* Is test a copy of train\?"
    ):
        assign_splits(index, DataConfig(), 1)
