"""Each planted fault is found, under its own name; what is in order isn't."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.auditing.files import audit_files
from raylight.auditing.findings import Finding, class_counts
from raylight.config.schema import DataConfig
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.sources.source import find_images


def draw(path: Path, seed: int, size: tuple[int, int] = (60, 50), mode: str = "RGB") -> Path:
    """A picture like no other: smooth blobs with detail."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)
    return path


def clean(root: Path, each: int = 6, splits: tuple[str, ...] = ("train", "test")) -> Path:
    for s, split in enumerate(splits):
        for k, name in enumerate(("cat", "dog")):
            for i in range(each):
                draw(root / split / name / f"{name}{i}.png", 1000 * s + 100 * k + i)
    return root


def index_of(root: Path, tmp_path: Path, **settings: object) -> Index:
    source = find_images(DataConfig(root=str(root), **settings), tmp_path / "cache")  # type: ignore[arg-type]
    return build_index(source, tmp_path / "cache", 2)


def found(root: Path, tmp_path: Path, **settings: object) -> dict[str, Finding]:
    return {finding.kind: finding for finding in audit_files(index_of(root, tmp_path, **settings))}


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    assert found(clean(tmp_path / "d"), tmp_path) == {}


def test_a_picture_on_both_sides_is_a_problem_even_re_encoded(tmp_path: Path) -> None:
    root = clean(tmp_path / "d")
    shutil.copy(root / "train/cat/cat0.png", root / "test/cat/stolen.png")
    with Image.open(root / "train/dog/dog1.png") as picture:
        picture.resize((120, 100)).save(root / "test/dog/republished.jpg", quality=60)

    crossing = found(root, tmp_path)["duplicates_across_splits"]

    assert crossing.severity == "problem"
    assert crossing.count == 2
    assert crossing.files == (
        ("test/cat/stolen.png", "train/cat/cat0.png"),
        ("test/dog/republished.jpg", "train/dog/dog1.png"),
    )
    assert "train and test" in crossing.sentence


def test_one_picture_under_two_labels_is_a_conflict(tmp_path: Path) -> None:
    root = clean(tmp_path / "d")
    shutil.copy(root / "train/cat/cat0.png", root / "train/dog/renamed.png")
    findings = found(root, tmp_path)
    assert findings["label_conflicts"].severity == "problem"
    assert findings["label_conflicts"].files == (("train/cat/cat0.png", "train/dog/renamed.png"),)
    assert "duplicates" not in findings


def test_copies_within_a_class_are_a_warning(tmp_path: Path) -> None:
    root = clean(tmp_path / "d")
    shutil.copy(root / "train/cat/cat0.png", root / "train/cat/again.png")
    with Image.open(root / "train/dog/dog1.png") as picture:
        picture.save(root / "train/dog/dog1.jpg", quality=70)
    findings = found(root, tmp_path)
    assert findings["duplicates"].files == (("train/cat/again.png", "train/cat/cat0.png"),)
    assert findings["near_duplicates"].files == (("train/dog/dog1.jpg", "train/dog/dog1.png"),)
    assert {finding.severity for finding in findings.values()} == {"warning"}


def test_a_patient_on_both_sides_is_a_problem_and_a_guess_where_nobody_said(tmp_path: Path) -> None:
    root = clean(tmp_path / "d")
    draw(root / "train/dog/person7_virus_1.png", 71)
    draw(root / "test/dog/person7_virus_2.png", 72)

    known = found(root, tmp_path, group_pattern=r"^(person\d+)")
    guessed = found(root, tmp_path)

    assert known["groups_across_splits"].severity == "problem"
    assert known["groups_across_splits"].files == (("test/dog/person7_virus_2.png", "train/dog/person7_virus_1.png"),)
    assert guessed["groups_across_splits"].severity == "warning"
    assert "data.group_pattern=" in guessed["groups_across_splits"].sentence


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("IM-0115-0001.jpeg IM-0115-0002.jpeg", "series"),
        ("x-day0.jpeg x-day5.jpeg", "series"),
        ("person12_virus_1.jpeg person12_virus_2.jpeg", "series"),
        ("cat.0.jpg cat.1.jpg", None),
        ("today1.jpg today2.jpg", None),
    ],
)
def test_names_that_speak_of_one_patient(tmp_path: Path, name: str, kind: str | None) -> None:
    root = clean(tmp_path / "d", each=3)
    for seed, file in enumerate(name.split()):
        draw(root / "train/dog" / file, 500 + seed)
    assert ("series" in found(root, tmp_path)) == (kind == "series")


