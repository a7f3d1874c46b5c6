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
        optional: headings of columns that a narrow terminal doesn't show, the first to go first.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[str | None] = ()
    optional: Sequence[str] = ()

    def terminal(self, width: int | None = None) -> "Table":
        """The table for Rich.

        Args:
            width: of the terminal, in characters; optional columns that don't fit are left out, and named below.
        """
        left_out: list[str] = []
        while width is not None and self._width(left_out) > width and len(left_out) < len(self.optional):
            left_out.append(self.optional[len(left_out)])
        return self._terminal(left_out)

    def _width(self, left_out: Sequence[str]) -> int:
        """Characters that the columns take if no number is wrapped, and no name of up to 40 characters."""
        names, *columns = [
            max(len(line) for text in column for line in text.split("\n"))
            for column in zip(self.head, *self.rows, strict=True)
            if column[0] not in left_out
        ]
        return min(40, names) + sum(columns) + 3 * (len(columns) + 1) + 1

    def _terminal(self, left_out: Sequence[str]) -> "Table":
        from rich.table import Table
        from rich.text import Text

        several = any("\n" in text for row in self.rows for text in row)
        caption = f"Not shown at this width: {', '.join(left_out)}." if left_out else None
        table = Table(
            title=Text(self.title), title_justify="left", show_lines=several, caption=caption, caption_justify="left"
        )
        longest = max(len(word) for name in (self.head[0], *(row[0] for row in self.rows)) for word in name.split())
        table.add_column(self.head[0], overflow="fold", min_width=min(40, longest))
        shown = [position for position, name in enumerate(self.head) if name not in left_out]
        for position in shown[1:]:
            table.add_column(self.head[position], justify="right")
        for row, style in zip_longest(self.rows, self.styles):
            table.add_row(*(Text(row[position]) for position in shown), style=style)
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
