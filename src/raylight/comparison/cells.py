"""How tables of recipes are written, on every medium: values, intervals, differences, Markdown rows.

Leaves out which tables there are (``study_text``, ``sweep.files``) and HTML (``report/templates/study_parts.html``).
"""

import math
from collections.abc import Sequence

from raylight.evaluation.differences.paired import Difference
from raylight.evaluation.differences.random_effects import Spread

SHOWN = ("accuracy", "balanced_accuracy", "f1", "auroc", "ece")
"""Metrics that fit on a terminal and a phone; the files have all."""


def words(metric: Spread) -> str:
    """A metric: ``0.950 ± 0.012``, or without the deviation of a single run."""
    if metric.mean is None:
        return "–"
    deviation = "" if metric.deviation is None else f" ± {metric.deviation:.3f}"
    return f"{metric.mean:.3f}{deviation}"


def cell(metric: Spread, between: str) -> str:
    """Value and interval, and with two runs what a third would make of it, with something between them."""
    lines = [words(metric)]
    if metric.low is not None and metric.high is not None:
        lines.append(f"{metric.low:.3f} to {metric.high:.3f}")
    if (third := metric.worth_another) is not None:
        lines += ["with a third:", f"{third.low:.3f} to {third.high:.3f}"]
    return between.join(lines)


def difference_words(difference: Difference) -> str:
    """A difference with its interval, signed."""
    if math.isnan(difference.value):
        return "–"
    if math.isnan(difference.low):
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def markdown_head(names: Sequence[str]) -> list[str]:
    """The first two lines of a table in Markdown."""
    return [markdown_row(names), f"|{' --- |' * len(names)}"]


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells)} |"
