"""What of a vocabulary changes labels when it becomes another, in words."""

from collections.abc import Sequence

from schemas.vocabulary import Vocabulary, VocabularyClass

N_NAMED = 3


def vocabulary_changes(old: Vocabulary, new: Vocabulary) -> str:
    """The classes added, removed, re-worded or decided otherwise, by id and name, and what else changes labels.

    Classes are the same if their ids are. Empty if both give the same labels.
    """
    before, after = ({each.id: each for each in vocabulary.classes} for vocabulary in (old, new))
    both = [(before[i], after[i]) for i in sorted(before.keys() & after.keys())]
    kinds = {
        "added": [after[i] for i in sorted(after.keys() - before.keys())],
        "removed": [before[i] for i in sorted(before.keys() - after.keys())],
        "re-worded": [now for was, now in both if _words(was) != _words(now)],
        "with other thresholds": [now for was, now in both if _thresholds(was) != _thresholds(now)],
    }
    said = [f"{_counted(classes)} {kind} ({_named(classes)})" for kind, classes in kinds.items() if classes]
    if sorted(old.templates) != sorted(new.templates):
        said.append("other templates")
    if _distractors(old) != _distractors(new):
        said.append("other distractors")
    if old.rolled_up != new.rolled_up:
        is_other = old.level != new.level
        said.append(f"level {old.level} there, {new.level} now" if is_other else "other parents")
    if old.ignore_id != new.ignore_id:
        said.append(f"ignore_id {old.ignore_id} there, {new.ignore_id} now")
    return ", ".join(said)


def _words(each: VocabularyClass) -> tuple[str, list[str]]:
    return each.name, sorted(each.prompts)


def _thresholds(each: VocabularyClass) -> tuple[float, float]:
    return each.min_confidence, each.min_margin


def _distractors(vocabulary: Vocabulary) -> list[tuple[list[str], int]]:
    return sorted((sorted(d.prompts), -1 if d.becomes is None else d.becomes) for d in vocabulary.distractors)


def _counted(classes: Sequence[VocabularyClass]) -> str:
    return f"{len(classes)} class" if len(classes) == 1 else f"{len(classes)} classes"


def _named(classes: Sequence[VocabularyClass]) -> str:
    names = ", ".join(f"{each.id} {each.name!r}" for each in classes[:N_NAMED])
    return f"{names}, ..." if len(classes) > N_NAMED else names
