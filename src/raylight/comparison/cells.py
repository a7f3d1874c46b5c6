"""Tables of recipes for the terminal, Markdown and LaTeX: values, intervals, differences.

Leaves out which tables there are (``study_text``, ``sweep.files``) and HTML (``report/templates/study_parts.html``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from raylight.config.rules.metric_names import LABELS, LOWER_IS_BETTER
from raylight.evaluation.differences.paired import Difference
from raylight.evaluation.differences.random_effects import Spread
from raylight.report.pages import latex_table

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("accuracy", "balanced_accuracy", "f1", "auroc", "ece")
"""Metrics that fit on a terminal and a phone; the files have all."""


def words(metric: Spread) -> str:
    """Format a metric: ``0.950 ± 0.012``, for a single run without the standard deviation."""
    if metric.mean is None:
        return "–"
    deviation = "" if metric.deviation is None else f" ± {metric.deviation:.3f}"
    return f"{metric.mean:.3f}{deviation}"


def cell(metric: Spread) -> str:
    """Format value and interval on a line each; after two runs, also the interval expected with a third."""
    lines = [words(metric)]
    if metric.low is not None and metric.high is not None:
        lines.append(f"{metric.low:.3f} to {metric.high:.3f}")
    if (third := metric.worth_another) is not None:
        lines += ["with a third:", f"{third.low:.3f} to {third.high:.3f}"]
    return "\n".join(lines)


def difference_words(difference: Difference) -> str:
    """Format a difference with its interval, signed."""
    if math.isnan(difference.value):
        return "–"
    if math.isnan(difference.low):
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


@dataclass(frozen=True)
class TextTable:
    """A table for the terminal, Markdown and LaTeX.

    Attributes:
        title: above the table.
        head: of each column; the first one holds names, the others numbers.
        rows: cells, of one line or several.
        styles: Rich's style of each row; bold rows are bold in Markdown, too.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[str | None] = ()

    def terminal(self) -> "Table":
        """The table for Rich."""
        from rich.table import Table
        from rich.text import Text

        several = any("\n" in text for row in self.rows for text in row)
        table = Table(title=Text(self.title), title_justify="left", show_lines=several)
        longest = max((len(word) for name, *_ in self.rows for word in name.split()), default=0)
        table.add_column(self.head[0], overflow="fold", min_width=min(40, longest))
        for name in self.head[1:]:
            table.add_column(name, justify="right")
        for row, style in zip_longest(self.rows, self.styles):
            table.add_row(*map(Text, row), style=style)
        return table

    def markdown(self) -> list[str]:
        """The lines of the table in Markdown, without its title."""
        named = [
            [f"**{name}**" if style == "bold" else name, *cells]
            for (name, *cells), style in zip_longest(self.rows, self.styles)
        ]
        lines = [self.head, ["---"] * len(self.head), *named]
        return [
            f"| {' | '.join(text.replace('|', chr(92) + '|').replace(chr(10), '<br>') for text in line)} |"
            for line in lines
        ]

    def latex(self, caption: str) -> str:
        """The table in LaTeX, with a caption in place of the title."""
        return latex_table(self.head, [[text.replace("\n", ", ") for text in row] for row in self.rows], caption)


def metric_heads() -> list[str]:
    """Headings of the metrics in ``SHOWN``; an arrow marks those of which lower is better."""
    return [LABELS[name] + " ↓" * (name in LOWER_IS_BETTER) for name in SHOWN]
