"""Outlines and patterns: each is another than all others, and covers what geometry says."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline.demo_world.names import PATTERNS, SHAPES
from pipeline.demo_world.shapes import hole, outline, pattern_polygons


def filled(polygons, holes=()):
    """(200, 200) bool: the square of side 2."""
    image = Image.new("1", (200, 200))
    draw = ImageDraw.Draw(image)
    for value, group in ((1, polygons), (0, holes)):
        for polygon in group:
            draw.polygon(((polygon + 1) * 100).ravel().tolist(), fill=value)
    return np.asarray(image)


def drawn(shape):
    return filled([outline(shape)], [] if hole(shape) is None else [hole(shape)])


def test_shapes_lie_in_their_square_and_are_not_slivers():
    for shape in SHAPES:
        assert np.abs(outline(shape)).max() <= 1.2
        assert 0.1 < drawn(shape).mean() < 0.8


def test_no_two_shapes_look_alike():
    masks = {shape: drawn(shape) for shape in SHAPES}
    overlaps = {(a, b): (masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum() for a, b in combinations(SHAPES, 2)}
    assert len(overlaps) == 66
    assert max(overlaps.values()) < 0.85


def test_only_the_ring_has_a_hole():
    assert [shape for shape in SHAPES if hole(shape) is not None] == ["ring"]
    assert not drawn("ring")[100, 100]
    assert drawn("circle")[100, 100]


@pytest.mark.parametrize("phase", [0.0, 0.4, 0.99])
def test_patterns_paint_stripes_dots_and_squares_all_over(phase):
    found = {pattern: filled(pattern_polygons(pattern, 0.4, phase)) for pattern in PATTERNS}
    shares = {"solid": 0, "striped": 0.5, "dotted": np.pi * 0.3**2, "checkered": 0.5}
    assert {pattern: mask.mean() for pattern, mask in found.items()} == pytest.approx(shares, abs=0.06)
    assert (found["striped"] == found["striped"][:1]).all()  # the same all the way down
    assert found["striped"][0].any()
    # Half a period on, checkered squares are those that were left out.
    off = found["checkered"][:, 20:] ^ found["checkered"][:, :-20]
    assert off.mean() > 0.85
    for pattern in ("striped", "dotted", "checkered"):  # every quarter has its share
        quarters = [half[:, k] for half in np.split(found[pattern], 2) for k in (slice(100), slice(100, 200))]
        assert min(quarter.mean() for quarter in quarters) > 0.7 * found[pattern].mean()
