"""Outlines lie where their equations say; colours stay colours."""

import numpy as np
import pytest

from raylight.data.sources.demo_shapes import blend, curve, ellipse, random_colour, rotate, shade, vary


@pytest.mark.parametrize("power", [2.0, 4.0])
def test_an_ellipse_fulfils_its_equation(power: float) -> None:
    x, y = (ellipse(3, -1, 2, 5, power=power) - [3, -1]).T
    np.testing.assert_allclose(np.abs(x / 2) ** power + np.abs(y / 5) ** power, 1)


def test_turning_keeps_lengths_and_a_quarter_turn_is_one() -> None:
    points = np.array([[1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(rotate(points, np.pi / 2), [[0, 1], [-2, 0]], atol=1e-12)


def test_a_curve_begins_and_ends_where_it_shall_and_bulges_in_the_middle() -> None:
    line = curve(np.array([0.0, 0.0]), np.array([4.0, 0.0]), 0.5)
    np.testing.assert_allclose(line[[0, 4, 8]], [[0, 0], [2, 2], [4, 0]])


def test_colours_are_mixed_and_stay_within_their_range() -> None:
    assert blend((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)
    assert shade((100, 50, 0), 0.5) == (50, 25, 0)
    rng = np.random.default_rng(0)
    drawn = np.array([random_colour(rng) for _ in range(200)])
    assert (drawn.min(), drawn.max()) == (40, 235)
    varied = np.array([vary((250, 5, 128), rng, 20) for _ in range(400)])
    assert (varied.min(), varied.max()) == (0, 255)
    assert varied[:, 2].std() == pytest.approx(20, rel=0.15)
