"""Words for what is in the pictures of a batch."""

import random

import pytest

from pipeline.demo_world.names import MATERIALS, NAMES, OBJECTS, SYNONYMS, class_id, heldout_objects
from pipeline.training.naming import Naming, VocabularyNamer, WorldNamer
from schemas.vocabulary import Vocabulary

PLAIN = {other: word for word, other in SYNONYMS.items()}
TRAINED = [each for each in OBJECTS if each not in heldout_objects()]
PRESENT = [2, 5, *map(class_id, TRAINED[::25])]  # two materials, and objects of every colour


def plain(name: str) -> str:
    """A name without synonyms."""
    return " ".join(PLAIN.get(word, word) for word in name.split())


def named(seed: int, present=PRESENT) -> tuple[Naming, ...]:
    return WorldNamer().name(random.Random(seed), present)


def words_of(class_: int, level: tuple[int, ...]) -> str:
    words = NAMES[class_].split()
    return words[0] if class_ < len(MATERIALS) else " ".join(words[i] for i in level)


def level_of(naming: Naming) -> tuple[int, ...]:
    """Which words of colour, pattern and shape the names of a naming have."""
    objects = {plain(name) for name in naming.names} - set(MATERIALS)
    levels = [
        level
        for level in ((0, 1, 2), (0, 2), (1, 2), (2,))
        if objects <= {words_of(class_id(each), level) for each in OBJECTS}
    ]
    assert len(levels) == 1, objects
    return levels[0]


def test_a_batch_is_named_by_whole_names_by_pattern_and_shape_and_by_shape():
    """The pattern is left out of the fullest names now and then."""
    levels = [tuple(map(level_of, named(seed))) for seed in range(60)]
    assert {each[1:] for each in levels} == {((1, 2), (2,))}
    fullest = [each[0] for each in levels]
    assert set(fullest) == {(0, 1, 2), (0, 2)}
    assert 0.65 < fullest.count((0, 1, 2)) / len(fullest) < 0.95


@pytest.mark.parametrize("seed", range(10))
def test_every_id_has_the_place_of_its_own_name_and_every_name_stands_once(seed):
    for naming in named(seed):
        level = level_of(naming)
        assert {each: plain(naming.names[place]) for each, place in naming.places.items()} == {
            each: words_of(each, level) for each in naming.places
        }
        assert set(naming.places) >= {*PRESENT, *range(len(MATERIALS))}
        plain_names = [plain(name) for name in naming.names]
        assert len(set(plain_names)) == len(plain_names)
        assert set(naming.places.values()) == set(range(len(naming.names)))


def test_a_combination_that_is_held_out_is_never_named():
    heldout = {str(each) for each in heldout_objects()}
    named_whole = {plain(name) for seed in range(60) for naming in named(seed) for name in naming.names}
    assert named_whole & heldout == set()
    assert named_whole >= {str(OBJECTS[each - len(MATERIALS)]) for each in PRESENT[2:]}


def test_whole_names_compete_with_names_that_differ_in_one_word():
    (star,) = (each for each in TRAINED if str(each) == "red striped star")
    others = [
        tuple(map(str.split, (plain(name), str(star))))
        for seed in range(40)
        for naming in named(seed, [class_id(star)])[:1]
        if level_of(naming) == (0, 1, 2)
        for name in naming.names[len(MATERIALS) + 1 :]
    ]
    assert {sum(a != b for a, b in zip(*pair, strict=True)) for pair in others} == {1}
    differing = [next(i for i in range(3) if pair[0][i] != pair[1][i]) for pair in others]
    assert set(differing) == {0, 1, 2}


def test_synonyms_are_used_now_and_then():
    names = [name for seed in range(20) for naming in named(seed) for name in naming.names]
    words = [word for name in names for word in name.split()]
    uses = sum(word in PLAIN for word in words)
    could = uses + sum(word in SYNONYMS for word in words)
    assert 0.2 < uses / could < 0.3


def test_the_generator_decides_the_names_and_nothing_else():
    assert named(3) == named(3)
    assert named(3) != named(4)


def test_a_vocabulary_is_named_in_one_way_by_one_prompt_of_each_class():
    classes = [
        {"id": 7, "name": "sofa", "prompts": ["sofa", "couch"]},
        {"id": 3, "name": "cat"},
    ]
    namer = VocabularyNamer(Vocabulary(name="words", classes=classes))
    namings = [namer.name(random.Random(seed), [3]) for seed in range(20)]
    assert {len(each) for each in namings} == {1}
    assert {each[0].names for each in namings} == {("sofa", "cat"), ("couch", "cat")}
    assert {tuple(each[0].places.items()) for each in namings} == {((7, 0), (3, 1))}
    assert list(namer.ids) == [7, 3]


def test_a_class_of_a_vocabulary_that_is_held_out_is_never_named():
    classes = [{"id": 0, "name": "sofa"}, {"id": 1, "name": "cat", "heldout": True}, {"id": 2, "name": "dog"}]
    namer = VocabularyNamer(Vocabulary(name="words", classes=classes))
    assert namer.name(random.Random(0), [0, 1, 2]) == (Naming(("sofa", "dog"), {0: 0, 2: 1}),)
    assert list(namer.ids) == [0, 2]
