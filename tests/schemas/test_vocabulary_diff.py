"""Two vocabularies compared: every kind of change is named, and what it needs."""

import pytest

from schemas.vocabulary import Vocabulary
from schemas.vocabulary_diff import compare

OLD = {
    "name": "street",
    "classes": [
        {"id": 0, "name": "road", "min_confidence": 0.5},
        {"id": 1, "name": "car", "prompts": ["car", "taxi"]},
        {"id": 7, "name": "tree", "color": "#00ff00"},
    ],
    "distractors": [{"prompts": ["sky"]}],
}


def changed(index: int, **values) -> Vocabulary:
    classes = [{**each, **values} if k == index else each for k, each in enumerate(OLD["classes"])]
    return Vocabulary.model_validate({**OLD, "classes": classes})


def with_(**values) -> Vocabulary:
    return Vocabulary.model_validate({**OLD, **values})


@pytest.mark.parametrize(
    ("new", "expected", "needs_model"),
    [
        (with_(), [], False),
        (with_(classes=OLD["classes"][::-1]), [], False),
        (with_(classes=[*OLD["classes"], {"id": 2, "name": "bus"}]), [("added", 2)], True),
        (with_(classes=OLD["classes"][:2]), [("removed", 7)], True),
        (changed(1, name="vehicle"), [("renamed", 1)], False),
        (changed(1, prompts=["car"]), [("re-worded", 1)], True),
        (changed(1, name="cat", prompts=["cat"]), [("reused id", 1)], True),
        (changed(2, id=9), [("new id", 7)], False),
        (changed(0, min_confidence=0.25), [("thresholds", 0)], False),
        (changed(0, color="#123456"), [("colour", 0)], False),
        (changed(0, parent="tree"), [("parent", 0)], False),
        (changed(0, heldout=True), [("held-out", 0)], False),
        (with_(name="other"), [("name", None)], False),
        (with_(templates=["a {}"]), [("templates", None)], True),
        (with_(level="parent"), [("level", None)], False),
        (with_(ignore_id=65535), [("ignore_id", None)], False),
        (with_(distractors=[]), [("distractors", None)], True),
        (with_(distractors=[{"prompts": ["sky"], "becomes": 7}]), [("distractors", None)], False),
        (
            with_(classes=OLD["classes"][:2], distractors=[{"prompts": ["sky"]}, {"prompts": ["tree"]}]),
            [("removed", 7), ("distractors", None)],
            False,
        ),
    ],
)
def test_a_change_is_named_and_what_it_needs(new, expected, needs_model):
    old = with_()
    found = compare(old, new)
    assert [(each.kind, each.class_id) for each in found] == expected
    assert any(each.needs_model for each in found) == (old.wording != new.wording) == needs_model


def test_a_change_says_how_it_was_and_is():
    assert compare(with_(), changed(1, prompts=["car", "cab"]))[0].what == "1 'car': 'car', 'taxi' -> 'cab', 'car'"
    assert compare(with_(), changed(0, min_confidence=0.25))[0].what == (
        "0 'road': confidence >= 0.5, margin >= 0 -> confidence >= 0.25, margin >= 0"
    )
