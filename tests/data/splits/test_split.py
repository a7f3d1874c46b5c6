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
from raylight.data.splits.split import assign_splits, limit_per_class, linked_groups, split_size_warnings
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
        DataError,
        match=r"All 10 training images of 'a' show the same pictures .* If test is a copy of train, remove it",
    ):
        assign_splits(index, DataConfig(), 1)


@pytest.mark.parametrize(("each", "held"), [(14, 1), (15, 2), (24, 2), (25, 3), (4, 1)])
def test_shares_are_rounded_and_at_least_one(each: int, held: int) -> None:
    index = make_index(["a", "b"] * each)
    split = assign_splits(index, DataConfig(val_fraction=0.1, test_fraction=0), 1)
    assert count(split, "val", "a") == count(split, "val", "b") == held


@pytest.mark.parametrize(("groups", "size", "held"), [(8, 5, 5), (5, 9, 9), (5, 3, 3), (10, 2, 2)])
def test_groups_too_large_for_what_is_missing_are_taken_where_that_is_closer(groups: int, size: int, held: int) -> None:
    """Eight patients of five images and a share of 10 %: five images are closer to four than none."""
    names = [f"{label}{number}" for label in "ab" for number in range(groups) for _ in range(size)]
    index = make_index([name[0] for name in names], names)
    split = assign_splits(index, DataConfig(val_fraction=0.1, test_fraction=0), 1)
    assert count(split, "val", "a") == count(split, "val", "b") == held


def test_groups_twice_as_large_as_what_is_missing_are_not_taken() -> None:
    names = [f"{label}{number}" for label in "ab" for number in range(5) for _ in range(10)]
    index = make_index([name[0] for name in names], names)
    message = r"'a' has too few images for data.val_fraction=0.1: 50 left, in 5 group\(s\) .* Choose a smaller"
    with pytest.raises(DataError, match=message):
        assign_splits(index, DataConfig(val_fraction=0.1, test_fraction=0), 1)
    split = assign_splits(index, DataConfig(val_fraction=0.12, test_fraction=0), 1)  # 10 is closer to 6 than 0 is
    assert count(split, "val", "a") == 10


def test_a_class_whose_free_images_fall_short_is_refused() -> None:
    """Of 40 training images of a, 37 show patients who are in test, too: three are left, and four are wanted."""
    shipped = ["train"] * 40 + ["test"] * 37 + ["train"] * 40
    groups = [f"p{i}" for i in range(37)] + [None] * 3 + [f"p{i}" for i in range(37)] + [None] * 40
    index = make_index(["a"] * 77 + ["b"] * 40, groups, shipped)
    message = r"'a' has too few images for data.val_fraction=0.1: 3 left, in 3 group\(s\)"
    with pytest.raises(DataError, match=message):
        assign_splits(index, DataConfig(), 1)


@pytest.mark.parametrize(
    ("groups", "settings", "remedy"),
    [
        ("one", {}, "Add images of it, or leave the class out: it needs at least one group for each of train"),
        ("own", {"val_fraction": 0.9, "test_fraction": 0}, "Choose a smaller data.val_fraction"),
        ("own", {"folds": 3, "fold": 0, "test_fraction": 0}, "Add images of it, or choose fewer folds"),
    ],
)
def test_what_helps_depends_on_what_was_asked(groups: str, settings: dict[str, float], remedy: str) -> None:
    of_b: list[str | None] = ["p", "p"] if groups == "one" else [None, None]
    index = make_index(["a"] * 20 + ["b"] * 2, [None] * 20 + of_b)
    with pytest.raises(DataError, match=f"The class 'b' has too few images .*{remedy}"):
        assign_splits(index, DataConfig(**settings), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 1.0}, r"data.val_fraction=1: expected 0 or more and less than 1"),
        ({"val_fraction": -0.1}, r"data.val_fraction=-0.1: expected 0 or more and less than 1"),
        ({"test_fraction": 1.0, "val_fraction": 0.0}, r"data.test_fraction=1: expected 0 or more and less than 1"),
        ({"test_fraction": -0.1}, r"data.test_fraction=-0.1: expected 0 or more and less than 1"),
        ({"folds": 3, "fold": -1}, r"data.fold=-1: expected 0 to 2"),
        ({"folds": 3, "fold": 3}, r"data.fold=3: expected 0 to 2"),
        ({"limit": -1}, r"data.limit=-1: expected 1 or more"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, r"leave nothing to train on"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        assign_splits(make_index(["a", "b"] * 20), DataConfig(**settings), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"val_fraction": 0.5, "test_fraction": 0.49},
        {"val_fraction": 0.0, "test_fraction": 0.95},
        {"val_fraction": 0.95, "test_fraction": 0.0},
        {"folds": 2, "fold": 0},
        {"folds": 2, "fold": 1},
        {"limit": 1, "folds": 2, "fold": 0, "test_fraction": 0.0},
    ],
)
def test_settings_at_the_end_of_their_range_are_taken(settings: dict[str, float]) -> None:
    if "limit" in settings:  # one image of each class can't be split, which is another matter than the limit itself
        with pytest.raises(DataError, match="too few images"):
            assign_splits(make_index(["a", "b"] * 20), DataConfig(**settings), 1)  # type: ignore[arg-type]
    else:
        split = assign_splits(make_index(["a", "b"] * 100), DataConfig(**settings), 1).column("split")  # type: ignore[arg-type]
        assert "train" in split


