"""Names short enough for an axis, and pyplot left alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import rc_context

from raylight.evaluation.metrics import Estimate
from raylight.report.figures.style import (
    draw_legend,
    entry,
    interval_text,
    panel,
    save,
    save_all,
    shorten,
    shortened,
)
from tests.report.figures.test_plots import texts_of_svg


def test_shortened_names_stay_different():
    assert shortened(["cat", "dog"], 10) == ["cat", "dog"]
    assert shortened(["Labrador retriever", "Golden retriever"], 10) == ["Labra…ever", "Golde…ever"]
    assert shortened([f"retriever number {i} of all the ten" for i in range(3)], 19) == [
        "retriever number 0…",
        "retriever number 1…",
        "retriever number 2…",
    ]
    assert all(len(name) <= 12 for name in shortened([f"{'x' * 40}{i}" for i in range(20)], 12))


@pytest.mark.parametrize(
    ("longest", "expected"), [(10, "abcdefghij"), (9, "abcd…ghij"), (8, "abcd…hij"), (3, "a…j"), (11, "abcdefghij")]
)
def test_a_name_keeps_its_beginning_and_its_end(longest: int, expected: str) -> None:
    assert shorten("abcdefghij", longest) == expected


def test_of_three_ways_to_shorten_the_one_that_keeps_names_apart_is_taken() -> None:
    # Middles, beginnings and ends that alone tell the names apart.
    assert shortened(["aaaaaa1aaaaaa", "aaaaaa2aaaaaa"], 12) == ["aaaaaa1aaaa…", "aaaaaa2aaaa…"]
    assert shortened(["bbbbbbb1b", "bbbbbbb2b"], 6) == ["bbb…1b", "bbb…2b"]
    assert shortened(["cccc1cccc", "cccc2cccc"], 6) == ["cccc1…", "cccc2…"]
    assert shortened(["dddddd1ddd", "dddddd2ddd", "dddddd3ddd"], 6) == ["…d1ddd", "…d2ddd", "…d3ddd"]
    assert shortened(["short", "dddddd1ddd", "dddddd2ddd"], 6) == ["short", "…d1ddd", "…d2ddd"]


NAMES = ("$1_$5", "_none", "a^b", "50%", "$_{x}$", r"\$", "_child1")


def test_a_legend_shows_names_as_they_are_and_nothing_without_one(tmp_path: Path) -> None:
    figure, ax = panel(3)
    ax.plot([0, 1], [1, 0])
    for name in NAMES:
        ax.plot([0, 1], [0, 1], label=entry(name))
    draw_legend(ax, loc="best")
    with rc_context({"svg.fonttype": "none"}):
        save(figure, tmp_path / "f.svg")
    assert texts_of_svg(tmp_path / "f.svg")[-len(NAMES) :] == list(NAMES)


def test_an_interval_is_written_with_three_digits() -> None:
    assert interval_text(Estimate(0.925, 0.80123, 0.97451, 40, "Wilson")) == "0.925 (0.801–0.975)"


def test_drawing_leaves_pyplot_and_its_settings_alone(tmp_path):
    script = f"""
import sys
import matplotlib
# Reading the setting "backend" would choose one, and so import pyplot.
settings = lambda: {{key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}}
before = settings()
from raylight.report.figures.plots import *
from raylight.evaluation.metrics import evaluate
import numpy as np
p = np.linspace(0.1, 0.9, 20)
names = [str(i) for i in range(20)]
test = Predictions(names, ["test"] * 20, np.arange(20) % 2, np.stack([1 - p, p], 1), ("a", "b"), "b")
draw_plots(Path({str(tmp_path)!r}), [], Evaluated(test, evaluate(test)))
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
assert settings() == before
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("vector", "start"), [("pdf", b"%PDF-"), ("svg", b"<?xml")])
def test_figures_are_written_as_vector_graphics_beside_the_png(tmp_path: Path, vector: str, start: bytes) -> None:
    figure, ax = panel(3)
    ax.plot([0, 1], [0, 1])
    assert save_all({"line": figure}, tmp_path, vector) == {"line": tmp_path / "line.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"line.png", f"line.{vector}"}
    assert (tmp_path / f"line.{vector}").read_bytes().startswith(start)
