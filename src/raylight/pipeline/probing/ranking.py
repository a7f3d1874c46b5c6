"""The table of ``raylight rank``: networks as probes on the same images, the leader first.

Leaves out the evaluation (``rank``).
"""

import html
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Ranked:
    """A network in the table.

    Attributes:
        network: its name.
        weights: ``pretrained``, the file that was given, or ``random``.
        accuracy: leave-one-out, on the images that it was evaluated on.
        low: lower bound of the 95 % interval.
        high: upper bound.
        images: number of images that it was evaluated on.
        difference: its accuracy minus the leader's, on the same images; 0 for the leader itself.
        difference_low: lower bound of the 95 % interval.
        difference_high: upper bound.
        p: p-value of no difference (McNemar), corrected for all networks (Holm); 1 for the leader itself.
        images_per_second: through the frozen layers, on this machine.
        parameters: of all layers.
        stopped: why it wasn't evaluated on all images; None if it was.
    """

    network: str
    weights: str
    accuracy: float
    low: float
    high: float
    images: int
    difference: float
    difference_low: float
    difference_high: float
    p: float
    images_per_second: float
    parameters: int
    stopped: str | None

    @property
    def like_the_leader(self) -> bool:
        """Whether it was evaluated on all images and doesn't differ significantly from the leader."""
        return self.stopped is None and not self.p < SIGNIFICANT


@dataclass(frozen=True)
class Ranking:
    """The result of ``raylight rank``.

    Attributes:
        networks: the leader first; then those evaluated on all images, by accuracy, then the others.
        images: number of train and val images, which were classified.
        command: trains the leader.
        seconds: wall time.
        refused: networks that can't be probed, with the reason.
    """

    networks: tuple[Ranked, ...]
    images: int
    command: str
    seconds: float
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def table(self) -> "pd.DataFrame":
        """A row per network."""
        import pandas as pd

        return pd.DataFrame([{**asdict(one), "like_the_leader": one.like_the_leader} for one in self.networks])

    @property
    def sentence(self) -> str:
        """The leader, and the networks that don't differ significantly from it."""
        leader, alike = self.networks[0], [one.network for one in self.networks if one.like_the_leader]
        lead = f"{leader.network} leads with {_interval(leader)}"
        if len(self.networks) == 1:
            return f"{lead}."
        if len(alike) == 1:
            return f"{lead}; the others are behind it, or were stopped early."
        count = _WORDS[len(alike)] if len(alike) < len(_WORDS) else str(len(alike))
        fastest = max((one for one in self.networks if one.like_the_leader), key=lambda one: one.images_per_second)
        return f"{lead}; these {count} don't differ significantly: {', '.join(alike)} (the fastest: {fastest.network})."

    def __str__(self) -> str:
        """The table as text, the sentence and the command."""
        shown = self._rows()
        widths = [max(len(row[place]) for row in shown) for place in range(len(_HEAD))]
        lines = [
            "  ".join(
                cell.ljust(width) if place in (0, len(_HEAD) - 1) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in shown
        ]
        lines += [f"{name} isn't ranked: {why}" for name, why in self.refused]
        return "\n".join([*lines, "", self.sentence, f"Train it: {self.command}"])

    def _rows(self) -> list[tuple[str, ...]]:
        return [_HEAD, *(_cells(one, leads=place == 0) for place, one in enumerate(self.networks))]

    def _repr_html_(self) -> str:
        rows = self._rows()
        kinds = ["th", *["td"] * len(self.networks)]
        body = "".join(
            f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in row)}</tr>"
            for kind, row in zip(kinds, rows, strict=True)
        )
        command = f"<p>Train it: <code>{html.escape(self.command)}</code></p>"
        return f"<table>{body}</table><p>{html.escape(self.sentence)}</p>{command}"


_HEAD = ("network", "accuracy", "95 % interval", "to the leader", "95 % interval", "p", "images/s", "parameters", "")


def _cells(one: Ranked, *, leads: bool) -> tuple[str, ...]:
    notes = [] if one.weights == "pretrained" else [f"weights: {one.weights}"]
    if one.stopped:
        notes.append(f"stopped after {one.images:,} images, {one.stopped}")
    return (
        one.network,
        f"{100 * one.accuracy:.1f} %",
        f"{100 * one.low:.1f} to {100 * one.high:.1f}",
        "" if leads else f"{100 * one.difference:+.1f}",
        "" if leads else f"{100 * one.difference_low:+.1f} to {100 * one.difference_high:+.1f}",
        "" if leads else f"{one.p:.3f}" if one.p >= 0.001 else "<0.001",
        f"{one.images_per_second:.0f}",
        f"{one.parameters / 1e6:.1f} M",
        "; ".join(notes),
    )


def _interval(one: Ranked) -> str:
    return f"{100 * one.accuracy:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f}) of {one.images:,} images"
