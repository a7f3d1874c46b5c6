"""Every layout is recognised; what is ambiguous, empty or contradictory is named with its remedy."""

from pathlib import Path

import pytest

from raylight.config.schema import DataConfig
from raylight.data.sources.source import describe_groups, find_images
from tests.data.sources.files import error, find, option, touch


def test_a_class_is_the_same_in_each_unicode_form_and_case(tmp_path: Path) -> None:
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    touch(tmp_path, f"train/{composed}/1.jpg", "train/bar/1.jpg", f"test/{decomposed}/1.jpg", "test/BAR/1.jpg")
    source = find(tmp_path, positive_class=decomposed)
    assert source.class_names == (composed, "bar")
    assert source.positive_class == composed
    assert [(file.label, file.split) for file in source.files] == [
        ("bar", "test"),
        (composed, "test"),
        (composed, "train"),
        ("bar", "train"),
    ]


def test_a_group_pattern_is_sought_in_paths_where_no_name_has_it_and_must_match_something(tmp_path: Path) -> None:
    touch(tmp_path, "sick/patient01/s0.png", "sick/patient01/s1.png", "well/patient02/s0.png", "well/s1.png")
    data = DataConfig(name="mine", root=str(tmp_path), group_pattern=r"(patient\d+)")
    source = find_images(data, tmp_path)
    assert [file.group for file in source.files] == ["patient01", "patient01", "patient02", None]
    assert describe_groups([file.group for file in source.files], data) == (
        "data.group_pattern names the patient (or object) of 3 of 4 files: 2 patients; each of the other 1 counts as a patient "
        "of its own"
    )
    patients = describe_groups(["p1", "p1"], DataConfig(source={"_target_": "mine"}))
    assert patients == "the source names the patient (or object) of 2 of 2 files: 1 patients"
    message = error(tmp_path, group_pattern=r"(person\d+)")
    assert "data.group_pattern='(person\\\\d+)' matches none of the 4 files, neither by name nor by path" in message
    assert message.endswith("image is of a different patient, leave it out with data.group_pattern=null.")


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_classes_that_differ_only_in_spelling_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in pair))
    assert "differ only in spelling" in error(tmp_path)


def test_class_only_in_test_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg")
    assert "the class 'c' is in test/ but not in train/, which has 'a', 'b'" in error(tmp_path)


def test_positive_class_is_matched_or_suggested(tmp_path: Path) -> None:
    touch(tmp_path, "normal/1.jpg", "pneumonia/1.jpg", "viral/1.jpg")
    assert find(tmp_path, positive_class="PNEUMONIA").positive_class == "pneumonia"
    message = error(tmp_path, positive_class="pnuemonia")
    assert "the classes are 'normal', 'pneumonia', 'viral'. Did you mean pneumonia?" in message


def test_group_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a/p1_x.jpg", "a/p2_x.jpg", "b/p1_y.jpg", "b/other.jpg")
    groups = {file.path: file.group for file in find(tmp_path, group_pattern=r"^(p\d)_").files}
    assert groups == {"a/p1_x.jpg": "p1", "a/p2_x.jpg": "p2", "b/p1_y.jpg": "p1", "b/other.jpg": None}
    named = find(tmp_path, group_pattern=r"(p)(?P<group>\d)").files
    assert [file.group for file in named] == ["1", "2", None, "1"]
    assert "isn't a regular expression" in error(tmp_path, group_pattern="(p")
    assert "has no group" in error(tmp_path, group_pattern="p")


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("person12_virus_34.jpeg", "person12"),
        ("IM-0011-0001-0002.jpeg", "IM-0011"),
        ("IM-0011-0001.jpeg", "IM-0011"),
        ("NORMAL2-IM-0011-0001.jpeg", "NORMAL2-IM-0011"),
        ("SARS-10.1148rg.242035193-g04mr34g0-Fig8a-day0.jpeg", "Fig8"),
        ("SARS-10.1148rg.242035193-g04mr34g04b-Fig4b-day12.jpeg", "Fig4"),
        ("ryct.2020200034.fig5-day7.jpeg", "ryct.2020200034.fig5"),
        ("41591_2020_819_Fig1_HTML.webp-day10.png", "41591_2020_819_Fig1_HTML.webp"),
        ("nejmoa2001191_f3-PA.jpeg", "nejmoa2001191"),
        ("nejmc2001573_f1b.jpeg", "nejmc2001573"),
        ("auntminnie-c-2020_01_28_23_51_6665_2020_01_28_Vietnam_coronavirus.jpeg", "2020_01_28_23_51_6665"),
        ("jkms-35-e79-g001-l-b.jpg", "jkms-35-e79"),
        ("1-s2.0-S1684118220300682-main.pdf-003-b1.png", "1-s2.0-S1684118220300682"),
        ("01E392EE-69F9-4E33-BFCE-E5C968654078.jpeg", None),
        ("covid-19-pneumonia-14-PA.png", None),
    ],
)
def test_patients_in_the_names_of_the_xray_set(tmp_path: Path, name: str, group: str | None) -> None:
    touch(tmp_path, f"train/NORMAL/{name}", "train/PNEUMONIA/person9_a.jpg")
    files = find_images(option("xray", root=str(tmp_path)), tmp_path).files
    assert {file.path: file.group for file in files}[f"train/NORMAL/{name}"] == group


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert "data.layout=tree: expected auto, split_folders" in error(tmp_path, layout="tree")
    assert "needs data.csv=TABLE" in error(tmp_path, layout="csv")
    assert "contradicts data.layout=flat" in error(tmp_path, layout="flat", csv="t.csv")
    assert "data.csv=t.csv: no such file" in error(tmp_path, csv="t.csv")


def test_demo_is_drawn_once_in_the_cache(own_cache: Path) -> None:
    source = find_images(option("demo"), own_cache)
    assert source.root == own_cache / "demo-v1"
    assert source.class_names == ("cat", "dog")
    assert source.positive_class == "dog"
    assert len(source.files) == 603
    drawing = next((source.root / "cat").glob("cat_000.*"))
    before = drawing.stat()
    assert find_images(option("demo"), own_cache) == source
    assert drawing.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.real_data
def test_real_sets_are_read_as_published(real_data: Path) -> None:
    films = find_images(option("xray", root=str(real_data / "xray_dataset_covid19")), real_data)
    assert (films.layout, len(films.files), films.positive_class) == ("split_folders", 188, "PNEUMONIA")
    assert sum(file.split == "test" for file in films.files) == 40
    photos = find_images(option("catsdogs", root=str(real_data / "dogs-vs-cats")), real_data)
    assert (photos.layout, len(photos.files), photos.positive_class) == ("flat", 2002, "dog")
