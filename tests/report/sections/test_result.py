"""What a run came to: the confusion matrix, classes, figures, calibration."""

import html
import json
import re

from omegaconf import OmegaConf

from raylight.evaluation.predictions import read_csv
from raylight.report.facts import RunFacts
from raylight.report.images import notable_images
from raylight.report.run_page import write_report
from raylight.report.sections.result import result
from tests.report.page_reader import Page


def test_the_confusion_matrix_and_the_classes_agree_with_the_predictions(finished):
    page = Page(write_report(finished.run))
    test = read_csv(finished.run / "predictions.csv", "dog").subset("test")
    said = test.predicted()
    counts = [[int(((test.labels == i) & (said == j)).sum()) for j in (0, 1)] for i in (0, 1)]
    cells = [f"{n}{n * 100 / 8:.0f} %" for n in counts[0]]
    assert page.row("true cat") == f"true cat {cells[0]} {cells[1]} 8"
    recall, precision = counts[1][1] / 8, counts[1][1] / (counts[0][1] + counts[1][1])
    assert re.match(rf"dog {precision:.3f}[\d.–]+ {recall:.3f}[\d.–]+ [\d.]+ 8$", page.row(f"dog {precision:.3f}"))


def test_no_temperature_is_claimed_where_none_was_fitted(finished):
    facts = json.loads((finished.run / "preprocessing.json").read_text())
    assert facts["temperature"] != 1
    write_report(finished.run)
    assert "with a temperature of" in (finished.run / "model_card.md").read_text()
    finished.run.write_json("preprocessing.json", {**facts, "temperature": 1.0})
    assert "no temperature was fitted" in Page(write_report(finished.run)).section("result")
    assert "uncalibrated" in (finished.run / "model_card.md").read_text()


def test_a_broken_figure_is_named_in_its_place(finished):
    (finished.run / "plots" / "roc.png").write_bytes(b"no picture")
    page = Page(write_report(finished.run))
    assert "The figure “roc” can't be shown (UnidentifiedImageError" in page.section("result")
    assert any(alt.startswith("Precision-recall curve, average precision") for alt in page.alts)


def test_many_classes(run_of):
    classes = tuple(f"kind <{i:02d}>" for i in range(14))
    run, network = run_of(classes)
    page = Page(write_report(run, network))
    assert "couldn't be rendered" not in page.text
    assert "14 classes" in page.section("summary")
    assert page.row("kind <13>").startswith("kind <13> 2 7 % 2 7 % 2 7 % 6")
    assert "most frequent errors" in page.section("result")
    assert "Figures were switched off" in page.section("result")
    assert "specificity" not in page.section("summary")


def test_phases_are_told_by_the_epochs_that_they_took(finished):
    """A solved head takes one epoch, whatever its share; a phase that was never reached isn't told."""
    import pandas as pd

    recipe = {"name": "recommended", "phases": [{"train_from": "head", "solve": True, "share": 0.5},
                                                {"train_from": "last_blocks"}, {"train_from": "all"}]}  # fmt: skip
    config = OmegaConf.load(finished.run / "config.yaml")
    config.finetune, config.model.weights = recipe, "DEFAULT"
    finished.run.write_text("config.yaml", OmegaConf.to_yaml(config))
    history = pd.read_csv(finished.run / "history.csv")
    history["phase"] = [0] + [1] * (len(history) - 1)
    history.to_csv(finished.run / "history.csv", index=False)
    told = Page(write_report(finished.run)).section("training")
    assert f"recipe recommended: head solved, then last blocks for {len(history) - 1} epochs." in told


def test_what_so_many_test_images_can_tell_is_said(finished):
    facts = RunFacts(finished.run)
    said = result(facts)["resolution"]
    assert said.startswith(f"16 test images measure an accuracy of {facts.right / 16:.2f} to ±")
    assert said in html.unescape(write_report(finished.run).read_text(encoding="utf-8"))


def test_the_training_images_most_alike_stand_beside_an_error(finished):
    facts = RunFacts(finished.run)
    position = notable_images(facts.test, facts.threshold)["errors"][0]
    path, near = facts.test.paths[position], facts.index.in_split("train").column("path")[:2]
    finished.run.write_json("neighbours.json", {path: [[near[0], "cat"], [near[1], "dog"], ["gone.png", "dog"]]})
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert page.count("nearest training images:") == 1
    assert html.unescape(page).count(f'alt="{near[0]}: cat"') == 1
    assert "gone.png: dog" not in page
    assert "1 picture can" in page