def test_every_kind_of_bad_file_has_its_name(tmp_path: Path) -> None:
    root = clean(tmp_path / "d", each=12)
    folder = root / "train/cat"
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no picture at all")
    whole = draw(folder / "cut.jpg", 90, (200, 200)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    draw(folder / "liar.png", 91).rename(folder / "liar.jpg")
    draw(folder / "icon.png", 92, (16, 16))
    draw(folder / "print.jpg", 93, mode="CMYK")
    Image.new("RGB", (64, 64), (90, 90, 90)).save(folder / "grey.png")
    (folder / "Thumbs.db").write_bytes(b"x")

    findings = found(root, tmp_path)

    files = {kind: finding.files for kind, finding in findings.items()}
    assert files == {
        "empty": (("train/cat/empty.jpg",),),
        "not_an_image": (("train/cat/text.png",),),
        "damaged": (("train/cat/cut.jpg",),),
        "wrong_extension": (("train/cat/liar.jpg",),),
        "tiny": (("train/cat/icon.png",),),
        "odd_mode": (("train/cat/print.jpg",),),
        "blank": (("train/cat/grey.png",),),
        "ignored": (("train/cat/Thumbs.db",),),
    }
    assert ".jpg with PNG" in findings["wrong_extension"].sentence
    assert {kind for kind, finding in findings.items() if finding.severity == "note"} == {"ignored"}


def test_what_becomes_of_16_bits_is_what_decoding_does(tmp_path: Path) -> None:
    """Two greys that differ in their lower 8 bits alone: both ends of the range, as the finding says."""
    root = clean(tmp_path / "d")
    pixels = np.full((40, 40), 1000, np.uint16)
    pixels[:20] = 1001
    Image.fromarray(pixels).save(root / "train/cat/wide.png")
    finding = found(root, tmp_path)["odd_mode"]
    assert "16 bits per pixel; scaled from each image's own range of values to 8 bits" in finding.sentence
    decoded = decode_image((root / "train/cat/wide.png").read_bytes(), DecodeSpec(40, "stretch"))
    assert np.unique(decoded).tolist() == [0, 255]


def test_lopsided_classes_and_a_test_drawn_otherwise_are_told(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for split, cats, dogs in (("train", 44, 2), ("test", 2, 12)):
        for name, count in (("cat", cats), ("dog", dogs)):
            for i in range(count):
                draw(root / split / name / f"{i}.png", zlib.crc32(f"{split} {name} {i}".encode()), (40, 40))
    findings = found(root, tmp_path)
    assert "cat is 96% of train and 14% of test" in findings["balance_shift"].sentence
    assert "cat (2)" in findings["few_test_images"].sentence
    index = index_of(root, tmp_path)
    assert class_counts(index) == {"cat": {"train": 44, "test": 2}, "dog": {"train": 2, "test": 12}}


def test_ignored_files_are_listed_by_kind_and_class(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for k, name in enumerate(("cat", "dog")):
        for i in range(3):
            draw(root / name / f"{i}.png", 10 * k + i)
    for name in (
        "bird/1.JXL",
        "bird/2.jxl",
        "cat/scan.nii",
        "cat/film",
        "dog/x.jpg?w=300",
        "dog/y.jpg?w=90",
        "cat/Thumbs.db",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "fish").mkdir()
    draw(root / "test" / "unlabelled.png", 99)

    told = [
        (one.severity, one.title, one.sentence)
        for one in audit_files(index_of(root, tmp_path))
        if one.kind == "ignored"
    ]

    assert told == [
        (
            "problem",
            "A class without images",
            "There is no class 'bird', since no image of it is left: 2 files ignored, such as 'bird/1.JXL': .jxl isn't "
            "a supported image format; convert them to JPEG or PNG.",
        ),
        (
            "problem",
            "A class without images",
            "There is no class 'fish', since no image of it is left: 1 folder ignored, such as 'fish/': it has no files.",
        ),
        (
            "warning",
            "Files that aren't used",
            "1 file of the class 'cat' ignored, such as 'cat/film': the name has no suffix (.jpg, .png, ...).",
        ),
        (
            "warning",
            "Files that aren't used",
            "1 file of the class 'cat' ignored, such as 'cat/scan.nii': .nii isn't a supported image format; convert "
            "them to JPEG or PNG.",
        ),
        (
            "warning",
            "Files that aren't used",
            "2 files of the class 'dog' ignored, such as 'dog/x.jpg?w=300': the name ends with the query of a URL, "
            "not with .jpg.",
        ),
        (
            "warning",
            "Files that aren't used",
            "1 folder ignored, such as 'test/': it has no labelled images: no folder per class; test is cut "
            "from train instead.",
        ),
        (
            "note",
            "Files that aren't used",
            "1 file of the class 'cat' ignored, such as 'cat/Thumbs.db': .db isn't a supported image format.",
        ),
    ]
