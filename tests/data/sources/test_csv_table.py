"""A table of images: its columns, and its faults by line."""

import json
from pathlib import Path

import pytest

from tests.data.sources.files import error, find, touch


def test_csv_with_groups_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.jpg", "x/2.jpg", "3.bin")
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufeffLabel, Path ,group,split\nsick,x/1.jpg,p1,Validation\nwell,./x/2.jpg,,\nwell,3.bin,p2,train\n",
        encoding="utf-8",
    )
    source = find(tmp_path, csv="labels.csv")
    assert source.layout == "csv"
    assert [(file.path, file.label, file.group, file.split) for file in source.files] == [
        ("3.bin", "well", "p2", "train"),
        ("x/1.jpg", "sick", "p1", "val"),
        ("x/2.jpg", "well", None, None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.jpg,x\n", "no column path; its first line has 'file', 'label'"),
        ("path,label\na.jpg,x\nb.jpg,\n", "line 3 has no label"),
        ("path,label\n../a.jpg,x\nb.jpg,y\n", "line 2: '../a.jpg' is outside data.root"),
        ("path,label\n/etc/passwd,x\nb.jpg,y\n", "is outside data.root"),
        ("path,label\na.jpg,x\nb.jpg,y\na.jpg,y\n", "lines 2 and 4 both name 'a.jpg'"),
        ("path,label,split\na.jpg,x,holdout\n", "split='holdout'; expected train, val, test"),
        ("path,label\na.jpg,x\nb.jpg,NaN\n", "line 3: the label 'NaN' usually means a missing value"),
        ("path,label,Label\na.jpg,x,y\n", "more than one column is called 'label'"),
        ("path,label,age,Age\na.jpg,x,1,2\nb.jpg,y,1,2\n", "more than one column is called 'age'"),
        ("path,label\na.jpg,x\nb.jpg,x\n", "2 rows and 1 class (x); two or more"),
        ("path,label\n\xe9.jpg,x\n".encode("latin-1").decode("latin-1"), "can't be read as a table in UTF-8"),
    ],
)
def test_faults_in_a_csv_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    assert message in error(tmp_path, csv=str(tmp_path / "t.csv"))


def test_groups_that_spreadsheets_write_for_a_missing_value_are_none(tmp_path: Path) -> None:
    words = ("NA", "nan", "", "N/A", "#N/A", "<NA>", "null", "0", "Nan Li")
    touch(tmp_path, *(f"{k}.jpg" for k in range(len(words))))
    lines = [f"{k}.jpg,{'xy'[k % 2]},{word}" for k, word in enumerate(words)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,group", *lines]))
    found = find(tmp_path, csv="t.csv")
    assert [file.group for file in found.files] == [None] * 7 + ["0", "Nan Li"]


def test_paths_written_in_full_are_taken_where_they_lie_in_the_root(tmp_path: Path) -> None:
    root, link = tmp_path / "root", tmp_path / "link"
    touch(root, "a/1.jpg", "b/1.jpg")
    link.symlink_to(root)
    table = tmp_path / "t.csv"
    table.write_text(f"path,label\n{root}/a/1.jpg,x\n{root}/b/1.jpg,y\n")
    for start in (root, link):
        assert [file.path for file in find(start, csv=str(table)).files] == ["a/1.jpg", "b/1.jpg"]
    table.write_text(f"path,label\n{tmp_path}/elsewhere/1.jpg,x\n{root}/b/1.jpg,y\n")
    assert "is outside data.root" in error(root, csv=str(table))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_as_spreadsheets_and_pandas_write_it(separator: str, tmp_path: Path) -> None:
    """With a byte order mark, labels that are numbers, names in other cases, quotes around what holds a separator."""
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    lines = ["Path,Label,Age,Site", "a/1.jpg,0,61,'x,y'", "b/2.jpg,1,,z"]
    text = "\r\n".join(lines).replace(",", separator).replace("'", '"')
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = find(tmp_path, csv="t.csv")
    assert source.class_names == ("0", "1")
    assert [json.loads(file.metadata or "") for file in source.files] == [
        {"age": "61", "site": f"x{separator}y"},
        {"site": "z"},
    ]


def test_absolute_paths_elsewhere_are_the_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.jpg", "set/b/2.jpg", "tables/none")
    table = tmp_path / "tables" / "t.csv"
    table.write_text(f"path,label\n{tmp_path}/set/a/1.jpg,x\n{tmp_path}/set/b/2.jpg,y\n")
    source = find(tmp_path / "tables", csv=str(table))
    assert source.root == tmp_path / "set"
    assert [file.path for file in source.files] == ["a/1.jpg", "b/2.jpg"]
    table.write_text(f"path,label\n{tmp_path}/set/a/1.jpg,x\nb/2.jpg,y\n")
    assert "is outside data.root" in error(tmp_path / "tables", csv=str(table))
