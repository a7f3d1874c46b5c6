"""Parts of the pages of sweeps and comparisons: rendering, formatting of numbers, accuracy against cost.

Leaves out the contents of a page (``comparison``) and the page of a single run (``run_page``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylight.report.templating import page_templates

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MATHS = {
    "<": "<",
    ">": ">",
    "±": r"\pm",
    "−": "-",
    "×": r"\times",
    "→": r"\to",
    "≥": r"\ge",
    "≤": r"\le",
    "↓": r"\downarrow",
}
"""Characters that LaTeX sets in maths mode."""


@dataclass(frozen=True)
class Costed:
    """A model's accuracy and cost.

    Attributes:
        name: for the legend.
        accuracy: 0 to 1.
        low: lower bound of its 95 % interval; None where there is none.
        high: upper bound.
        seconds: of training.
        parameters: of the network.
        runs: accuracy of each run, where there are several.
    """

    name: str
    accuracy: float
    low: float | None
    high: float | None
    seconds: float | None
    parameters: int | None
    runs: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """A figure inside a page.

    Attributes:
        uri: the PNG as a data URI.
        width: in pixels.
        height: in pixels.
        words: alternative text.
    """

    uri: str
    width: int
    height: int
    words: str


def render(template: str, **facts: Any) -> str:
    """Render one of this package's templates; missing values are errors, text is escaped."""
    pages = page_templates("raylight.report")
    pages.filters.update(count=count, seconds=seconds, p_value=p_value, decimal=decimal)
    return pages.get_template(template).render(**facts)


def draw_costs(points: Sequence[Costed], folder: Path) -> list[Chart]:
    """Draw accuracy against training time and against parameters.

    Args:
        points: one per model; without a cost a model is left out of that figure.
        folder: for ``accuracy_time.png`` and ``accuracy_parameters.png``.

    Returns:
        The figures that could be drawn.
    """
    from raylight.report.figures.style import save
    from raylight.report.images import chart

    charts = []
    costs: list[tuple[str, str, list[tuple[Costed, float | None]]]] = [
        ("accuracy_time", "training time (s)", [(point, point.seconds) for point in points]),
        ("accuracy_parameters", "parameters", [(point, point.parameters) for point in points]),
    ]
    for name, label, pairs in costs:
        known = [(point, float(cost)) for point, cost in pairs if cost]
        if known:
            path = save(_costpanel(known, label), folder / f"{name}.png")
            words = f"Test accuracy with 95 % interval against {label}: " + "; ".join(
                f"{point.name} {point.accuracy:.3f} at {cost:,.4g}" for point, cost in known
            )
            charts.append(Chart(*chart(path.read_bytes()), words))
    return charts


def _costpanel(points: "Sequence[tuple[Costed, float]]", label: str) -> "Figure":
    from raylight.report.figures.style import INK, SERIES, draw_legend, entry, panel, set_title, shortened

    n = len(points)
    figure, ax = panel(4.2 + 0.25 * math.ceil(min(n, 14) / 2))
    names = shortened([point.name for point, _ in points], 34)
    for position, ((point, cost), name) in enumerate(zip(points, names, strict=True)):
        colour = SERIES[position % len(SERIES)]
        marker = "osD^vPX"[position // len(SERIES) % 7]
        if len(point.runs) > 1:
            ax.plot([cost] * len(point.runs), list(point.runs), marker, color=colour, markersize=5, alpha=0.55)
        if point.low is not None and point.high is not None and len(point.runs) != 2:  # of two runs it spans the axis
            ax.plot(
                [cost, cost], [point.low, point.high], color=colour, linewidth=4, alpha=0.35, solid_capstyle="round"
            )
        ax.plot([cost], [point.accuracy], marker, color=colour, markersize=9, label=entry(name))
    costs = [cost for _, cost in points]
    if max(costs) / min(costs) > 8:
        ax.set_xscale("log")
    else:
        middle = (max(costs) + min(costs)) / 2
        reach = max(0.65 * (max(costs) - min(costs)), 0.15 * middle)
        ax.set_xlim(max(0.0, middle - reach), middle + reach)
    ax.set_ylim(top=min(ax.get_ylim()[1], 1.02))
    ax.set_xlabel(label, fontsize=13, color=INK)
    ax.xaxis.set_major_formatter(lambda value, _: count(value))
    set_title(ax, f"Test accuracy against {label.split(' (')[0]}")
    if n <= 14:
        beside = min(2, n)
        draw_legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=beside, frameon=False, fontsize=12)
    return figure


def latex_table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Format a table for LaTeX with booktabs: the first column flush left, the others flush right.

    Args:
        head: of each column.
        rows: cells, as many as ``head`` has.
        caption: below the table.
    """
    import pandas as pd

    table = pd.DataFrame([list(row) for row in rows], columns=list(head))
    styled = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    text: str = styled.to_latex(
        column_format="l" + "r" * (len(head) - 1), hrules=True, position_float="centering", caption=_escaped(caption)
    )
    for sign, command in MATHS.items():
        text = text.replace(sign, f"${command}$")
    return "% needs \\usepackage{booktabs}\n" + text.replace("–", "--")


def _escaped(text: str) -> str:
    named = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    return "".join(named.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


def count(number: float | None) -> str:
    """Format a large number with three digits, such as ``11.2 M``; a dash for None."""
    if number is None:
        return "–"
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def seconds(duration: float | None) -> str:
    """Format a duration; a dash for None.

    >>> [seconds(value) for value in (None, 0.237, 43.4, 119.6, 11400)]
    ['–', '0.24 s', '43 s', '2 min 00 s', '3 h 10 min']
    """
    if duration is None:
        return "–"
    if duration < 10:
        return f"{duration:.2g} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def p_value(value: float | None) -> str:
    """Format a p-value; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with a fixed number of decimals; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
