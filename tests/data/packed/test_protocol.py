"""A source of the user's own, and what is told of one that isn't right."""

from pathlib import Path

import pyarrow as pa
import pytest

from raylight.config.rules.targets import ALLOWING
from raylight.config.schema import DataConfig
from raylight.data.index import build_index
from raylight.data.sources.source import find_images
from raylight.errors import DataError
from tests.config.test_check import problems
from tests.data.packed.own import Drawn

TARGET = "tests.data.packed.own.Drawn"


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "tests")


def config(**settings: object) -> DataConfig:
    return DataConfig(name="own", source={"_target_": TARGET, "count": 12, **settings})


def test_a_source_of_ones_own_is_indexed_like_files(tmp_path: Path) -> None:
    index = build_index(find_images(config(broken=[5]), tmp_path), tmp_path, workers=2)
    assert index.class_names == ("0", "1")
    by_path = dict(
        zip(index.column("path"), zip(index.column("group"), index.column("split"), strict=True), strict=True)
    )
    assert by_path["square/6"] == ("p1", "test")
    assert index.rejected() == [("square/5", "can't be read: Drawn.read: KeyError: 'square/5'")]
    assert index.column("metadata")[list(index.column("path")).index("square/6")] == '{"age": 36}'


def test_what_is_not_a_number_is_missing(tmp_path: Path) -> None:
    files = {file.path: file for file in find_images(config(fault="gaps"), tmp_path).files}
    assert [(files[f"square/{k}"].group, files[f"square/{k}"].metadata) for k in (0, 1)] == [
        ("0.0", None),
        (None, '{"age": 30.0}'),
    ]


def test_a_source_is_asked_once_for_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    entries = Drawn.entries

    def counted(self: Drawn) -> pa.Table:
        asked.append("once")
        return entries(self)

    monkeypatch.setattr(Drawn, "entries", counted)
    found = find_images(config(count=14), tmp_path)
    assert (found.root / found.files[0].path).is_file()
    assert len(build_index(found, tmp_path, workers=2)) == 14
    assert asked == ["once"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", r"entries\(\): RuntimeError: the database is down$"),
        ("list", r"entries\(\) returned a list; expected a pyarrow\.Table"),
        ("no label", r"has no column label; it has key, group, split, age"),
        ("empty label", "row 2 has no label"),
        ("label is NaN", "row 2 has no label"),
        ("twice", "row 3 has the key 'square/1' of an earlier row"),
        ("split", "row 1 has split='holdout'; expected train, val, test"),
    ],
)
def test_a_table_that_is_wrong_is_told_with_its_row(fault: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        find_images(config(fault=fault), tmp_path)


def test_a_source_is_checked_before_work() -> None:
    assert problems(f"data.source={{_target_:{TARGET},count:3}}", "allowed_targets=[tests]") == []
    assert problems("data=parquet", "data.root=/nowhere") == []
    (problem,) = problems("data=parquet", "+data.source.imge=picture")
    assert problem.startswith(
        "data.source.imge: raylight.data.packed.parquet.Parquet takes no such argument; did you mean 'image'"
    )
    (problem,) = problems("data.source={_target_:torch.load,f:x}")
    assert "isn't a class of the kind source (a class with entries() and read(key))" in problem
