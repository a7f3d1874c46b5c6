"""Every layout is recognised; what is ambiguous, empty or contradictory is named with its remedy."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from raylight.config.schema import DataConfig
from raylight.data.names import single_line
from raylight.data.sources.source import Source, describe_groups, find_images
from raylight.errors import DataError

OPTIONS = Path(__file__).resolve().parents[3] / "conf" / "data"


def option(name: str, **changes: Any) -> DataConfig:
    return DataConfig(**{**yaml.safe_load((OPTIONS / f"{name}.yaml").read_text(encoding="utf-8")), **changes})


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def find(root: Path, **settings: Any) -> Source:
    return find_images(DataConfig(name="mine", root=str(root), **settings), root / "cache")


def rows(source: Source) -> list[tuple[str, str, str | None]]:
    return [(file.path, file.label, file.split) for file in source.files]


def paths_ignored(source: Source) -> list[str]:
    return [item.path for item in source.ignored]


def error(root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        find(root, **settings)
    return str(caught.value)


def test_split_folders_keep_their_splits_in_every_usual_spelling(tmp_path: Path) -> None:
    touch(tmp_path, "Training/b/1.jpg", "Training/a/1.JPEG", "validation/a/2.png", "test_set/b/deep/er/3.jpg")
    source = find(tmp_path)
    assert source.layout == "split_folders"
    assert source.class_names == ("a", "b")
    assert source.positive_class == "b"
    assert rows(source) == [
        ("Training/a/1.JPEG", "a", "train"),
        ("Training/b/1.jpg", "b", "train"),
        ("test_set/b/deep/er/3.jpg", "b", "test"),
        ("validation/a/2.png", "a", "val"),
    ]


def test_unlabelled_test_folder_is_set_aside(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg", "train/stray.jpg", "sample/x.jpg")
    source = find(tmp_path)
    assert len(source.files) == 2
    assert paths_ignored(source) == ["sample/", "test/", "train/stray.jpg"]


def test_petimages_folder_names_and_thumbs_db(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "PetImages/Cat/0.jpg",
        "PetImages/Dog/0.jpg",
        "PetImages/Cat/Thumbs.db",
        "readme[1].txt",
        "__MACOSX/Cat/0.jpg",
    )
    source = find_images(option("catsdogs", root=str(tmp_path)), tmp_path)
    assert source.root == tmp_path / "PetImages"
    assert source.class_names == ("Cat", "Dog")
    assert source.positive_class == "Dog"
    assert paths_ignored(source) == ["Cat/Thumbs.db"]


def test_kaggles_flat_names_with_unlabelled_test1(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/cat.0.jpg",
        "train/dog.0.jpg",
        "train/dog.1.jpg",
        "train/photo.jpg",
        "test1/1.jpg",
        "test1/2.jpg",
    )
    source = find(tmp_path)
    assert source.layout == "flat"
    assert rows(source) == [
        ("train/cat.0.jpg", "cat", None),
        ("train/dog.0.jpg", "dog", None),
        ("train/dog.1.jpg", "dog", None),
    ]
    assert paths_ignored(source) == ["test1/", "train/photo.jpg"]
    in_root = tmp_path / "train"
    assert [file.path for file in find(in_root).files] == ["cat.0.jpg", "dog.0.jpg", "dog.1.jpg"]


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
        ("path,label\na.jpg,x\nb.jpg,NaN\n", "line 3: the label 'NaN' stands for a missing value in tables"),
        ("path,label,Label\na.jpg,x,y\n", "more than one column is called 'label'"),
        ("path,label\na.jpg,x\nb.jpg,x\n", "2 rows and 1 class (x); two or more"),
        ("path,label\n\xe9.jpg,x\n".encode("latin-1").decode("latin-1"), "can't be read as a table in UTF-8"),
    ],
)
def test_faults_in_a_csv_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    assert message in error(tmp_path, csv=str(tmp_path / "t.csv"))


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
    assert describe_groups(source, data) == (
        "data.group_pattern names the patient (or object) of 3 of 4 files: 2 patients; each of the other 1 counts as a patient "
        "of its own"
    )
    message = error(tmp_path, group_pattern=r"(person\d+)")
    assert "data.group_pattern='(person\\\\d+)' matches none of the 4 files, neither by name nor by path" in message
    assert message.endswith("where each image is of another patient, leave it out with data.group_pattern=null.")


def test_flat_names_without_a_class_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "cat.0.jpg", "dog.0.jpg", "cat_1.jpg", "dog_1.jpg", "readme.txt")
    assert [(item.path, item.likely_images) for item in find(tmp_path).ignored] == [
        ("cat_1.jpg", True),
        ("dog_1.jpg", True),
        ("readme.txt", False),
    ]


def test_missing_root_says_how_to_get_place_and_check_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        find_images(option("xray"), tmp_path)
    message = str(caught.value)
    assert f"No images for data=xray: the folder {tmp_path}/datasets/xray doesn't exist." in message
    assert "datasets/xray/\n  ├── train/" in message
    assert "│   ├── NORMAL/" in message
    assert "Get them from https://www.kaggle.com/datasets/khoongweihao/" in message
    assert "data.download=true" in message
    assert f"python train.py data=xray data.root={tmp_path}/datasets/xray trainer=debug" in message


def test_what_was_found_instead_is_said(tmp_path: Path) -> None:
    assert "is empty" in error(tmp_path)
    touch(tmp_path, "only/1.jpg", "only/2.jpg", "notes.txt")
    message = error(tmp_path)
    assert "only/, notes.txt (2 .jpg, 1 .txt in all)" in message
    assert "images of one class only, 'only'" in message
    assert "looked for split_folders, class_folders, flat" in message


def test_two_layouts_at_once_are_not_guessed_between(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "x.0.jpg", "y.0.jpg", "y.1.jpg")
    message = error(tmp_path)
    assert f"data.root={tmp_path} data.layout=class_folders: 2 images, 2 classes (a, b)" in message
    assert f"data.root={tmp_path} data.layout=flat: 3 images, 2 classes (x, y)" in message
    assert find(tmp_path, layout="flat").class_names == ("x", "y")


def test_a_folder_of_data_sets_is_not_a_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "one/train/a/1.jpg", "one/train/b/1.jpg", "two/train/c/1.jpg", "two/train/d/1.jpg")
    message = error(tmp_path)
    assert f"data.root={tmp_path}/one" in message
    assert f"data.root={tmp_path}/two" in message
    assert find(tmp_path / "two").class_names == ("c", "d")


def test_classes_named_like_splits_need_the_layout_spelled_out(tmp_path: Path) -> None:
    touch(tmp_path, "test/1.jpg", "control/1.jpg")
    assert "'test' is taken for a split" in error(tmp_path) or "one class only, 'control'" in error(tmp_path)
    assert find(tmp_path, layout="class_folders").class_names == ("control", "test")


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_classes_that_differ_only_in_spelling_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in pair))
    assert "differ only in how they are spelled" in error(tmp_path)


def test_class_only_in_test_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg")
    assert "the class 'c' is in test/ but not in train/, which has 'a', 'b'" in error(tmp_path)


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "valid/a/1.jpg")
    assert "two folders for val: 'val' and 'valid'" in error(tmp_path)


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


def test_odd_names_and_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, "a/\u00fc n\ni.jpg", "b/1.jpg", "a/.hidden.jpg", f"b/{'n' * 251}.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "further_up").symlink_to(tmp_path)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "b" / "dead.jpg").symlink_to(root / "nowhere.jpg")
    (root / "b" / "loop.jpg").symlink_to(root / "b" / "loop.jpg")
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "linked.jpg")
    (root / "b" / "more").symlink_to(elsewhere)
    assert [file.path for file in find(root).files] == [
        "a/\u00fc n\ni.jpg",
        "b/1.jpg",
        "b/dead.jpg",
        "b/loop.jpg",
        "b/more/linked.jpg",
        f"b/{'n' * 251}.jpg",
    ]


def test_class_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", os.fsdecode(b"caf\xe9/1.jpg"))
    assert r"the class b'caf\xe9' isn't valid UTF-8" in error(tmp_path)


def test_class_folder_that_would_act_on_a_terminal_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b\x1b[2J/1.jpg")
    assert r"the class 'b\x1b[2J' holds control characters; rename its folder" in error(tmp_path)
    assert single_line("a\x1b[31m\n\u202eb/猫 é\udce9.png") == r"a\x1b[31m\n\u202eb/猫 é\xe9.png"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; run the tests as another user")
def test_unreadable_folder_is_an_error_not_a_gap(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/more/2.jpg")
    (tmp_path / "b" / "more").chmod(0)
    try:
        assert f"The folder {tmp_path}/b/more can't be listed: Permission denied" in error(tmp_path)
    finally:
        (tmp_path / "b" / "more").chmod(0o755)


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
