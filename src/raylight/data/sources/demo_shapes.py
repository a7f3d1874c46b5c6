"""Outlines and colours, of which the demo's drawings are made."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "point 2"]


Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """A filled outline, or a line when ``line`` (its width, in pen widths) isn't 0."""

    points: Points
    colour: Colour
    edge: Colour | None = None
    line: float = 0.0


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, power: float = 2.0) -> Points:
    """Outline of |x/rx|^power + |y/ry|^power = 1, turned by ``tilt`` radians."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    outline = np.stack(
        [rx * np.sign(cos) * np.abs(cos) ** (2 / power), ry * np.sign(sin) * np.abs(sin) ** (2 / power)],
        axis=1,
    )
    return np.asarray(np.array([x, y]) + turn(outline, tilt))


def curve(start: Points, end: Points, bulge: float) -> Points:
    """Nine points from ``start`` to ``end``, bent sideways by ``bulge``."""
    share = np.linspace(0, 1, 9)[:, None]
    along = end - start
    across = np.array([along[1], -along[0]])
    return np.asarray(start + share * along - 4 * share * (1 - share) * bulge * across)


def turn(points: Points, angle: float) -> Points:
    """Points turned around (0, 0) by ``angle`` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def random_colour(rng: np.random.Generator) -> Colour:
    """Any colour that is neither black nor white."""
    red, green, blue = (int(value) for value in rng.integers(40, 236, 3))
    return red, green, blue


def vary(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    """A colour near ``colour``; ``spread`` is the standard deviation of each channel."""
    red, green, blue = (int(np.clip(value + rng.normal(0, spread), 0, 255)) for value in colour)
    return red, green, blue


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """A mixture, with ``share`` (0 to 1) of the second colour."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """A darker colour (``factor`` below 1)."""
    red, green, blue = (round(value * factor) for value in colour)
    return red, green, blue
