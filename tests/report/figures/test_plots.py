import numpy as np
import pytest
from PIL import Image

from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions
from raylight.report.figures.curves import precision_recall_figure, reliability_figure, roc_figure
from raylight.report.figures.plots import confusion_figure, draw_plots, metrics_figure, training_figures
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
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure):
    return [text.get_text() for text in texts(figure)]


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
    paths = draw_plots(tmp_path / "plots", HISTORY, test, uncalibrated=test, temperature=1.0, best_epoch=5)
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
    paths = draw_plots(tmp_path, [], one_class)
    assert set(paths) == {"metrics", "confusion_matrix", "reliability"}
    with pytest.raises(ValueError, match="two classes"):
        roc_figure(one_class, evaluate(one_class))
