"""Two vocabularies side by side: what became of every class, and whether that needs the model."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.vocabulary import Vocabulary, VocabularyClass


@dataclass(frozen=True)
class Change:
    """One difference.

    Args:
        kind: "added", "removed", "renamed", "reused id", "new id", "re-worded", "thresholds", "colour", "parent",
            "held-out", or of the whole: "templates", "distractors", "level", "ignore_id", "name".
        class_id: of the class, in the old vocabulary where it is there.
        what: the class or part, and how it was and is.
        needs_model: labels made with the old vocabulary do not tell what those of the new one are.
        changes_labels: some pixel may be labelled otherwise.
    """

    kind: str
    class_id: int | None
    what: str
    needs_model: bool = False
    changes_labels: bool = True


def compare(old: Vocabulary, new: Vocabulary) -> list[Change]:
    """All differences, classes first by id. Classes are the same if their ids are, or else their names."""
    found = [change for was, now in _pairs(old, new) for change in _class_changes(was, now, old, new)]
    return found + list(_changes_of_the_whole(old, new))


def _pairs(old: Vocabulary, new: Vocabulary) -> Iterator[tuple[VocabularyClass | None, VocabularyClass | None]]:
    by_id, by_name = {c.id: c for c in new.classes}, {c.name: c for c in new.classes}
    old_ids, taken = {c.id for c in old.classes}, set()
    for was in sorted(old.classes, key=lambda each: each.id):
        now = by_id.get(was.id)
        moved = by_name.get(was.name)
        if now is None and moved is not None and moved.id not in old_ids:
            now = moved
        if now is not None:
            taken.add(now.id)
        yield was, now
    for now in sorted(new.classes, key=lambda each: each.id):
        if now.id not in taken:
            yield None, now


def _class_changes(
    was: VocabularyClass | None, now: VocabularyClass | None, old: Vocabulary, new: Vocabulary
) -> Iterator[Change]:
    if was is None or now is None:
        kind, each, other = ("added", now, old) if was is None else ("removed", was, new)
        assert each is not None
        needs_model = bool(each.prompts) and _is_new(tuple(sorted(each.prompts)), other)
        yield Change(kind, each.id, f"{each.id} {each.name!r}", needs_model=needs_model)
        return
    what, prompts = f"{was.id} {was.name!r}", (sorted(was.prompts), sorted(now.prompts))
    is_reworded = prompts[0] != prompts[1]
    if was.name != now.name and is_reworded and not {*prompts[0]} & {*prompts[1]}:
        yield Change("reused id", was.id, f"{what} is now {now.name!r}, another thing", needs_model=True)
        return
    if was.name != now.name:
        yield Change("renamed", was.id, f"{what} is now {now.name!r}")
    if was.id != now.id:
        yield Change("new id", was.id, f"{what} has now id {now.id}")
    if is_reworded:
        yield Change("re-worded", was.id, f"{what}: {_words(prompts[0])} -> {_words(prompts[1])}", needs_model=True)
    limits = [(each.min_confidence, each.min_margin) for each in (was, now)]
    if limits[0] != limits[1]:
        texts = [f"confidence >= {confidence:g}, margin >= {margin:g}" for confidence, margin in limits]
        yield Change("thresholds", was.id, f"{what}: {texts[0]} -> {texts[1]}")
    if was.parent != now.parent:
        is_rolled_up = old.rolled_up != new.rolled_up
        yield Change("parent", was.id, f"{what}: {was.parent} -> {now.parent}", changes_labels=is_rolled_up)
    if was.color != now.color:
        colours = ["#" + bytes(each.color).hex() for each in (was, now)]
        yield Change("colour", was.id, f"{what}: {colours[0]} -> {colours[1]}", changes_labels=False)
    if was.heldout != now.heldout:
        marks = ["held out" if each.heldout else "seen" for each in (was, now)]
        yield Change("held-out", was.id, f"{what}: {marks[0]} -> {marks[1]}", changes_labels=False)


def _changes_of_the_whole(old: Vocabulary, new: Vocabulary) -> Iterator[Change]:
    if old.name != new.name:
        yield Change("name", None, f"{old.name!r} -> {new.name!r}")
    templates = [_words(sorted(each.templates)) for each in (old, new)]
    if templates[0] != templates[1]:
        yield Change("templates", None, f"{templates[0]} -> {templates[1]}", needs_model=True)
    there, now = ({tuple(sorted(d.prompts)): d.becomes for d in each.distractors} for each in (old, new))
    for prompts in sorted(there.keys() | now.keys()):
        if prompts not in now:
            yield Change("distractors", None, f"{_words(prompts)} is gone", needs_model=_is_new(prompts, new))
        elif prompts not in there:
            yield Change("distractors", None, f"{_words(prompts)} is new", needs_model=_is_new(prompts, old))
        elif there[prompts] != now[prompts]:
            targets = ["ignore" if each is None else f"class {each}" for each in (there[prompts], now[prompts])]
            yield Change("distractors", None, f"{_words(prompts)} becomes {targets[1]}, was {targets[0]}")
    if old.level != new.level:
        yield Change("level", None, f"{old.level} -> {new.level}")
    if old.ignore_id != new.ignore_id:
        yield Change("ignore_id", None, f"{old.ignore_id} -> {new.ignore_id}")


def _is_new(prompts: tuple[str, ...], vocabulary: Vocabulary) -> bool:
    """Whether nothing in the vocabulary competes with these prompts."""
    return prompts not in {entry.prompts for entry in vocabulary.entries}


def _words(texts: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(repr, texts)) or "no prompts"
