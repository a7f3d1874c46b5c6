from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.text import Text
from PIL import Image

from raylight.evaluation.clinical.net_benefit import decision_curve
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions
from raylight.report.figures import plots
from raylight.report.figures.curves import precision_recall_figure, reliability_figure, roc_figure
from raylight.report.figures.plots import Evaluated, confusion_figure, draw_plots, metrics_figure, training_figures
from raylight.report.figures.style import interval_text, save

HISTORY = [
    {"epoch": i, "train/loss": 1 / (i + 1), "val/loss": 1.2 / (i + 1), "train/accuracy": 0.5 + i / 20,
     "val/accuracy": 0.5 + i / 25, "learning_rate": 1e-3}
    for i in range(8)
]  # fmt: skip


def sample(n, names, seed=0, separation=1.5):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(names)
    logits = rng.normal(size=(n, len(names))) + separation * np.eye(len(names))[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    paths = [f"{i}.jpg" for i in range(n)]
    return Predictions(paths, ["test"] * n, labels, probabilities, tuple(names), names[-1])


def texts(figure):
    """Every text that is drawn, legends and tick labels included."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure):
    return [text.get_text() for text in texts(figure)]


def texts_of_svg(file):
    """What a reader of the figure sees, where ``svg.fonttype`` is none; maths would be in pieces."""
    return [element.text or "" for element in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")]


def assert_nothing_is_cut_off(figure):
    """No text reaches over the figure's edge; ticks outside the axes' limits aren't drawn and don't count."""
    drawn = texts(figure)
    width, height = figure.canvas.get_width_height()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        least, most = sorted(axis.get_view_interval())
        outside = [tick.label1 for tick in axis.majorTicks if not least <= tick.get_loc() <= most]
        drawn = [text for text in drawn if text not in outside]
    for text in drawn:
        box = text.get_window_extent()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -1, text.get_text()


def test_a_run_gets_all_its_figures_at_a_readable_size(tmp_path):
    test = sample(60, ["cat", "dog"])
    paths = draw_plots(tmp_path / "plots", HISTORY, Evaluated(test, evaluate(test), None, test, 1.0), best_epoch=5)
    curves, judged = (
        "loss accuracy learning_rate",
        "metrics confusion_matrix roc precision_recall reliability",
    )
    assert list(paths) == f"{curves} {judged}".split()
    for name, path in paths.items():
        assert path == tmp_path / "plots" / f"{name}.png"
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width == 1080
            # Not an empty page.
            assert np.asarray(image.convert("L")).std() > 5, name


def test_a_history_as_csv_gives_it_with_gaps_is_drawn():
    rows = [{name: str(value) for name, value in row.items()} for row in HISTORY]
    rows[2] |= {"val/loss": "", "val/accuracy": "nan", "learning_rate": None}
    figures = training_figures(rows)
    assert len(figures["loss"].axes[0].lines[1].get_xdata()) == 7
    assert len(figures["accuracy"].axes[0].lines[1].get_xdata()) == 7
    assert list(training_figures([{"epoch": 0, "train/loss": 0.7}])) == ["loss"]
    assert training_figures([]) == {}


def test_the_confusion_matrix_shows_counts_and_shares():
    test = sample(40, ["cat", "dog"])
    figure = confusion_figure(test)
    chosen = test.predicted()
    for true in (0, 1):
        for predicted in (0, 1):
            count = int(((test.labels == true) & (chosen == predicted)).sum())
            assert str(count) in words(figure)
            assert f"{count / 20:.0%}" in words(figure)
    assert "Confusion matrix, 40 images" in words(figure)
    mild = confusion_figure(test, threshold=0.01)
    assert {"0", "100%"} <= set(words(mild))


def test_metrics_that_are_not_defined_say_so():
    test = sample(20, ["cat", "dog"])
    estimates = evaluate(test.where(test.labels == 1))
    said = words(metrics_figure(estimates))
    assert said.count("not defined") == 5
    assert interval_text(estimates["recall"]) in said
    assert "Brier score ↓" in said


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "names",
    [
        ["a class $with a price$ and a name that goes on and on for ever", "50% off_{of}^it", "猫"],
        [f"an unreasonably long class name, number {i}" for i in range(9)],
        [f"class {i:03d} of very many that all begin alike" for i in range(60)],
    ],
)
def test_awkward_class_names_fit_on_the_page(tmp_path, names):
    test = sample(len(names) * 6, names)
    estimates = evaluate(test, n_resamples=20)
    for figure in (
        confusion_figure(test),
        roc_figure(test, estimates),
        precision_recall_figure(test, estimates),
        reliability_figure(test, estimates, test, 1.0),
    ):
        save(figure, tmp_path / "figure.png")
        save(figure, tmp_path / "figure.svg")
        if "猫" not in names:
            assert_nothing_is_cut_off(figure)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [("$1_$5", "_none", "a^b", "50%"), ("_none", "$1_$5")])
def test_every_figure_shows_class_names_as_they_are(tmp_path, names):
    test = sample(80, names)
    two = len(names) == 2
    curve = decision_curve(test.labelled()) if two else None
    estimates = evaluate(test, n_resamples=20)
    with rc_context({"svg.fonttype": "none"}):
        draw_plots(tmp_path, [], Evaluated(test, estimates, curve=curve), vector="svg")
    positive = names[-1]
    for figure, shown in {
        "confusion_matrix": names,
        "roc": [f"ROC: {positive}, 40 of 80 images"] if two else names,
        "precision_recall": [f"Precision and recall: {positive}, 40 of 80 images"] if two else names,
        "reliability": [f"predicted probability of {positive}"] if two else [],
        "decision_curve": [f"all as {positive}", f"threshold probability of {positive}"] if two else [],
        "probabilities": [f"{name}, 40 images" for name in names] if two else [],
    }.items():
        if shown:
            drawn = texts_of_svg(tmp_path / f"{figure}.svg")
            if figure in ("roc", "precision_recall") and not two:  # with the area
                drawn = [text.rsplit(" ", 1)[0] for text in drawn]
            assert set(shown) <= set(drawn), figure


def test_curves_say_what_they_are_and_where_the_checkpoint_was_taken():
    figures = training_figures(HISTORY, best_epoch=5)
    assert {"train", "validation", "epoch 6 chosen", "Loss", "epoch"} <= set(words(figures["loss"]))
    train, validation, chosen = figures["loss"].axes[0].lines
    assert train.get_ydata() == pytest.approx([row["train/loss"] for row in HISTORY])
    assert validation.get_ydata() == pytest.approx([row["val/loss"] for row in HISTORY])
    assert list(chosen.get_xdata()) == [6, 6]
    assert list(train.get_xdata()) == list(range(1, 9))
    assert any("%" in word for word in words(figures["accuracy"]))


def test_a_test_split_of_one_class_has_no_roc(tmp_path):
    test = sample(20, ["cat", "dog"])
    one_class = test.where(test.labels == 1)
    paths = draw_plots(tmp_path, [], Evaluated(one_class, evaluate(one_class)))
    assert set(paths) == {"metrics", "confusion_matrix", "reliability"}
    with pytest.raises(ValueError, match="two classes"):
        roc_figure(one_class, evaluate(one_class))


def test_curves_have_the_values_of_the_history_and_count_epochs_from_one():
    figures = training_figures(HISTORY, best_epoch=0)
    for name, columns in (
        ("loss", ["train/loss", "val/loss"]),
        ("accuracy", ["train/accuracy", "val/accuracy"]),
        ("learning_rate", ["learning_rate"]),
    ):
        *lines, chosen = figures[name].axes[0].lines
        assert len(lines) == len(columns)
        for line, column in zip(lines, columns, strict=True):
            assert list(line.get_xdata()) == list(range(1, 9))
            assert list(line.get_ydata()) == [row[column] for row in HISTORY]
        assert list(chosen.get_xdata()) == [1, 1]
        assert "epoch 1 chosen" in words(figures[name])
    assert "Learning rate" in words(figures["learning_rate"])
    assert "0.001" in words(figures["learning_rate"])
    assert len(training_figures(HISTORY)["loss"].axes[0].lines) == 2


def test_a_single_epoch_is_a_dot_and_hundreds_are_a_line():
    size = lambda n: training_figures([{"epoch": i, "train/loss": 1.0} for i in range(n)])["loss"].axes[0].lines[0]  # noqa: E731
    assert [size(n).get_markersize() for n in (1, 30, 31)] == [9, 5, 0]


def test_metrics_are_drawn_at_their_values_on_their_intervals():
    test = sample(30, ["cat", "dog"], separation=-0.2)
    estimates = evaluate(test, n_resamples=50)
    assert estimates["mcc"].low < 0
    figure = metrics_figure(estimates)
    (ax,) = figure.axes
    spans, dots = ax.lines[::2], ax.lines[1::2]
    for row, (name, estimate) in enumerate(estimates.items()):
        assert list(spans[row].get_xdata()) == [estimate.low, estimate.high], name
        assert list(spans[row].get_ydata()) == [row, row]
        assert (list(dots[row].get_xdata()), list(dots[row].get_ydata())) == ([estimate.value], [row])
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "accuracy", "balanced accuracy", "precision", "recall", "specificity", "F1", "AUROC", "average precision",
        "Matthews correlation", "calibration error ↓", "Brier score ↓",
    ]  # fmt: skip
    least, most = ax.get_xlim()
    assert least < min(estimate.low for estimate in estimates.values())
    assert most > 1
    top, bottom = ax.get_ylim()
    assert top > len(estimates) - 1 > 0 > bottom


def cells(figure):
    """What stands in each cell of the matrix, from top to bottom."""
    found = {}
    for text in sorted(figure.axes[0].texts, key=lambda text: text.get_position()[1]):
        column, row = text.get_position()
        found.setdefault((round(row), round(column)), []).append(text.get_text())
    return found


@pytest.mark.parametrize("k", [3, 10, 11, 25, 26])
def test_each_cell_of_the_confusion_matrix_stands_for_its_class_and_prediction(k):
    names = [f"c{i}" for i in range(k)]
    test = sample(4 * k, names, separation=2.0)
    known = test.labels != k - 1  # the last class has no image, but may be predicted
    test = test.where(known)
    figure = confusion_figure(test)
    counts = np.zeros((k, k), int)
    for true, predicted in zip(test.labels, test.probabilities.argmax(axis=1), strict=True):
        counts[true, predicted] += 1
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    assert np.asarray(figure.axes[0].images[0].get_array()) == pytest.approx(shares)
    expected = {}
    for row, column in np.ndindex(k, k) if k <= 25 else ():
        count, share = counts[row, column], f"{shares[row, column]:.0%}" if row < k - 1 else "–"
        if k <= 10:
            expected[row, column] = [str(count), share]
        elif count:
            expected[row, column] = [str(count)]
    assert cells(figure) == expected
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted", "true")
    assert len(figure.axes) == (1 if k <= 10 else 2)  # beyond 10, a bar says what the colours mean


def test_dark_cells_are_written_on_in_white():
    test = sample(60, ["cat", "dog"], separation=4)
    figure = confusion_figure(test)
    colours = {cell.get_text(): cell.get_color() for cell in figure.axes[0].texts}
    confused = test.predicted() != test.labels
    wrong = f"{confused[test.labels == 0].mean():.0%}"
    right = f"{1 - confused[test.labels == 0].mean():.0%}"
    assert (colours[right], colours[wrong]) == ("white", "#222222")


@pytest.mark.parametrize(("k", "step"), [(45, 1), (46, 2), (91, 3)])
def test_of_very_many_classes_every_second_or_third_is_named(k, step):
    ax = confusion_figure(sample(2 * k, [f"c{i}" for i in range(k)])).axes[0]
    for axis in (ax.xaxis, ax.yaxis):
        assert list(axis.get_ticklocs()) == list(range(0, k, step))
        assert [label.get_text() for label in axis.get_ticklabels()] == [f"c{i}" for i in range(0, k, step)]


@pytest.mark.parametrize(("k", "longest"), [(10, 24), (11, 16)])
def test_class_names_are_shortened_to_what_fits_beside_the_matrix(k, longest):
    figure = confusion_figure(sample(2 * k, [f"{i:02} {'x' * 40}" for i in range(k)]))
    assert {len(label.get_text()) for label in figure.axes[0].get_yticklabels()} == {longest}


def test_plots_are_made_of_the_threshold_the_temperature_and_the_epoch_that_were_chosen(tmp_path, monkeypatch):
    test, before = sample(60, ["cat", "dog"]), sample(60, ["cat", "dog"], seed=1)
    drawn = {}
    monkeypatch.setattr(plots, "save_all", lambda figures, *_: drawn.update(figures))
    estimates = evaluate(test, 0.3)
    draw_plots(tmp_path, HISTORY, Evaluated(test, estimates, 0.3, before, 2.0), 5)
    expected = {
        **training_figures(HISTORY, 5),
        "metrics": metrics_figure(estimates),
        "confusion_matrix": confusion_figure(test, 0.3),
        "roc": roc_figure(test, estimates, 0.3),
        "precision_recall": precision_recall_figure(test, estimates, 0.3),
        "reliability": reliability_figure(test, estimates, before, 2.0),
    }
    said = lambda figure: [text.get_text() for text in figure.findobj(Text)]  # noqa: E731 - undrawn, for time
    assert {name: said(figure) for name, figure in drawn.items()} == {n: said(f) for n, f in expected.items()}
