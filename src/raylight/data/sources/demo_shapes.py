"""Outlines and colours for the drawings of the demo data set."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "point 2"]
"""x to the right and y downwards."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Shape:
    """A filled outline, or a line.

    Attributes:
        points: corners of the outline or line.
        colour: of the area or line.
        edge: colour of the outline; ``None`` for no outline.
        line: width of the line, in pen widths; 0 for a filled outline.
    """

    points: Points
    colour: Colour
    edge: Colour | None = None
    line: float = 0.0


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, power: float = 2.0) -> Points:
    """The outline of a superellipse, |x/rx|^power + |y/ry|^power = 1.

    Args:
        x: of the centre.
        y: of the centre.
        rx: half the width.
        ry: half the height.
        tilt: rotation, in radians.
        power: 2 for an ellipse; more for a shape closer to a rectangle.

    Returns:
        40 points.
    """
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    outline = np.stack(
        [rx * np.sign(cos) * np.abs(cos) ** (2 / power), ry * np.sign(sin) * np.abs(sin) ** (2 / power)],
        axis=1,
    )
    return np.asarray(np.array([x, y]) + rotate(outline, tilt))


def curve(start: Points, end: Points, bulge: float) -> Points:
    """A parabola between two points.

    Args:
        start: the first point, float[2].
        end: the last point, float[2].
        bulge: height of the arc over the straight line, as a share of the line's length.

    Returns:
        Nine points.
    """
    share = np.linspace(0, 1, 9)[:, None]
    along = end - start
    across = np.array([along[1], -along[0]])
    return np.asarray(start + share * along - 4 * share * (1 - share) * bulge * across)


def rotate(points: Points, angle: float) -> Points:
    """Rotates points around (0, 0).

    Args:
        points: any number of them.
        angle: in radians, clockwise.

    Returns:
        As many points.

    Example:
        >>> rotate(np.array([[1.0, 0.0]]), np.pi / 2).round(2)
        array([[0., 1.]])
    """
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def random_colour(rng: np.random.Generator) -> Colour:
    """A random colour, neither very dark nor very light."""
    red, green, blue = (int(value) for value in rng.integers(40, 236, 3))
    return red, green, blue


def vary(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    """A random colour near another one.

    Args:
        colour: the other one.
        rng: source of the draw.
        spread: standard deviation of each channel, of 255.

    Returns:
        A colour.
    """
    red, green, blue = (int(np.clip(value + rng.normal(0, spread), 0, 255)) for value in colour)
    return red, green, blue


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Mixes two colours.

    Args:
        first: the one that a share of 0 gives.
        second: the one that a share of 1 gives.
        share: of the second colour, 0 to 1.

    Returns:
        The mixture.

    Example:
        >>> blend((0, 0, 0), (200, 100, 40), 0.5)
        (100, 50, 20)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darkens a colour.

    Args:
        colour: any.
        factor: for each channel, 0 to 1.

    Returns:
        The darker colour.
    """
    red, green, blue = (round(value * factor) for value in colour)
    return red, green, blue
