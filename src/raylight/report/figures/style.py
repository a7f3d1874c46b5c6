"""The style of figures: colours, sizes, titles, legends, shortened names."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raylight.evaluation.metrics import Estimate
from raylight.evaluation.predictions import LabelledPredictions
from raylight.storage.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#B8A800"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
INK, FAINT, GRID = "#222222", "#767676", "#E4E4E4"
DASHED = (0, (4, 3))
WIDTH = 7.2
DPI = 150

_KEPT = "\u200b"
"""Put before a leading underscore: Matplotlib leaves artists out of legends whose labels begin with one."""

_LEGEND: dict[str, Any] = {
    "frameon": True,
    "framealpha": 0.9,
    "edgecolor": "none",
    "fontsize": 12,
    "labelcolor": INK,
}


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure in the format of the file's extension; returns the path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    content = io.BytesIO()
    with warnings.catch_warnings():
        # Class names may need characters that the font lacks; the figure shows boxes, as browsers do.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if path.suffix == ".png":  # savefig would draw it twice, the first time for its layout alone
            figure.set_dpi(DPI)
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
            picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            picture.save(content, "png", compress_level=3, dpi=(DPI, DPI))  # no larger than 6, in half the time
        else:
            figure.savefig(content, dpi=DPI, format=path.suffix[1:])
    return write_atomically(path, content.getvalue())


def save_all(figures: "Mapping[str, Figure]", folder: Path, vector: str) -> dict[str, Path]:
    """Write figures as PNG, and as ``pdf`` or ``svg`` unless ``vector`` is ``none``; returns each PNG by name."""
    if vector != "none":
        for name, figure in figures.items():
            save(figure, folder / f"{name}.{vector}")
    return {name: save(figure, folder / f"{name}.png") for name, figure in figures.items()}


def interval_text(estimate: Estimate) -> str:
    """Format a value with its interval, as in ``0.925 (0.801–0.974)``."""
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def shorten(name: str, longest: int) -> str:
    """Shorten a name to ``longest`` characters by leaving out its middle."""
    if len(name) <= longest:
        return name
    front = longest // 2
    return f"{name[:front]}…{name[len(name) - (longest - 1 - front) :]}"


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Shorten names to ``longest`` characters where it leaves most of them different."""
    ways = (
        [shorten(name, longest) for name in names],
        [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in names],
        [name if len(name) <= longest else f"…{name[1 - longest :]}" for name in names],
    )
    return max(ways, key=lambda way: len(set(way)))


def panel(height: float, panels: Sequence[float] = (1,)) -> "tuple[Figure, Any]":
    """Make a figure with one panel, or with several below one another that share their x-axis."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(WIDTH, height), layout=layout, facecolor="white")
    axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=panels, squeeze=False)[:, 0]
    for ax in axes:
        _style(ax)
    return figure, axes if len(panels) > 1 else axes[0]


def _style(ax: "Axes") -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.set_axisbelow(True)
    ax.grid(color=GRID, linewidth=0.8)
    ax.tick_params(labelsize=12, labelcolor=INK, color=FAINT)


def set_title(ax: "Axes", text: str, pad: float = 10) -> None:
    """Set a bold title, flush left."""
    ax.set_title(text, loc="left", fontsize=14, fontweight="bold", color=INK, pad=pad, parse_math=False)


def entry(text: str) -> str:
    """The label of an artist whose entry in the legend is ``text``; for texts that begin with a user's name."""
    return f"{_KEPT}{text}" if text.startswith("_") else text


def draw_legend(ax: "Axes", **settings: Any) -> None:
    """Draw the legend, with names as they are: dollar signs don't begin maths. ``settings`` are ``Axes.legend``'s."""
    for text in ax.legend(**settings).get_texts():
        text.set_parse_math(False)
        text.set_text(text.get_text().removeprefix(_KEPT))


def legend_above(ax: "Axes", corner: str = "lower right") -> None:
    """Draw the legend in a row above the axes, beside the title or (``lower left``) below it."""
    columns = len(ax.get_legend_handles_labels()[1])
    position: dict[str, Any] = {"loc": corner, "bbox_to_anchor": ("right" in corner, 1), "ncols": columns}
    if columns:
        draw_legend(ax, **position, **_LEGEND, borderaxespad=0.2)


def legend_inside_or_below(ax: "Axes", labelled: LabelledPredictions, corner: Any) -> None:
    """Draw the legend of curves: inside the axes with two classes, else below them."""
    if labelled.n_classes == 2:
        draw_legend(ax, loc=corner, **_LEGEND)
    else:
        draw_legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, **_LEGEND)
