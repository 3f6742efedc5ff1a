"""Outlines of regions along the edges of their pixels, so that filling them by pixel centres gives the region back."""

import numpy as np

_RIGHT, _DOWN, _LEFT, _UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines of an (H, W) bool mask as (n, 2) corners (x, y): clockwise around regions, and the other way
    around holes.

    Pixels that touch at a corner alone belong to two regions.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for is_edge, start, step in (
        (inside & ~padded[:-2, 1:-1], (0, 0), _RIGHT),
        (inside & ~padded[1:-1, 2:], (1, 0), _DOWN),
        (inside & ~padded[2:, 1:-1], (1, 1), _LEFT),
        (inside & ~padded[1:-1, :-2], (0, 1), _UP),
    ):
        rows, columns = np.nonzero(is_edge)
        for x, y in zip((columns + start[0]).tolist(), (rows + start[1]).tolist(), strict=True):
            following.setdefault((x, y), []).append(step)
    found = []
    while following:
        found.append(_walk(following))
    return found


def _walk(following: dict[tuple[int, int], list[tuple[int, int]]]) -> np.ndarray:
    """One outline, whose edges are taken out."""
    start = at = next(iter(following))
    corners: list[tuple[int, int]] = []
    step = (0, 0)
    while True:
        steps = following[at]
        turn = (-step[1], step[0])  # to the right where two regions touch: each keeps to itself
        new = turn if turn in steps else steps[0]
        steps.remove(new)
        if not steps:
            del following[at]
        if new != step:
            corners.append(at)
        step, at = new, (at[0] + new[0], at[1] + new[1])
        if at == start:
            return np.array(corners)


def area(corners: np.ndarray) -> float:
    """Signed: positive around a region, negative around a hole."""
    x, y = corners.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
