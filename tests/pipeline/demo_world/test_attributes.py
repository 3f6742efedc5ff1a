import numpy as np
import pytest

from pipeline.demo_world.attributes import AttributeCounts
from pipeline.demo_world.names import NAMES, class_id

STAR = class_id("red striped star")
GRASS = class_id("grass")


def shares(*pairs):
    """Of one picture of pixels that are given as (found, true)."""
    counts = AttributeCounts()
    found, true = np.array(pairs).T
    counts.update(found[None], true[None])
    return counts.pixels, counts.shares()


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ("red striped star", (1, 1, 1)),
        ("blue striped star", (0, 1, 1)),
        ("red solid star", (1, 0, 1)),
        ("red striped heart", (1, 1, 0)),
        ("black dotted drop", (0, 0, 0)),
        ("grass", (0, 0, 0)),
    ],
)
def test_each_word_of_a_name_counts_for_itself(found, right):
    assert shares((class_id(found), STAR)) == (1, dict(zip(("colour", "pattern", "shape"), right, strict=True)))


@pytest.mark.parametrize("ignored", [65535, len(NAMES)])
def test_a_pixel_that_is_ignored_or_of_no_name_has_nothing_right(ignored):
    assert shares((ignored, STAR), (STAR, STAR)) == (2, {"colour": 0.5, "pattern": 0.5, "shape": 0.5})


def test_materials_are_no_objects_whatever_is_found_there():
    assert shares((STAR, GRASS), (GRASS, GRASS)) == (0, {})


def test_pictures_add_up_in_masks_of_any_kind_of_integer():
    counts = AttributeCounts()
    other = class_id("red dotted heart")
    for found in (STAR, other, other):
        counts.update(np.full((2, 3), found, np.uint16), np.full((2, 3), STAR, np.int32))
    assert counts.pixels == 18
    assert counts.right.tolist() == [18, 6, 6]
