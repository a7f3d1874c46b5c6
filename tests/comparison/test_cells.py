"""How values, intervals and differences are written."""

import io
import math

import pytest
from rich.console import Console

from raylight.comparison.cells import TextTable, cell, difference_words, words
from raylight.evaluation.differences.paired import Difference
from raylight.evaluation.differences.random_effects import spread


def value(mean: float) -> dict[str, float]:
    return {"value": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 50}


def test_a_metric_has_its_deviation_where_there_are_several_runs() -> None:
    assert words(spread("mcc", [value(0.5)])) == "0.500"
    assert words(spread("mcc", [value(0.4), value(0.6)])) == "0.500 ± 0.141"  # 0.2 / sqrt(2)
    assert words(spread("mcc", [])) == "–"


def test_a_cell_holds_the_interval_and_what_a_third_run_would_make_of_it() -> None:
    assert cell(spread("mcc", [value(0.5)])) == "0.500\n0.400 to 0.600"
    two = spread("mcc", [value(0.49), value(0.51)])
    assert two.worth_another is not None
    third = f"{two.worth_another.low:.3f} to {two.worth_another.high:.3f}"
    assert cell(two).splitlines()[2:] == ["with a third:", third]


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        ((0.05, -0.01, 0.11), "+0.050 (-0.010 to +0.110)"),
        ((-0.05, math.nan, math.nan), "-0.050"),
        ((math.nan, math.nan, math.nan), "–"),
    ],
)
def test_a_difference_is_signed(difference: tuple[float, float, float], text: str) -> None:
    assert difference_words(Difference(*difference, 0.5)) == text


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    table = TextTable("", ["a", "b"], [["x|y", "1"], ["z", "2\n1 to 3"]], [None, "bold"])
    assert table.markdown() == ["| a | b |", "| --- | --- |", r"| x\|y | 1 |", "| **z** | 2<br>1 to 3 |"]


def test_a_table_on_the_terminal_takes_no_name_for_markup() -> None:
    console = Console(file=io.StringIO(), width=60)
    console.print(TextTable("Sweep [red]", ["model", "runs"], [["[32,64]", "1\n2"]]).terminal())
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "Sweep [red]" in shown
    assert "[32,64]" in shown


def test_a_narrow_terminal_shows_fewer_columns_and_names_the_others() -> None:
    table = TextTable("t", ["name", "a", "b", "c"], [["x", "1", "22", "333\n4"]], optional=("b", "a"))
    needed = (4 + 1 + 2 + 3) + 4 * 3 + 1  # characters of the columns; borders and spaces

    def shown(width: int) -> list[str]:
        console = Console(width=width, file=io.StringIO())
        console.print(table.terminal(width))
        assert isinstance(console.file, io.StringIO)
        lines = console.file.getvalue().splitlines()
        assert all(len(line) <= width for line in lines)
        return lines

    assert "Not shown" not in "".join(shown(needed))
    fewer = shown(needed - 1)
    assert [head.strip() for head in fewer[2].strip("┃").split("┃")] == ["name", "a", "c"]
    assert "Not shown at this width: b." in " ".join(" ".join(fewer).split())
    assert "Not shown at this width: b, a." in " ".join(" ".join(shown(needed - 6)).split())
