"""Curves say what they show."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as reference

from raylight.evaluation.intervals import wilson
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import UNKNOWN
from raylight.report.figures.curves import precision_recall_figure, reliability_figure, roc_figure
from raylight.report.figures.style import BLUE, SERIES, VERMILLION, interval_text
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
    assert f"uncalibrated: ECE {before:.3f}" in said
    assert f"calibrated, T = 2.50: ECE {estimates['ece'].value:.3f}" in said
    assert f"ECE {estimates['ece'].value:.3f}" in words(reliability_figure(test, estimates))


def tied(n, names, positive, separation=1.5):
    """Predictions of few different probabilities, so that many are tied; every fifth image is of unknown class."""
    test = sample(n, names, separation=separation)
    probabilities = np.round(test.probabilities, 1)
    probabilities[:, -1] = 1 - probabilities[:, :-1].sum(axis=1)
    labels = np.where(np.arange(n) % 5 == 4, UNKNOWN, test.labels)
    return dataclasses.replace(test, labels=labels, probabilities=np.abs(probabilities), positive_class=positive)


def drawn(figure, label):
    """The line whose legend entry begins so."""
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith(label)]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


@pytest.mark.parametrize("positive", ["cat", "dog"])
def test_the_points_of_two_classes_are_scikit_learns(positive):
    test = tied(70, ["cat", "dog"], positive)
    known = test.labels != UNKNOWN
    truth, score = test.labels[known] == test.positive, test.probabilities[known, test.positive]
    estimates = evaluate(test, 0.4, n_resamples=20)
    roc = roc_figure(test, estimates, 0.4)
    false_alarms, recall, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    assert np.stack(drawn(roc, "AUROC")) == pytest.approx(np.stack([false_alarms, recall]))
    chosen = score > 0.4
    mark = (chosen[~truth].mean(), chosen[truth].mean())
    assert tuple(float(axis[0]) for axis in drawn(roc, "threshold 0.4")) == pytest.approx(mark)
    diagonal = roc.axes[0].lines[0]
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert f"ROC: {positive}, {truth.sum()} of {known.sum()} images" in words(roc)

    figure = precision_recall_figure(test, estimates, 0.4)
    precision, recall, _ = (values[::-1] for values in reference.precision_recall_curve(truth, score))
    x, y = drawn(figure, "average precision")
    # From each recall to the next, the precision of the next.
    assert x[1::2] == pytest.approx(recall[:-1])
    assert x[2::2] == pytest.approx(recall[1:])
    assert y[1::2] == pytest.approx(precision[1:])
    assert y[2::2] == pytest.approx(precision[1:])
    assert y[0] == pytest.approx(precision[1])  # nothing is chosen there: the precision of the first
    mark = (chosen[truth].mean(), truth[chosen].mean())
    assert tuple(float(axis[0]) for axis in drawn(figure, "threshold 0.4")) == pytest.approx(mark)
    flat = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 1]]
    assert [list(line.get_ydata()) for line in flat] == [[truth.mean()] * 2]
    assert "threshold 0.5" in words(roc_figure(test, estimates))


def test_where_nothing_is_predicted_positive_there_is_no_precision_to_mark():
    test = sample(40, ["cat", "dog"])
    figure = precision_recall_figure(test, evaluate(test, 1.0, n_resamples=20), 1.0)
    assert not any(word.startswith("threshold") for word in words(figure))


@pytest.mark.parametrize("n_classes", [3, 7, 8, 9])
def test_each_class_against_the_rest_has_its_own_curve_the_hardest_in_colour(n_classes):
    names = [f"{letter}{letter}" for letter in "abcdefghi"[:n_classes]]
    test = sample(20 * n_classes, names, separation=1.0)
    estimates = evaluate(test, n_resamples=20)
    areas = {name: reference.roc_auc_score(test.labels == k, test.probabilities[:, k]) for k, name in enumerate(names)}
    precisions = {
        name: reference.average_precision_score(test.labels == k, test.probabilities[:, k])
        for k, name in enumerate(names)
    }
    for draw, values, title in (
        (roc_figure, areas, "ROC and its area"),
        (precision_recall_figure, precisions, "Average precision"),
    ):
        figure = draw(test, estimates)
        assert f"{title}, {n_classes} classes, {20 * n_classes} images" in words(figure)
        hardest = sorted(names, key=lambda name, values=values: values[name])
        coloured = hardest if n_classes <= 7 else hardest[:4]
        lines = {str(line.get_label()): line for line in figure.axes[0].lines}
        for name in names:
            label = f"{name} {values[name]:.3f}"
            assert (label in lines) == (name in coloured), label
            if name in coloured:
                assert lines[label].get_color() == SERIES[coloured.index(name)]
        grey = [line for line in figure.axes[0].lines if line.get_color() == "#C9C9C9" and len(line.get_xdata())]
        assert len(grey) == n_classes - len(coloured)
        assert (f"the {n_classes - 4} other classes" in words(figure)) == (n_classes > 7)
        # Of the hardest class, not only the area but also the points.
        k = names.index(hardest[0])
        x, y = drawn(figure, f"{hardest[0]} ")
        if draw is roc_figure:
            expected = reference.roc_curve(test.labels == k, test.probabilities[:, k], drop_intermediate=False)
            assert np.stack([x, y]) == pytest.approx(np.stack(expected[:2]))
        else:
            assert np.trapezoid(y, x) == pytest.approx(values[hardest[0]])


@pytest.mark.parametrize(("n", "bins"), [(199, 5), (200, 10)])
def test_reliability_shows_frequencies_with_wilsons_intervals_and_how_often_each_was_claimed(n, bins):
    test, boasting = sample(n, ["cat", "dog"]), sample(n, ["cat", "dog"], seed=1, separation=4)
    figure = reliability_figure(test, evaluate(test, n_resamples=20), boasting, 2.5)
    ax, below = figure.axes
    before, after = ax.containers
    for container, who, shift, colour in ((before, boasting, 0.006, VERMILLION), (after, test, 0.0, BLUE)):
        claimed, truth = who.probabilities[:, 1], who.labels == 1
        place = np.floor(claimed * bins)
        used = [np.flatnonzero(place == b) for b in range(bins) if (place == b).any()]
        line, _, (bars,) = container.lines
        assert line.get_color() == colour
        assert line.get_xdata() == pytest.approx([claimed[rows].mean() + shift for rows in used])
        assert line.get_ydata() == pytest.approx([truth[rows].mean() for rows in used])
        for segment, rows in zip(bars.get_segments(), used, strict=True):
            assert segment[:, 1] == pytest.approx(list(wilson(truth[rows].sum(), len(rows))))
    # The steps of a histogram with 20 bins, as often as each was claimed.
    for patch, who in zip(below.patches, (boasting, test), strict=True):
        counts = np.histogram(who.probabilities[:, 1], 20, (0, 1))[0]
        assert patch.get_xy()[1:-1:2, 1] == pytest.approx(counts)
    said = words(figure)
    assert "predicted probability of dog" in said
    assert {f"uncalibrated: ECE {evaluate(boasting, n_resamples=20)['ece'].value:.3f}"} <= set(said)


def test_reliability_of_more_classes_is_about_the_predicted_one():
    test = sample(60, ["a", "b", "c"])
    estimates = evaluate(test, n_resamples=20)
    figure = reliability_figure(test, estimates, temperature=1.5)
    assert {"predicted probability of the predicted class", f"ECE {estimates['ece'].value:.3f}"} <= set(words(figure))
    claimed, right = test.probabilities.max(axis=1), test.probabilities.argmax(axis=1) == test.labels
    ((line, _, _),) = [container.lines for container in figure.axes[0].containers]
    used = [np.floor(claimed * 5) == b for b in range(5) if (np.floor(claimed * 5) == b).any()]
    assert line.get_ydata() == pytest.approx([right[rows].mean() for rows in used])
