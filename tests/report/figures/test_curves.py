"""Curves say what they show."""

import numpy as np
import pytest

from raylight.evaluation.metrics import evaluate
from raylight.report.figures.curves import precision_recall_figure, reliability_figure, roc_figure
from raylight.report.figures.style import interval_text
from tests.report.figures.test_plots import sample, words


def test_roc_and_precision_recall_carry_their_interval_and_the_chosen_threshold():
    test = sample(60, ["cat", "dog"])
    estimates = evaluate(test, 0.3)
    roc = roc_figure(test, estimates, 0.3)
    assert {f"AUROC {interval_text(estimates['auroc'])}", "threshold 0.3"} <= set(words(roc))
    mark = next(line for line in roc.axes[0].lines if line.get_label() == "threshold 0.3")
    assert mark.get_ydata()[0] == pytest.approx(estimates["recall"].value)
    assert mark.get_xdata()[0] == pytest.approx(1 - estimates["specificity"].value)
    curve = next(line for line in roc.axes[0].lines if line.get_label().startswith("AUROC"))
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(estimates["auroc"].value)
    precision = precision_recall_figure(test, estimates, 0.3)
    assert f"average precision {interval_text(estimates['average_precision'])}" in words(precision)
    curve = next(line for line in precision.axes[0].lines if line.get_label().startswith("average"))
    area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
    assert area == pytest.approx(estimates["average_precision"].value)


def test_of_many_classes_the_hardest_are_named():
    names = [f"breed {i}" for i in range(12)]
    test = sample(240, names)
    estimates = evaluate(test, n_resamples=50)
    said = words(roc_figure(test, estimates))
    assert "the 8 other classes" in said
    assert sum(word.startswith("breed") for word in said) == 4
    assert any(word == f"mean {interval_text(estimates['auroc'])}" for word in said)
    few = sample(90, ["a", "b", "c"])
    assert sum(w.split()[0] in "abc" for w in words(roc_figure(few, evaluate(few, n_resamples=50)))) == 3


def test_reliability_compares_before_and_after():
    test, boasting = sample(300, ["cat", "dog"]), sample(300, ["cat", "dog"], seed=1, separation=4)
    estimates = evaluate(test)
    said = words(reliability_figure(test, estimates, boasting, 2.5))
    before = evaluate(boasting)["ece"].value
    assert f"as trained: ECE {before:.3f}" in said
    assert f"calibrated, T = 2.50: ECE {estimates['ece'].value:.3f}" in said
    assert f"ECE {estimates['ece'].value:.3f}" in words(reliability_figure(test, estimates))
