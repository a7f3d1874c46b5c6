"""Numbers as people write them."""

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from raylight.report.figures import style
from raylight.report.pages import Costed, count, decimal, draw_costs, latex_table, p_value, seconds


def test_durations_as_people_say_them():
    spoken = [seconds(value) for value in (0.236, 1.2, 43.4, 59.7, 125, 11400)]
    assert spoken == ["0.24 s", "1.2 s", "43 s", "1 min 00 s", "2 min 05 s", "3 h 10 min"]


def test_numbers_have_as_many_digits_as_mean_something() -> None:
    assert [count(value) for value in (None, 7, 1234, 11_181_642, 2.5e9)] == ["–", "7", "1.23 k", "11.2 M", "2.5 G"]
    assert [p_value(value) for value in (None, math.nan, 0.0004, 0.0234, 0.05, 0.71)] == [
        "–", "–", "< 0.001", "0.023", "0.050", "0.71"
    ]  # fmt: skip
    assert [decimal(value) for value in (None, math.nan, 0.98765)] == ["–", "–", "0.988"]


def test_costs_are_drawn_where_they_are_known(tmp_path: Path) -> None:
    points = [Costed("small", 0.8, 0.7, 0.9, 12.0, None), Costed("large", 0.9, None, None, 345.0, None, (0.88, 0.92))]
    (chart,) = draw_costs(points, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy_time.png"]
    with Image.open(tmp_path / "accuracy_time.png") as picture:
        assert picture.size == (chart.width, chart.height)
    assert chart.words.endswith("small 0.800 at 12; large 0.900 at 345")


@pytest.mark.filterwarnings("error")
def test_a_chart_of_costs_names_every_recipe_in_its_legend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures: list[Figure] = []
    save = style.save

    def saved(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(style, "save", saved)
    names = ["$1_$5", "_none", "a^b", "lr=$x$ 50%"]
    draw_costs([Costed(name, 0.8, 0.7, 0.9, 12.0, None) for name in names], tmp_path)
    (ax,) = figures[0].axes
    assert [(text.get_text(), text.get_parse_math()) for text in ax.get_legend().get_texts()] == [
        (name, False) for name in names
    ]


def test_a_caption_for_latex_is_text_as_written() -> None:
    caption = latex_table(["a"], [["b"]], r"10^5 ~ C:\x {50%}").splitlines()[3]
    assert caption == r"\caption{10\textasciicircum{}5 \textasciitilde{} C:\textbackslash{}x \{50\%\}}"


def test_a_table_for_latex_has_rules_and_its_signs_escaped() -> None:
    table = latex_table(["recipe & more", "p"], [["a_b → 50%", "< 0.001"], ["±1 – 2", "–"]], "Lower_is #1")
    assert table.splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Lower\_is \#1}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"recipe \& more & p \\",
        r"\midrule",
        r"a\_b $\to$ 50\% & $<$ 0.001 \\",
        r"$\pm$1 -- 2 & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
