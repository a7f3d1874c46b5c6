"""Which subgroup an image belongs to."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raylight.data.index import INDEX_SCHEMA, Index
from raylight.data.scan.memory import blank_thumbnails
from raylight.data.splits.subgroups import subgroups_of, subgroups_of_metadata
from raylight.errors import DataError


def index(rows: list[dict[str, Any]], root: Path = Path("/nowhere")) -> Index:
    """An index of images that have nothing but what the rows say."""
    columns = {
        name: pa.array([row.get(name) for row in rows], INDEX_SCHEMA.field(name).type) for name in INDEX_SCHEMA.names
    }
    return Index(root, ("a", "b"), "b", pa.table(columns, INDEX_SCHEMA), blank_thumbnails(0))


def told(*values: Any) -> Index:
    return index([{"metadata": None if value is None else json.dumps({"age": value, "sex": "F"})} for value in values])


def test_each_value_is_a_subgroup_without_edges() -> None:
    assert subgroups_of(told("39", " 40 ", None, ""), {"age": [], "sex": []}) == {
        "age": ["39", "40", None, None],
        "sex": ["F", "F", None, "F"],
    }


def test_edges_make_ranges_that_begin_at_them() -> None:
    ages = ("39.9", 40, "59", "60", "040Y", "006M", None)
    assert subgroups_of(told(*ages), {"age": [60, 40]})["age"] == [
        *("below 40", "40 to below 60", "40 to below 60", "60 and above", "40 to below 60", "below 40", None),
    ]


@pytest.mark.parametrize("unknown", [float("nan"), "nan", "NaN", " NA ", "n/a", "<NA>", "null"])
def test_an_unknown_value_belongs_to_no_subgroup(unknown: float | str) -> None:
    assert subgroups_of(told("30", unknown, 70), {"age": [40, 60]})["age"] == ["below 40", None, "60 and above"]
    assert subgroups_of(told("30", unknown, 70), {"age": []})["age"] == ["30", None, "70"]


def test_columns_of_every_index_can_be_used() -> None:
    found = subgroups_of(
        index([{"mode": "L", "width": 900}, {"mode": "RGB", "width": 2000}]), {"mode": [], "width": [1000]}
    )
    assert found == {"mode": ["L", "RGB"], "width": ["below 1000", "1000 and above"]}


def test_tables_of_other_images_say_what_they_have() -> None:
    texts = [json.dumps({"sex": "F", "age": 30}), None, json.dumps({"sex": "M"})]
    found, missing = subgroups_of_metadata(texts, {"sex": [], "age": [40], "site": []})
    assert found == {"sex": ["F", None, "M"], "age": ["below 40", None, None]}
    assert missing == ["site"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"aeg": []}, "report.subgroups.aeg: the data has no column 'aeg'; it has age, .*did you mean 'age'"),
        ({"age": ["old"]}, r"report.subgroups.age=\['old'\]: expected numbers, the edges of ranges, or an empty list"),
        ({"sex": [40]}, r"report.subgroups.sex=\[40\]: 'F' isn't a number; without edges"),
        (
            {"age": []},
            r"report.subgroups.age: 40 different values, such as '0'; at most 30 .*report.subgroups.age=\[40,60\]",
        ),
    ],
)
def test_mistakes_name_the_column_and_the_remedy(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        subgroups_of(told(*range(40)), columns)


def test_dicom_attributes_are_read_from_the_header(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    source = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for name, (sex, age) in {"1.dcm": ("F", "039Y"), "2.dcm": ("M", "071Y")}.items():
        source.PatientSex, source.PatientAge = sex, age
        source.save_as(tmp_path / name)
    picture = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(picture, "png")
    (tmp_path / "3.png").write_bytes(picture.getvalue())
    rows = [{"path": name, "format": "DICOM"} for name in ("1.dcm", "2.dcm")] + [{"path": "3.png", "format": "PNG"}]
    found = subgroups_of(index(rows, tmp_path), {"PatientSex": [], "PatientAge": [40]})
    assert found == {"PatientSex": ["F", "M", None], "PatientAge": ["below 40", "40 and above", None]}
