import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from raylight.data.index import Index
from raylight.evaluation.predictions import Predictions, read_csv
from raylight.report.images import overlaid, telling_images
from raylight.report.model_card import escape_markdown
from raylight.report.pages import seconds
from raylight.report.run_page import write_report
from tests.finished_run import NASTY_NAME, NASTY_NOTE


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text by section."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.sections, self.rows, self.alts = [], {"": ""}, [], []
        self._section, self._silent = "", False
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.text = " ".join("".join(self.sections.values()).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "section":
            self._section = dict(attributes)["id"]
            self.sections[self._section] = ""
        if tag == "tr":
            self.rows.append("")
        if tag in ("td", "th") and self.rows:
            self.rows[-1] += " "
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))
        self._silent = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._silent = False
        if tag == "tr":
            self.rows.append("")  # what follows a table belongs to none of its rows

    def handle_data(self, data):
        if not self._silent:
            self.sections[self._section] += data
            if self.rows:
                self.rows[-1] += data

    def section(self, name):
        return " ".join(self.sections[name].split())

    def row(self, name):
        rows = (" ".join(row.split()) for row in self.rows)
        return next(row for row in rows if row.startswith(name))


SECTIONS = ["summary", "asked", "data", "training", "result", "images", "cost", "provenance"]


def test_the_page_tells_what_the_folder_holds(finished):
    page = Page(write_report(finished.run, finished.network))
    assert list(page.sections)[1:] == SECTIONS
    assert "couldn't be made" not in page.text
    metrics = json.loads((finished.run / "metrics.json").read_text())
    accuracy = metrics["test/accuracy"]
    right = round(accuracy["value"] * 16)
    summary = page.section("summary")
    assert f"{100 * accuracy['value']:.1f} %" in summary
    assert f"{right} of 16 test images right; 95 % interval {100 * accuracy['low']:.1f} to" in summary
    assert "The checkpoint comes from the last epoch" in summary
    assert "Checkpoint of epoch 3 of 3, chosen by" in summary
    for name, label in (("auroc", "AUROC"), ("mcc", "Matthews correlation"), ("brier", "Brier score")):
        cell = metrics[f"test/{name}"]
        assert f"{cell['value']:.3f} {cell['low']:.3f}–{cell['high']:.3f} {cell['n']}" in page.row(label)
    data = page.section("data")
    assert "49 files in animals: 16 to train, 16 for validation, 16 for test, 1 unusable" in data
    assert "not a whole image" in page.row("train/cat/broken.jpg")
    assert "Width 40 to 45 pixels" in data
    assert page.row("loss 0.500") == "loss 0.500 0.520 +0.020"
    assert page.row("accuracy 0.900") == "accuracy 0.900 0.750 -0.150"
    assert "Accuracy is 15 points higher on training images" in summary
    cost = page.section("cost")
    assert "1 min 15 s from the first file" in cost
    assert "32 training images a second within the 3 epochs" in cost
    assert "1.2 GB of memory" in cost
    provenance = page.section("provenance")
    assert f"python train.py --config-path {finished.run.path} --config-name config" in provenance
    assert metrics["provenance"]["test_files_sha256"] in provenance


def test_the_confusion_matrix_and_the_classes_agree_with_the_predictions(finished):
    page = Page(write_report(finished.run))
    test = read_csv(finished.run / "predictions.csv", "dog").subset("test")
    said = test.predicted()
    counts = [[int(((test.labels == i) & (said == j)).sum()) for j in (0, 1)] for i in (0, 1)]
    cells = [f"{n}{n * 100 / 8:.0f} %" for n in counts[0]]
    assert page.row("is cat") == f"is cat {cells[0]} {cells[1]} 8"
    recall, precision = counts[1][1] / 8, counts[1][1] / (counts[0][1] + counts[1][1])
    assert re.match(rf"dog {precision:.3f}[\d.–]+ {recall:.3f}[\d.–]+ [\d.]+ 8$", page.row(f"dog {precision:.3f}"))


