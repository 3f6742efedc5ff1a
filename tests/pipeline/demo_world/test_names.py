"""The names of the demo world: pinned ids, what training never sees, and the vocabularies made of them."""

import hashlib
from collections import Counter
from importlib import resources
from itertools import combinations

import pytest

from pipeline.demo_world.names import (
    COLOURS,
    MATERIALS,
    NAMES,
    OBJECTS,
    PATTERNS,
    SHAPES,
    SYNONYMS,
    ObjectName,
    class_id,
    draw_names,
    heldout_objects,
    world_vocabulary,
)  # fmt: skip
from schemas.errors import InputError

STAR = ObjectName("red", "striped", "star")
HELDOUT_STAR = ObjectName("red", "solid", "star")


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def words(name):
    return name.colour, name.pattern, name.shape


def test_ids_are_those_that_masks_and_networks_were_made_with():
    assert [class_id(name) for name in NAMES] == list(range(492))
    assert (class_id("grass"), class_id("asphalt"), class_id("red solid circle")) == (0, 11, 12)
    assert (class_id(STAR), class_id(OBJECTS[-1])) == (27, 491)
    assert digest(NAMES) == "fecaded3ddd3c7aa"


def test_a_name_that_is_none_has_no_id():
    with pytest.raises(KeyError):
        class_id("red star")


def test_the_held_out_combinations_are_those_that_networks_were_trained_without():
    text = resources.files("pipeline.demo_world").joinpath("heldout.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [str(each) for each in sorted(heldout_objects(), key=lines_order)]
    assert digest(lines) == "3311b486be6c259d"


def lines_order(name):
    return COLOURS.index(name.colour), PATTERNS.index(name.pattern), SHAPES.index(name.shape)


def test_more_than_15_percent_of_the_combinations_are_held_out_and_as_many_of_every_shape():
    assert heldout_objects() <= set(OBJECTS)
    assert len(heldout_objects()) / len(OBJECTS) == 0.175
    assert Counter(each.shape for each in heldout_objects()) == dict.fromkeys(SHAPES, 7)


def test_training_sees_every_word_and_every_pair_of_words_of_a_held_out_combination():
    trained = set(OBJECTS) - heldout_objects()
    seen = {pair for each in trained for pair in combinations(words(each), 2)}
    assert {pair for each in heldout_objects() for pair in combinations(words(each), 2)} - seen == set()
    assert len(seen) == 10 * 4 + 10 * 12 + 4 * 12  # and every other pair


def test_no_pair_of_words_lacks_more_than_its_part_of_the_combinations():
    lacking = Counter((k, pair) for each in heldout_objects() for k, pair in enumerate(combinations(words(each), 2)))
    most = [max(count for (k, _), count in lacking.items() if k == kind) for kind in range(3)]
    assert most == [4, 2, 3]  # of 12 shapes, of 4 patterns, of 10 colours


def test_a_synonym_is_a_new_word_for_one_word():
    vocabulary = {*MATERIALS, *COLOURS, *PATTERNS, *SHAPES}
    assert set(SYNONYMS) <= vocabulary
    assert not set(SYNONYMS.values()) & vocabulary
    assert len(set(SYNONYMS.values())) == len(SYNONYMS)


def test_names_are_drawn_from_the_seed_half_of_them_held_out():
    drawn = draw_names(5, 36)
    assert drawn == draw_names(5, 36)
    assert drawn == sorted(set(drawn), key=class_id)
    assert len(drawn) == 36
    assert sum(each in heldout_objects() for each in drawn) == 18
    assert len({tuple(draw_names(seed, 36)) for seed in range(20)}) == 20


def test_all_held_out_names_can_be_drawn():
    assert heldout_objects() < set(draw_names(0, 168))


@pytest.mark.parametrize("n_objects", [-2, 0, 7, 170])
def test_a_number_without_a_held_out_half_is_refused(n_objects):
    with pytest.raises(InputError, match=f"^--n-objects {n_objects}: .* expected an even number from 2 to 168$"):
        draw_names(1, n_objects)


def test_a_vocabulary_has_the_materials_the_objects_and_the_marks_of_the_held_out():
    found = world_vocabulary([STAR, HELDOUT_STAR], name="two")
    assert (found.name, found.ignore_id) == ("two", 65535)
    assert [(each.id, each.name) for each in found.classes[:12]] == list(enumerate(MATERIALS))
    assert [(each.id, each.name, each.heldout) for each in found.classes[12:]] == [
        (15, "red solid star", True),
        (27, "red striped star", False),
    ]
    assert all(each.prompts == (each.name,) for each in found.classes)


def test_with_synonyms_a_name_that_can_be_said_otherwise_has_a_second_prompt():
    found = {each.name: each.prompts for each in world_vocabulary(OBJECTS, name="all", synonyms=True).classes}
    assert list(found) == list(NAMES)
    assert found["grass"] == ("grass", "lawn")
    assert found["sand"] == ("sand",)
    assert found["red dotted ring"] == ("red dotted ring", "crimson spotted donut")
    assert found["green striped star"] == ("green striped star",)
