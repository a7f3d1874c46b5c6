"""The figures for decisions draw the numbers they are given, and the results file and the page tell them."""

import json

import numpy as np
import pytest

from raylight.evaluation.clinical.net_benefit import decision_curve
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import read_csv
from raylight.report.figures.clinical import decision_curve_figure, probabilities_figure
from raylight.report.figures.plots import Evaluated, draw_plots
from raylight.report.run_page import write_report
from tests.finished_run import FinishedRun
from tests.report.figures.test_plots import sample, words


def test_the_decision_curve_shows_the_model_and_both_ways_of_doing_without_it() -> None:
    test = sample(120, ["cat", "dog"])
    curve = decision_curve(test.labelled())
    figure = decision_curve_figure(curve, test, 0.3)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines.keys() == {"model", "all as dog", "none", "threshold 0.3"}
    assert lines["model"].get_ydata().tolist() == curve.model.tolist()
    assert lines["all as dog"].get_ydata().tolist() == curve.treat_all.tolist()
    assert set(lines["none"].get_ydata()) == {0}
    assert "threshold probability of dog" in words(figure)


def test_each_class_has_its_own_histogram() -> None:
    test = sample(120, ["cat", "dog"])
    figure = probabilities_figure(test, 0.3)
    for ax, name in zip(figure.axes, ("dog", "cat"), strict=True):
        own = test.labelled().labels == test.class_names.index(name)
        counts, _ = np.histogram(test.labelled().probabilities[own, 1], np.linspace(0, 1, 21))
        assert [patch.get_height() for patch in ax.patches] == counts.tolist()
    assert {"dog, 60 images", "cat, 60 images"} <= set(words(figure))


def test_files_are_written_by_name(tmp_path) -> None:
    test = sample(40, ["cat", "dog"])
    curve = decision_curve(test.labelled())
    drawn = draw_plots(tmp_path, [], Evaluated(test, evaluate(test), curve=curve))
    files = {name: path for name, path in drawn.items() if name in ("decision_curve", "probabilities")}
    assert files == {name: tmp_path / f"{name}.png" for name in ("decision_curve", "probabilities")}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files.values())


def test_the_run_folder_and_the_page_have_them(finished: FinishedRun) -> None:
    found = finished.run.read_json("metrics.json")
    test = read_csv(finished.run / "predictions.csv", "dog").subset("test")
    share = float((test.labels == test.positive).mean())
    at = found["decision_curve"]["thresholds"].index(0.2)
    assert found["decision_curve"]["treat_all"][at] == pytest.approx(share - (1 - share) * 0.25, abs=1e-6)
    assert found["recalibration"]["intercept"]["n"] == len(test)
    assert (finished.run / "plots" / "decision_curve.png").is_file()
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert f"Calibration intercept {found['recalibration']['intercept']['value']:+.2f}" in page
    assert "net benefit" in page


def test_a_calibration_slope_without_an_interval_leaves_the_page_whole(finished: FinishedRun) -> None:
    found = finished.run.read_json("metrics.json")
    found["recalibration"]["slope"] = {"value": None, "low": None, "high": None, "n": 60}
    found["recalibration"]["intercept"] = {"value": 0.5, "low": None, "high": None, "n": 60}
    finished.run.write_text("metrics.json", json.dumps(found))
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert "there is no calibration slope" in page
    assert "Calibration intercept +0.50 (no interval can be given);" in " ".join(page.split())
    assert "couldn't be rendered" not in page
