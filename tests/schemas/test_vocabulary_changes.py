import pytest

from schemas.vocabulary import Vocabulary
from schemas.vocabulary_changes import vocabulary_changes

CLASSES = [{"id": i, "name": name} for i, name in enumerate(["cat", "dog", "cow", "hen", "pig"])]


def words(classes=CLASSES, **more) -> Vocabulary:
    return Vocabulary(name="words", classes=classes, **more)


def changed(number, **change):
    return [{**each, **(change if k == number else {})} for k, each in enumerate(CLASSES)]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (words([*CLASSES, {"id": 9, "name": "fox"}]), "1 class added (9 'fox')"),
        (words(CLASSES[:1]), "4 classes removed (1 'dog', 2 'cow', 3 'hen', ...)"),
        (words(changed(1, name="hound")), "1 class re-worded (1 'hound')"),
        (words(changed(1, prompts=["dog", "puppy"])), "1 class re-worded (1 'dog')"),
        (words(changed(1, min_confidence=0.5)), "1 class with other thresholds (1 'dog')"),
        (words(changed(1, min_margin=0.5)), "1 class with other thresholds (1 'dog')"),
        (words(changed(4, id=7)), "1 class added (7 'pig'), 1 class removed (4 'pig')"),
        (words(templates=("{}",)), "other templates"),
        (words(distractors=["sky"]), "other distractors"),
        (words(ignore_id=65535), "ignore_id 255 there, 65535 now"),
        (words(changed(1, parent="cow"), level="top"), "level leaf there, top now"),
    ],
)
def test_what_changes_labels_is_named(new, said):
    assert vocabulary_changes(words(), new) == said
    assert new.fingerprint != words().fingerprint


def test_what_changes_no_label_is_not():
    other = words(changed(0, color=[1, 2, 3], heldout=True)[::-1], description="other")
    assert vocabulary_changes(words(), other) == ""
    assert other.fingerprint == words().fingerprint


def test_other_parents_count_only_where_labels_are_rolled_up():
    here, there = changed(1, parent="cow"), changed(1, parent="hen")
    assert vocabulary_changes(words(here), words(there)) == ""
    assert vocabulary_changes(words(here, level="parent"), words(there, level="parent")) == "other parents"
