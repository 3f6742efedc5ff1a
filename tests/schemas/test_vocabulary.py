"""The vocabulary: pinned ids, canonical order, fingerprint, and what is refused."""

import pickle
import random

import pytest
from pydantic import ValidationError

from schemas.vocabulary import Entry, Vocabulary, VocabularyClass, class_color

FULL = {
    "name": "street",
    "templates": ["a photo of a {}", "a {}"],
    "classes": [
        {"id": 4, "name": "car", "prompts": ["taxi", "car"], "min_confidence": 0.5, "parent": "vehicle"},
        {"id": 2, "name": "road", "min_margin": 0.25},
        {"id": 9, "name": "vehicle", "prompts": []},
    ],
    "distractors": [{"prompts": ["toy car"]}, "bonnet", {"prompts": ["tarmac", "asphalt"], "becomes": "road"}],
}


def vocabulary(*classes, **more) -> Vocabulary:
    return Vocabulary.model_validate({"name": "x", "classes": list(classes), **more})


def message_of(*classes, **more) -> str:
    with pytest.raises(ValidationError) as caught:
        vocabulary(*classes, **more)
    return caught.value.errors()[0]["msg"]


def test_entries_are_sorted_by_prompts_and_leave_out_classes_without_any():
    assert Vocabulary.model_validate(FULL).entries == (
        Entry(-1, ("asphalt", "tarmac")),
        Entry(-2, ("bonnet",)),
        Entry(4, ("car", "taxi")),
        Entry(2, ("road",)),
        Entry(-3, ("toy car",)),
    )


def test_order_changes_neither_entries_nor_fingerprint():
    first, chance = Vocabulary.model_validate(FULL), random.Random(7)
    for _ in range(20):
        shuffled = {
            key: chance.sample(value, len(value)) if isinstance(value, list) else value for key, value in FULL.items()
        }
        shuffled["classes"] = [
            {**each, "prompts": each["prompts"][::-1]} if "prompts" in each else each for each in shuffled["classes"]
        ]
        again = Vocabulary.model_validate(shuffled)
        assert (again.entries, again.fingerprint) == (first.entries, first.fingerprint)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other"}, False),
        ({"templates": ["a {}"]}, False),
        ({"ignore_id": 65535}, False),
        ({"distractors": []}, False),
        ({"classes": [{**FULL["classes"][0], "min_margin": 0.1}, *FULL["classes"][1:]]}, False),
        ({"classes": [{**FULL["classes"][0], "name": "auto"}, *FULL["classes"][1:]]}, False),
        ({"classes": [{**FULL["classes"][0], "id": 5}, *FULL["classes"][1:]]}, False),
        ({"description": "cars"}, True),
        ({"classes": [{**FULL["classes"][0], "color": "#010203", "heldout": True}, *FULL["classes"][1:]]}, True),
    ],
)
def test_fingerprint_changes_with_what_changes_labels(change, same):
    changed = Vocabulary.model_validate({**FULL, **change})
    assert (changed.fingerprint == Vocabulary.model_validate(FULL).fingerprint) is same


def test_plain_names_get_ids_by_position_and_written_ids_stay():
    assert [(c.id, c.name, c.prompts) for c in vocabulary("a", {"name": "b"}).classes] == [
        (0, "a", ("a",)),
        (1, "b", ("b",)),
    ]
    assert [c.id for c in vocabulary({"id": 7, "name": "a"}, {"id": 3, "name": "b"}).classes] == [7, 3]


def test_words_are_tidied_and_repeated_prompts_count_once():
    (found,) = vocabulary({"name": "  pot\tted   plant ", "prompts": ["a", " a ", "cafe\u0301", "café"]}).classes
    assert found.name == "pot ted plant"
    assert found.prompts == ("a", "café")
    assert vocabulary({"name": "a", "prompts": "one"}).classes[0].prompts == ("one",)


@pytest.mark.parametrize(("highest", "ignore_id"), [(0, 255), (254, 255), (255, 65535), (65534, 65535)])
def test_ignore_id_grows_with_the_ids(highest, ignore_id):
    assert vocabulary({"id": highest, "name": "a"}).ignore_id == ignore_id


def test_distractors_become_ignore_or_a_class_by_id_or_name():
    forms = ["a", {"prompt": "b"}, {"prompts": ["c"], "becomes": "ignore"}, {"prompt": "d", "becomes": " k  1 "},
             {"prompts": "e", "becomes": 0}]  # fmt: skip
    found = vocabulary("k 1", distractors=forms).distractors
    assert [(d.prompts, d.becomes) for d in found] == [
        (("a",), None), (("b",), None), (("c",), None), (("d",), 0), (("e",), 0),
    ]  # fmt: skip


