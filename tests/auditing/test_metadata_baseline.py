"""What the label can be guessed from without looking at the picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.auditing.dataset import audit_index
from raylight.auditing.metadata import FileMetadata
from raylight.auditing.metadata_baseline import baseline_finding, folds_of, metadata_baseline, percent
from raylight.config.schema import DataConfig
from raylight.data.index import build_index
from raylight.data.sources.source import find_images
from tests.auditing.test_dataset import audited, pictures


def test_brightness_that_gives_the_class_away_is_found(tmp_path: Path) -> None:
    audit = audited(pictures(tmp_path / "d", brighter=70), tmp_path / "c")
    (finding,) = audit.findings
    assert (finding.kind, finding.severity) == ("give_away", "problem")
    assert audit.metadata_baseline is not None
    assert audit.metadata_baseline.single[0].name == "brightness"
    assert audit.metadata_baseline.together.low > 0.85
    assert audit.metadata_baseline.file_alone.low < 0.6  # it is the light, not the file
    assert "without looking at the picture" in finding.sentence
    assert "chance gives 50 %" in finding.sentence


def test_a_format_for_each_class_is_found(tmp_path: Path) -> None:
    audit = audited(pictures(tmp_path / "d", suffixes=("jpg", "png")), tmp_path / "c")
    (finding,) = audit.findings
    assert finding.severity == "problem"
    assert audit.metadata_baseline is not None
    assert audit.metadata_baseline.together.balanced_accuracy == 1
    assert audit.metadata_baseline.file_alone.balanced_accuracy == 1
    formats = next(one for one in audit.metadata_baseline.single if one.name == "file format")
    assert formats.typical == ("JPEG 100 %", "PNG 100 %")


def test_the_camera_in_the_exif_notes_is_found(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", suffixes=("jpg", "jpg"))
    for name, maker in (("cat", "Acme"), ("dog", "Bolt")):
        for path in (root / name).iterdir():
            exif = Image.Exif()
            exif[0x010F] = maker
            with Image.open(path) as picture:
                picture.save(path, exif=exif, quality=90)
    audit = audited(root, tmp_path / "c")
    assert audit.metadata_baseline is not None
    assert audit.metadata_baseline.single[0].name == "camera"
    assert audit.metadata_baseline.single[0].typical == ("Acme 100 %", "Bolt 100 %")


def test_what_gives_a_rare_class_away_is_found_at_5_percent_prevalence(tmp_path: Path) -> None:
    """A guess that never names the rare class is right on 95 %: its balanced accuracy is 50 % all the same."""
    rng = np.random.default_rng(5)
    targets = np.repeat([0, 1], [380, 20])
    telling = np.where(targets == 1, 9.0, rng.uniform(0, 8, len(targets)))
    for values, expected in ((telling, 1.0), (rng.uniform(0, 8, len(targets)), 0.5)):
        facts = FileMetadata(("file size",), values[:, None], ((),), (False,))
        found = metadata_baseline(facts, targets, np.arange(len(targets)), ("well", "sick"))
        assert found is not None
        assert found.chance == 0.5
        assert found.together.balanced_accuracy == pytest.approx(expected, abs=0.13)
        finding = baseline_finding(found)
        assert (finding.severity if finding else None) == ("problem" if expected == 1 else None)


def test_a_patient_recognised_by_the_light_does_not_predict_the_label(tmp_path: Path) -> None:
    """Ten films each of three patients a class: nothing is known of a fourth one, however alike a patient's films are."""
    rng = np.random.default_rng(3)
    root = tmp_path / "d"
    for patient in range(24):
        folder = root / ("cat", "dog")[patient % 2]
        folder.mkdir(parents=True, exist_ok=True)
        level = rng.integers(60, 190)
        for i in range(5):
            pixels = rng.normal(level, 20, (50, 50, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"p{patient}_{i}.png")
    data = DataConfig(root=str(root), group_pattern=r"^(p\d+)_")
    index = build_index(find_images(data, tmp_path / "c"), tmp_path / "c", 2)
    audit = audit_index(index, "patients", tmp_path / "c")
    assert {finding.kind for finding in audit.findings} == {"series"}
    assert audit.clean


def test_folds_keep_what_is_linked_together_and_have_their_share_of_each_class() -> None:
    linked = np.repeat(np.arange(100), 3)
    targets = (linked < 25).astype(np.int64)
    folds = folds_of(targets, linked)
    assert all(len(np.unique(folds[linked == group])) == 1 for group in range(100))
    assert [np.bincount(folds[targets == k]).tolist() for k in (0, 1)] == [[45] * 5, [15] * 5]


def test_shares_have_as_many_digits_as_mean_something() -> None:
    assert [percent(share) for share in (0, 0.031, 0.5, 0.954, 1)] == ["0 %", "3.1 %", "50 %", "95.4 %", "100 %"]
