"""Columns of images, labels and groups are found by type and name, and rows become those of a source."""

import json

import pyarrow as pa
import pytest

from raylight.data.packed.rows import ColumnNames, Part, entries_of
from raylight.errors import DataError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PART = Part("train", "val", 7, "set, split train", "leave it out")


def schema(features: dict[str, dict[str, object]] | None = None, **columns: pa.DataType) -> pa.Schema:
    note = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pa.schema(columns, metadata=note)


def test_the_only_columns_that_fit_are_taken() -> None:
    found = ColumnNames().find(schema(photo=IMAGE, target=pa.int64(), age=pa.int8(), boxes=pa.list_(pa.int32())), "set")
    assert (found.image, found.label, found.group, found.metadata) == ("photo", "target", None, ("age",))


def test_metadata_tells_images_from_other_bytes_and_classes_from_numbers() -> None:
    features = {
        "photo": {"_type": "Image"},
        "sound": {"_type": "Audio"},
        "breed": {"_type": "ClassLabel", "names": ["pug", "husky"]},
        "age": {"_type": "Value", "dtype": "int64"},
    }
    given = schema(features, sound=IMAGE, photo=IMAGE, age=pa.int64(), breed=pa.int64())
    found = ColumnNames().find(given, "set")
    assert (found.image, found.label, found.class_names) == ("photo", "breed", ("pug", "husky"))
    assert ColumnNames(image="sound", label="age").find(given, "set").image == "sound"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ColumnNames(),
            r"set: data.source.image isn't given, and 2 columns fit; possible columns: left, right$",
        ),
        (
            ColumnNames(image="left"),
            r"data.source.label isn't given, and 2 columns fit; possible columns: fine, coarse$",
        ),
        (
            ColumnNames("left", "fin"),
            r"data.source.label is 'fin'; did you mean 'fine'\?; possible columns: fine, coarse, patient$",
        ),
        (ColumnNames("left", "fine", "patiens"), r"data.source.group is 'patiens'; did you mean 'patient'"),
    ],
)
def test_what_could_be_several_columns_is_asked(names: ColumnNames, message: str) -> None:
    features = {name: {"_type": "ClassLabel", "names": ["a", "b"]} for name in ("fine", "coarse")}
    columns = {"left": IMAGE, "right": IMAGE, "fine": pa.int64(), "coarse": pa.int64(), "patient": pa.string()}
    with pytest.raises(DataError, match=message):
        names.find(schema(features, **columns), "set")


def test_a_table_without_images_is_told_with_its_columns() -> None:
    with pytest.raises(DataError, match=r"set: no column holds encoded images; the columns are text, label$"):
        ColumnNames().find(schema(text=pa.string(), label=pa.int64()), "set")


def test_rows_have_keys_labels_groups_and_metadata() -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    images = [{"bytes": b"x", "path": "a/b.jpg"}, {"bytes": b"y", "path": None}]
    table = pa.table(
        [pa.array(images, IMAGE), pa.array([1, 0]), pa.array([5, None]), pa.array(["old", "new"])],
        schema=schema(features, image=IMAGE, label=pa.int64(), patient=pa.int64(), age=pa.string()),
    )
    found = entries_of(table, ColumnNames(group="patient").find(table.schema, "set"), PART)
    common = {"split": "val", "modified": 7}
    assert found.to_pylist() == [
        {"age": "old", "key": "train/00000000/b.jpg", "label": "dog", "group": "5", **common},
        {"age": "new", "key": "train/00000001/image", "label": "cat", "group": None, **common},
    ]


def test_a_patient_that_is_not_a_number_is_none_and_0_is_one() -> None:
    groups = pa.array([0.0, float("nan"), None, 7.0])
    table = pa.table({"image": [b"x"] * 4, "label": [0, 1, 0, 1], "patient": groups})
    found = entries_of(table, ColumnNames(group="patient").find(table.schema, "set"), PART)
    assert found.column("group").to_pylist() == ["0.0", None, None, "7.0"]


@pytest.mark.parametrize("missing", [None, -1, float("nan"), ""])
def test_a_row_without_a_label_is_told(missing: float | str | None) -> None:
    table = pa.table({"image": [b"x", b"y"], "label": ["a" if missing == "" else 0, missing]})
    with pytest.raises(DataError, match=r"^set, split train: row 1 has no label; leave it out$"):
        entries_of(table, ColumnNames().find(table.schema, "set"), PART)
