"""What the label can be guessed from without looking; an audit is remembered and shown on one page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.audit.dataset import Audit, audit_index, audit_lines
from raylight.audit.metadata import SideFacts
from raylight.audit.metadata_baseline import give_away, give_away_finding
from raylight.audit.page import write_audit
from raylight.config.schema import DataConfig
from raylight.data.index import Index, build_index
from raylight.data.sources.demo import draw_demo
from raylight.data.sources.source import find_images


def pictures(root: Path, brighter: int = 0, suffixes: tuple[str, str] = ("png", "png"), each: int = 30) -> Path:
    """Noise of two classes that differ in nothing but what is asked for."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(each):
            height, width = rng.integers(40, 80, 2)
            level = rng.integers(80, 140) + k * brighter
            pixels = rng.normal(level, 25, (height, width, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.{suffixes[k]}")
    return root


def index_of(root: Path, cache: Path) -> Index:
    return build_index(find_images(DataConfig(root=str(root)), cache), cache, 2)


def audited(root: Path, cache: Path) -> Audit:
    return audit_index(index_of(root, cache), "planted", cache)


def test_brightness_that_gives_the_class_away_is_found(tmp_path: Path) -> None:
    audit = audited(pictures(tmp_path / "d", brighter=70), tmp_path / "c")
    (finding,) = audit.findings
    assert (finding.kind, finding.severity) == ("give_away", "problem")
    assert audit.give_away is not None
    assert audit.give_away.single[0].name == "brightness"
    assert audit.give_away.together.low > 0.85
    assert audit.give_away.file_alone.low < 0.6  # it is the light, not the file
    assert "without looking at the picture" in finding.sentence
    assert "chance gives 50 %" in finding.sentence


def test_a_format_for_each_class_is_found(tmp_path: Path) -> None:
    audit = audited(pictures(tmp_path / "d", suffixes=("jpg", "png")), tmp_path / "c")
    (finding,) = audit.findings
    assert finding.severity == "problem"
    assert audit.give_away is not None
    assert audit.give_away.together.balanced_accuracy == 1
    assert audit.give_away.file_alone.balanced_accuracy == 1
    formats = next(one for one in audit.give_away.single if one.name == "file format")
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
    assert audit.give_away is not None
    assert audit.give_away.single[0].name == "camera"
    assert audit.give_away.single[0].typical == ("Acme 100 %", "Bolt 100 %")


def test_what_gives_a_rare_class_away_is_found_at_5_percent_prevalence(tmp_path: Path) -> None:
    """A guess that never names the rare class is right on 95 %: its balanced accuracy is 50 % all the same."""
    rng = np.random.default_rng(5)
    targets = np.repeat([0, 1], [380, 20])
    telling = np.where(targets == 1, 9.0, rng.uniform(0, 8, len(targets)))
    for values, expected in ((telling, 1.0), (rng.uniform(0, 8, len(targets)), 0.5)):
        facts = SideFacts(("file size",), values[:, None], ((),), (False,))
        found = give_away(facts, targets, np.arange(len(targets)), ("well", "sick"))
        assert found is not None
        assert found.chance == 0.5
        assert found.together.balanced_accuracy == pytest.approx(expected, abs=0.13)
        finding = give_away_finding(found)
        assert (finding.severity if finding else None) == ("problem" if expected == 1 else None)


def test_a_patient_recognised_by_the_light_is_no_give_away(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("seed", range(20))
def test_clean_drawings_raise_no_alarm(seed: int, tmp_path: Path) -> None:
    draw_demo(tmp_path / "demo", images=24, seed=seed)
    for broken in (tmp_path / "demo").glob("*/broken_*"):
        broken.unlink()
    audit = audited(tmp_path / "demo", tmp_path / "c")
    assert audit.findings == ()
    assert audit.give_away is not None


def test_an_audit_is_remembered_by_content_and_forgotten_with_it(tmp_path: Path) -> None:
    root, cache = pictures(tmp_path / "d", each=12), tmp_path / "c"
    first = audited(root, cache)
    again = audited(root, cache)
    assert again.seconds == 0 < first.seconds
    assert again.as_json() | {"seconds": 0} == first.as_json() | {"seconds": 0}

    (root / "cat/0.png").rename(root / "dog/moved.png")
    assert audited(root, cache).seconds > 0

    (memory,) = [
        path for path in (cache / "audit").iterdir() if json.loads(path.read_text())["seconds"] == first.seconds
    ]
    memory.write_text("{")
    (root / "dog/moved.png").rename(root / "cat/0.png")
    assert audited(root, cache).findings == first.findings


class Loads(HTMLParser):
    """Everything that a page would fetch or run."""

    found: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" or any(
            name in ("src", "href") and not (value or "").startswith("data:") for name, value in attrs
        ):
            self.found.append(tag)


def test_the_page_shows_what_was_found_and_loads_nothing(tmp_path: Path) -> None:
    root, cache = pictures(tmp_path / "d", brighter=70), tmp_path / "c"
    (root / "cat/<b>empty.jpg").touch()
    index = index_of(root, cache)
    audit = audit_index(index, "planted", cache)

    written = write_audit(audit, index, tmp_path / "out")

    page = written["html"].read_text()
    loads = Loads()
    loads.found = []
    loads.feed(page)
    assert loads.found == []
    assert "planted: 1 problem and 1 warning" in page
    assert "cat/&lt;b&gt;empty.jpg" in page
    values = json.loads(written["json"].read_text())
    assert values["clean"] is False
    assert [finding["kind"] for finding in values["findings"]] == ["give_away", "empty"]
    assert Audit.from_json(values).findings == audit.findings
    brief = audit_lines(audit, brief=True, without=("empty",))
    assert len(brief) == 2
    assert brief[0] == "Audit of 60 images: 1 problem:"
