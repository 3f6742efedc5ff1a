"""Outlines and patterns of the demo world's objects, as polygons in a square of side 2 around the origin.

Polygons, since a perspective of one is exact: its corners are moved, and Pillow fills it. y grows downwards.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (N, 2) as (x, y)
_CURVE_POINTS = 48


def _turn(n: int, start: float = 0.0) -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, n, endpoint=False) + start


def _polar(radius: NDArray[np.float64] | float, angle: NDArray[np.float64]) -> Polygon:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _moved(polygon: Polygon, x: float, y: float) -> Polygon:
    return polygon + np.array([x, y])


def _circle(radius: float = 0.95) -> Polygon:
    return _polar(radius, _turn(_CURVE_POINTS))


def _star() -> Polygon:
    return _polar(np.tile([1.0, 0.42], 5), _turn(10, -np.pi / 2))


def _heart() -> Polygon:
    t = _turn(_CURVE_POINTS)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], axis=-1) / 16.5


def _cross() -> Polygon:
    arm, reach = 0.3, 0.95
    corner = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    turns = [corner @ np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate(turns)


def _crescent() -> Polygon:
    outer, inner, shift = 0.95, 0.82, 0.5
    x = (outer**2 - inner**2 + shift**2) / (2 * shift)  # where the circles meet
    a, b = np.arccos(x / outer), np.arccos((x - shift) / inner)
    half = _CURVE_POINTS // 2
    back = _polar(outer, np.linspace(a, 2 * np.pi - a, half))
    front = _moved(_polar(inner, np.linspace(2 * np.pi - b, b, half)), shift, 0)
    return _moved(np.concatenate([back, front]), 0.18, 0)


def _flower() -> Polygon:
    t = _turn(2 * _CURVE_POINTS)
    return _polar(0.68 + 0.29 * np.cos(6 * t), t)


def _drop() -> Polygon:
    round_part = _moved(_polar(0.6, np.linspace(-np.pi / 6, 7 * np.pi / 6, _CURVE_POINTS)), 0, 0.35)
    return np.concatenate([round_part, [[0.0, -0.98]]])


_OUTLINES: dict[str, Callable[[], Polygon]] = {
    "circle": _circle,
    "square": lambda: np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]]),
    "triangle": lambda: _moved(_polar(1.0, _turn(3, -np.pi / 2)), 0, 0.2),
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _circle,
    "crescent": _crescent,
    "arrow": lambda: np.array(
        [[0, -0.98], [0.75, -0.1], [0.28, -0.1], [0.28, 0.95], [-0.28, 0.95], [-0.28, -0.1], [-0.75, -0.1]]
    ),
    "bolt": lambda: np.array([[0.25, -0.98], [-0.6, 0.15], [-0.1, 0.15], [-0.3, 0.98], [0.6, -0.25], [0.05, -0.25]]),
    "flower": _flower,
    "drop": _drop,
}


@cache
def outline(shape: str) -> Polygon:
    """The outer edge of a shape, one of `names.SHAPES`."""
    return _OUTLINES[shape]()


@cache
def hole(shape: str) -> Polygon | None:
    """The edge of the hole in a shape, if it has one."""
    return _circle(0.48) if shape == "ring" else None


def pattern_polygons(pattern: str, period: float, phase: float) -> NDArray[np.float64]:
    """The parts of the square of side 2 that a pattern, one of `names.PATTERNS`, paints in the second tone.

    Args:
        period: of the pattern, in the units of the square.
        phase: 0 to 1, by what part of a period it is moved.

    Returns:
        (P, N, 2): P polygons of N corners; none for `solid`.
    """
    starts = np.arange(-1.5 + phase * period - period, 1.5, period)
    half = period / 2
    if pattern == "striped":
        stripe = np.array([[0, -1.5], [half, -1.5], [half, 1.5], [0, 1.5]])
        return stripe + np.stack([starts, np.zeros_like(starts)], axis=-1)[:, None]
    if pattern == "dotted":
        x, y = np.meshgrid(starts, starts)
        x[1::2] += half
        return _polar(0.3 * period, _turn(12)) + np.stack([x.ravel(), y.ravel()], axis=-1)[:, None]
    if pattern == "checkered":
        cell = np.array([[0, 0], [half, 0], [half, half], [0, half]])
        corners = np.stack(np.meshgrid(starts, starts), axis=-1).reshape(-1, 1, 2)
        return cell + np.concatenate([corners, corners + half])
    return np.empty((0, 4, 2))