def test_colours_are_vocs_by_default_and_given_in_two_forms():
    # aeroplane, bicycle, bird, boat and tvmonitor as in the PASCAL VOC development kit
    assert [class_color(k) for k in (0, 1, 2, 3, 19)] == [
        (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (0, 64, 128),
    ]  # fmt: skip
    assert len({class_color(k) for k in range(65535)} - {(0, 0, 0)}) == 65535
    found = vocabulary({"name": "a", "color": "#0A0b0C"}, {"name": "b", "color": [1, 2, 3]}, "c").classes
    assert [c.color for c in found] == [(10, 11, 12), (1, 2, 3), (128, 128, 0)]


def test_a_vocabulary_travels_by_pickle():
    found = Vocabulary.model_validate(FULL)
    assert found.entries  # cached values travel too
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_class_can_be_built_in_python():
    assert VocabularyClass(id=1, name="a") == VocabularyClass(id=1, name="a", prompts=("a",), color=class_color(1))


@pytest.mark.parametrize(
    ("classes", "more", "says"),
    [
        (({"id": 1, "name": "a"}, {"id": 1, "name": "b"}), {}, "id 1 is given to both 'a' and 'b'"),
        (("a", " a "), {}, "'a' is the name of both id 0 and id 1"),
        (("A", "a"), {}, "the same prompts as class 'A'"),
        (("a", {"name": "b", "prompts": ["x", "y"]}), {"distractors": [["y", "x"]]}, "valid dictionary"),
        (({"name": "b", "prompts": ["x", "y"]},), {"distractors": [{"prompts": ["y", "X"]}]}, "the same prompts as"),
        (("a",), {"distractors": ["b", "b"]}, "the same prompts as distractor 'b'"),
        (("a",), {"distractors": [{"prompt": "b", "becomes": 3}]}, "no class has id 3"),
        (("tree",), {"distractors": [{"prompt": "b", "becomes": "tre"}]}, "did you mean 'tree'?"),
        (({"name": "a", "parent": "a"},), {}, "leads back to 'a'"),
        (({"name": "a", "parent": "b"}, {"name": "b", "parent": "c"}, {"name": "c", "parent": "b"}), {}, "circle"),
        (({"name": "a", "parent": "zoo"},), {}, "no class is named 'zoo'"),
        (("b", {"name": "a", "prompts": []}), {}, "'a' has no prompts, and nothing becomes it"),
        (({"name": "a", "prompts": [], "parent": "b"}, {"name": "b", "prompts": []}), {}, "'a' has no prompts"),
        (("a",), {"ignore_id": 0}, "expected 255 or 65535"),
        (({"id": 255, "name": "a"},), {"ignore_id": 255}, "it becomes 65535"),
        (("a",), {"templates": ["{0}"]}, "exactly one {}"),
        (("a",), {"templates": ["a {} of {}"]}, "exactly one {}"),
        (("a",), {"name": "../a"}, "the name is also a file name"),
        (("a",), {"name": ".a"}, "the name is also a file name"),
        (("a",), {"name": "ä" * 101}, "at most 200 bytes"),
        (("a\x00",), {}, "control character"),
        (("\u200b",), {}, "blank"),
    ],
)
def test_what_cannot_work_is_refused(classes, more, says):
    assert says in message_of(*classes, **more)


def test_a_vocabulary_in_which_nothing_competes_is_refused():
    classes = [{"name": "a", "prompts": [], "parent": "b"}, {"name": "b", "prompts": [], "parent": "c"},
               {"name": "c", "prompts": []}]  # fmt: skip
    assert "has no prompts" in message_of(*classes)


FAMILY = (
    {"id": 0, "name": "oak", "parent": "tree"},
    {"id": 1, "name": "tree", "parent": "plant"},
    {"id": 5, "name": "plant", "prompts": []},
    {"id": 7, "name": "road"},
)


@pytest.mark.parametrize(
    ("level", "labels"),
    [
        ("leaf", {0: 0, 1: 1, 5: 5, 7: 7}),
        ("parent", {0: 1, 1: 5, 5: 5, 7: 7}),
        ("top", {0: 5, 1: 5, 5: 5, 7: 7}),
    ],
)
def test_labels_are_rolled_up_to_the_level(level, labels):
    assert vocabulary(*FAMILY, level=level).labels == labels
    assert vocabulary(*FAMILY).at_level(level) == vocabulary(*FAMILY, level=level)


def test_the_fingerprint_names_where_labels_are_rolled_up_to():
    levels = [vocabulary(*FAMILY, level=level).fingerprint for level in ("leaf", "parent", "top")]
    assert len(set(levels)) == 3
    moved = [{**FAMILY[0], "parent": "road"}, *FAMILY[1:]]
    assert vocabulary(*moved).fingerprint == levels[0]
    assert vocabulary(*moved, level="top").fingerprint != levels[2]
    flat = vocabulary({"id": 0, "name": "oak"})
    assert flat.at_level("top").fingerprint == flat.fingerprint  # where it changes nothing


def test_the_wording_is_what_the_network_sees():
    first = Vocabulary.model_validate(FULL)
    classes = [
        {"id": 3, "name": "cars", "prompts": ["car", "taxi"]},
        {"id": 0, "name": "x", "prompts": ["tarmac", "asphalt"]},
    ]
    more = {"templates": FULL["templates"][::-1], "distractors": ["toy car", "bonnet", "road"], "ignore_id": 65535}
    same = Vocabulary.model_validate({"name": "other", "classes": classes, **more})
    assert same.wording == first.wording
    assert Vocabulary.model_validate({**FULL, "templates": ["a {}"]}).wording != first.wording
    assert Vocabulary.model_validate({**FULL, "distractors": ["bonnet"]}).wording != first.wording