def sized(held: int, n: int, **other: object) -> list[str]:
    """Warnings of n images of a class of which so many are in val."""
    index = make_index(["a"] * n, **other)  # type: ignore[arg-type]
    shipped = list(index.column("split"))
    after = index.with_column("split", [name or ("val" if i < held else "train") for i, name in enumerate(shipped)])
    return split_size_warnings(index, after, DataConfig(val_fraction=0.2, test_fraction=0.2))


def test_a_split_is_too_large_above_five_quarters_of_its_share() -> None:
    assert sized(25, 100) == []
    (line,) = sized(26, 100)
    assert line.startswith("val is 26% of the images, more than data.val_fraction=0.2: each class keeps at least one")
    # What is shipped, or can't be read, isn't cut from: 26 of 104 usable ones that aren't in test.
    assert sized(26, 124, splits=[None] * 104 + ["test"] * 20) == []
    assert len(sized(26, 123, splits=[None] * 103 + ["test"] * 20)) == 1
    assert len(sized(31, 110, bad=range(100, 110))) == 1
    # A shipped validation split is as large as it is, and folds have sizes of their own.
    assert sized(0, 100, splits=["val"] * 60 + [None] * 40) == []
    index = make_index(["a"] * 100)
    after = index.with_column("split", ["val"] * 60 + ["train"] * 40)
    assert split_size_warnings(index, after, DataConfig(folds=2, fold=0)) == []
    assert split_size_warnings(index, after, DataConfig(val_fraction=0, test_fraction=0.1)) == []


@pytest.mark.parametrize(
    ("patients", "each", "held", "told"),
    [
        (50, 4, 7, True),  # 28 of 200 images: 14 % of those of patients with several, less than 3/4 of 20 %
        (50, 4, 8, False),  # 16 %
        (100, 2, 16, False),
        (100, 2, 14, True),
        (99, 2, 14, False),  # fewer than 200 images of patients with several
        (200, 1, 14, False),  # one image each is no group
    ],
)
def test_large_groups_that_are_rarely_held_out_are_told(patients: int, each: int, held: int, told: bool) -> None:
    """Single images fill up the split, so that its size is right."""
    n = patients * each
    groups = [f"p{i // each}" for i in range(n)] + [None] * 100
    index = make_index(["a"] * (n + 100), groups)
    singles = round((n + 100) * 0.2) - held * each
    splits = ["val" if i < held * each or n <= i < n + singles else "train" for i in range(n + 100)]
    lines = split_size_warnings(
        index, index.with_column("split", splits), DataConfig(val_fraction=0.2, test_fraction=0)
    )
    share = held * each / n
    expected = f"Of the images of patients (or objects) with several, {share:.1%} are in val, not 20%: large groups"
    assert [line[: len(expected)] for line in lines] == ([expected] if told else [])


def test_a_copied_test_folder_is_only_suspected_where_nothing_else_is_left() -> None:
    labels = (["a"] * 10 + ["b"] * 10) * 2
    content = [*range(20), *range(20)]
    # One training image of a is in no other split; it is one too few all the same.
    shipped = ["train"] * 20 + ["test"] * 20 + ["train"] * 6
    index = make_index([*labels, "a", *"bbbbb"], splits=shipped, content=[*content, *range(90, 96)])
    with pytest.raises(DataError, match=r"'a' has too few images for data.val_fraction=0.1: 1 left"):
        assign_splits(index, DataConfig(), 1)


def test_groups_are_linked_through_patients_and_pictures_alike() -> None:
    """0 and 1 are of one patient, 1 and 2 the same picture, 2 and 3 of another patient; 4 is alone, 5 and 6 are one."""
    index = make_index(["a"] * 7, ["p", "p", "q", "q", None, "r", "r"], content=[0, 1, 1, 3, 4, 5, 6])
    for duplicates in (True, False):
        groups = linked_groups(index, duplicates)
        assert [int(group) for group in groups] == [0, 0, 0, 0, 1, 2, 2]
    assert linked_groups(index.select(np.zeros(7, bool)), False).tolist() == []


@pytest.mark.parametrize("rarest", [2, 3])
def test_the_largest_number_of_folds_that_works_is_named(rarest: int) -> None:
    index = make_index(["a"] * rarest + ["b"] * 40)
    with pytest.raises(DataError, match=rf"data.folds={rarest} works\.$"):
        assign_splits(index, DataConfig(folds=8, fold=0, test_fraction=0), 1)
    assign_splits(index, DataConfig(folds=rarest, fold=0, test_fraction=0), 1)