def test_no_temperature_is_claimed_where_none_was_fitted(finished):
    facts = json.loads((finished.run / "preprocessing.json").read_text())
    assert facts["temperature"] != 1
    write_report(finished.run)
    assert "with a temperature of" in (finished.run / "model_card.md").read_text()
    finished.run.write_json("preprocessing.json", {**facts, "temperature": 1.0})
    assert "no temperature was fitted" in Page(write_report(finished.run)).section("result")
    assert "not calibrated" in (finished.run / "model_card.md").read_text()


def test_settings_are_marked_where_they_were_typed(finished):
    page = Page(write_report(finished.run))
    assert page.row("model.image_size") == "model.image_size typed 32 –"
    assert page.row("model.dense") == "model.dense [16] []"
    assert not any(row.strip().startswith("trainer.max_epochs") and "typed" in row for row in page.rows)


def test_names_and_notes_are_shown_harmlessly(finished):
    page = Page(write_report(finished.run, finished.network))
    assert NASTY_NOTE in page.section("asked")
    assert any(NASTY_NAME in alt for alt in page.alts if alt)
    assert NASTY_NAME not in page.html
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "embed")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in page.elements if tag == "img")


def test_the_page_is_one_small_file_that_may_load_nothing(finished):
    path = write_report(finished.run, finished.network)
    page = Page(path)
    assert path.stat().st_size < 3e6
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    links = [a.get("href") for _, a in page.elements if "href" in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert page.alts
    assert all(page.alts)
    assert all(attributes.get("width") for tag, attributes in page.elements if tag == "img")


def test_every_example_has_its_heat(finished):
    page = Page(write_report(finished.run, finished.network))
    shown = [alt for alt in page.alts if "said to be" in alt]
    heats = [alt for alt in page.alts if alt.startswith("Grad-CAM for")]
    assert len(shown) == len(heats) > 6
    without = Page(write_report(finished.run))
    assert "Grad-CAM is missing" in without.section("images")
    assert not [alt for alt in without.alts if alt.startswith("Grad-CAM for")]
    assert len([alt for alt in without.alts if "said to be" in alt]) == len(shown)


@pytest.mark.parametrize(
    ("broken", "lost", "words"),
    [
        ("history.csv", {"summary", "training", "cost"}, "could not convert string to float"),
        ("environment.json", {"cost", "provenance"}, "environment.json can't be read"),
        ("index.parquet", {"summary", "data", "images", "cost", "provenance"}, "isn't an index"),
        ("predictions.csv", {"summary", "result", "images"}, "isn't a table of predictions"),
    ],
)
def test_a_broken_file_costs_only_the_sections_that_need_it(finished, broken, lost, words, caplog, monkeypatch):
    (finished.run / broken).write_text("epoch,train/loss\nx,broken\n")
    monkeypatch.setattr(logging.getLogger("raylight"), "propagate", True)
    page = Page(write_report(finished.run, finished.network))
    gone = {name for name in SECTIONS if "This section couldn't be made" in page.section(name)}
    assert gone == lost
    assert words in page.text
    assert any("section" in record.message and words in record.message for record in caplog.records)


def test_a_broken_figure_is_named_in_its_place(finished):
    (finished.run / "plots" / "roc.png").write_bytes(b"no picture")
    page = Page(write_report(finished.run))
    assert "The figure “roc” can't be shown (UnidentifiedImageError" in page.section("result")
    assert any(alt.startswith("Precision-recall curve, average precision") for alt in page.alts)


def test_missing_and_changed_originals_are_told_not_shown(finished, tmp_path):
    index = Index.read(finished.run / "index.parquet")
    moved = Index(tmp_path / "elsewhere", index.class_names, index.positive_class, index.table, index.thumbnails)
    moved.write(finished.run / "index.parquet")
    page = Page(write_report(finished.run, finished.network))
    assert "can't be shown: the originals in" in page.section("images")
    assert "No such file or directory" in page.section("data")
    assert not [alt for alt in page.alts if "said to be" in alt]

    for path, sha in zip(index.column("path"), index.column("sha256"), strict=True):
        target = tmp_path / "elsewhere" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        original = (index.root / path).read_bytes()
        target.write_bytes(original + b"!" if path.startswith("test/") and sha else original)
    page = Page(write_report(finished.run, finished.network))
    assert "changed since the run" in page.section("images")
    assert "can't be shown" not in page.section("data")


def test_medical_data_bears_a_banner_in_page_and_card(finished):
    assert "Research only" not in Page(write_report(finished.run)).text
    assert "Research only" not in (finished.run / "model_card.md").read_text()
    config = OmegaConf.load(finished.run / "config.yaml")
    config.data.medical = True
    finished.run.write_text("config.yaml", OmegaConf.to_yaml(config))
    assert "Research only. This model is not a medical device" in Page(write_report(finished.run)).text
    card = (finished.run / "model_card.md").read_text()
    assert "> **Research only.**" in card
    assert "any decision about a patient" in card


def test_many_classes(run_of):
    classes = tuple(f"kind <{i:02d}>" for i in range(14))
    run, network = run_of(classes)
    page = Page(write_report(run, network))
    assert "couldn't be made" not in page.text
    assert "14 classes" in page.section("summary")
    assert page.row("kind <13>").startswith("kind <13> 2 7 % 2 7 % 2 7 % 6")
    assert "commonest mistakes" in page.section("result")
    assert "Figures were switched off" in page.section("result")
    assert "specificity" not in page.section("summary")


def test_the_model_card_holds_the_same_numbers(finished):
    write_report(finished.run)
    card = (finished.run / "model_card.md").read_text()
    recall = json.loads((finished.run / "metrics.json").read_text())["test/recall"]
    assert f"| recall | {recall['value']:.3f} | {recall['low']:.3f} to {recall['high']:.3f} | 8 |" in card
    assert "| dog | 8 | 8 | 8 |" in card
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "speak of the class **dog**" in card
    for command in ("raylight predict", "raylight evaluate", "--config-name config"):
        assert command in card
    assert "16 test images fix the accuracy only to between" in card


def test_markdown_is_escaped():
    assert escape_markdown("a|b *c*\n<d>") == r"a\|b \*c\* \<d\>"


def test_the_telling_images_are_the_telling_ones():
    positive = np.array([0.9, 0.99, 0.2, 0.45, 0.55, 0.05, 0.3, 0.8])
    labels = np.array([0, 0, 1, 0, 1, 0, 1, 1])
    test = Predictions(
        [f"{i}.jpg" for i in range(8)], ["test"] * 8, labels, np.stack([1 - positive, positive], 1), ("a", "b"), "b"
    )
    chosen = telling_images(test, None, each=2)
    assert chosen["errors"].tolist() == [1, 0]
    assert sorted(chosen["uncertain"].tolist()) == [3, 4]
    assert sorted(chosen["correct"].tolist()) == [5, 7]
    # At a threshold of 0.25, image 2 alone of the second class is missed, and 6 is the nearest to it.
    chosen = telling_images(test, 0.25, each=3)
    assert chosen["errors"].tolist() == [1, 0, 2]
    assert chosen["uncertain"].tolist()[:1] == [6]


def test_heat_leaves_the_picture_grey_where_there_is_none():
    pixels = np.full((8, 8, 3), (200, 40, 40), np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[:, 3] = 1
    mixed = overlaid(pixels, heat).astype(int)
    assert np.ptp(mixed[:, 0], axis=-1).max() == 0
    assert np.ptp(mixed[:, 7], axis=-1).min() > 40


def test_durations_as_people_say_them():
    spoken = [seconds(value) for value in (0.236, 1.2, 43.4, 59.7, 125, 11400)]
    assert spoken == ["0.24 s", "1.2 s", "43 s", "1 min 00 s", "2 min 05 s", "3 h 10 min"]


def test_a_folder_that_holds_nothing_still_gives_a_page(tmp_path):
    from raylight.runs.run_dir import RunDir

    page = Page(write_report(RunDir(tmp_path)))
    assert page.text.count("This section couldn't be made") == len(SECTIONS)
    assert "Research only" in page.text
    assert not Path(tmp_path / "model_card.md").exists()
