"""What is odd in a vocabulary file, and what to do about it: everything that needs no model.

A finding is an `error` (the file cannot be used), a `warning` (labels will hardly be what was meant), or a `note`
(worth a look).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from schemas.documents import Place
from schemas.vocabulary import MAX_CLASS_ID_8_BIT, Vocabulary, VocabularyClass
from schemas.words import one_spelling

Severity = Literal["error", "warning", "note"]
Path = tuple[int | str, ...]

# Words that name quite different things, with two readings each.
HOMONYMS = {
    "bank": "river bank, bank building", "bark": "tree bark, barking dog", "bass": "bass fish, bass guitar",
    "bat": "flying bat, baseball bat", "bench": "park bench, workbench", "bolt": "lightning bolt, metal bolt",
    "bow": "bow tie, archery bow", "bowl": "food bowl, sports bowl", "can": "tin can, watering can",
    "cap": "baseball cap, bottle cap", "chest": "chest of drawers, human chest", "chip": "potato chip, computer chip",
    "club": "golf club, night club", "court": "tennis court, courtroom", "crane": "crane bird, construction crane",
    "date": "date fruit, calendar date", "drill": "power drill, drill field", "fan": "electric fan, sports fan",
    "file": "paper file, metal file", "glass": "drinking glass, glass pane", "glasses": "eyeglasses, drinking glasses",
    "ground": "bare ground, coffee grounds", "jaguar": "jaguar animal, Jaguar car", "keyboard":
    "computer keyboard, piano keyboard", "lead": "dog lead, lead metal", "light": "lamp, traffic light", "match":
    "matchstick, football match", "mole": "mole animal, skin mole", "mouse": "mouse animal, computer mouse", "nail":
    "finger nail, metal nail", "net": "fishing net, goal net", "nut": "nut fruit, metal nut", "orange":
    "orange fruit, orange colour", "palm": "palm tree, palm of a hand", "pipe": "water pipe, tobacco pipe", "pitcher":
    "water pitcher, baseball pitcher", "plane": "airplane, carpenter's plane", "plant": "potted plant, power plant",
    "pool": "swimming pool, pool table", "pot": "flower pot, cooking pot", "ring": "finger ring, boxing ring", "rock":
    "stone, rock concert", "ruler": "measuring ruler, king", "screen": "computer screen, folding screen", "seal":
    "seal animal, wax seal", "spring": "metal spring, water spring", "stand": "market stand, tripod stand", "tank":
    "water tank, military tank", "tie": "necktie, railway tie", "track": "railway track, running track", "trunk":
    "tree trunk, elephant trunk, car trunk", "turkey": "turkey bird, Turkey the country", "watch": "wrist watch",
    "well": "water well",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that is odd.

    Args:
        line: from 1, if known.
        where: in words, such as "class 3 'car'"; empty for the file as a whole.
        problem: what is odd.
        remedy: what to do.
    """

    severity: Severity
    line: int | None
    where: str
    problem: str
    remedy: str

    def text(self, file_name: str) -> str:
        """One line, as compilers print them."""
        place = f"{file_name}, line {self.line}" if self.line else file_name
        where = f"{self.where}: " if self.where else ""
        return f"{place}: {self.severity}: {where}{self.problem}; {self.remedy}"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


Find = Callable[[Severity, Path, str, str], Finding]


def lint_words(vocabulary: Vocabulary, written: Any, place: Callable[[Path], Place]) -> Iterator[Finding]:
    """What is odd in the words, ids and colours of a vocabulary.

    Args:
        written: the data of its file before it was tidied.
        place: where a part stands in the file.
    """

    def find(severity: Severity, path: Path, problem: str, remedy: str) -> Finding:
        return Finding(severity, place(path).line, name_of(vocabulary, path), problem, remedy)

    yield from _spelling(written, find)
    yield from _ids(vocabulary, written, find)
    yield from _meanings(vocabulary, find)
    yield from _near_duplicates(vocabulary, find)
    yield from _colours(vocabulary, find)


def name_of(vocabulary: Vocabulary, path: Path) -> str:
    """A part of the vocabulary in words: "class 3 'car'", "distractor 'toy car'", "templates"."""
    kind, *rest = path
    if kind == "classes" and rest:
        each = vocabulary.classes[int(rest[0])]
        return f"class {each.id} {each.name!r}"
    if kind == "distractors" and rest:
        return f"distractor {vocabulary.distractors[int(rest[0])].prompts[0]!r}"
    return str(kind)


def entry_paths(vocabulary: Vocabulary) -> list[tuple[Path, tuple[str, ...]]]:
    """Where each class and distractor stands, and its prompts."""
    found: list[tuple[Path, tuple[str, ...]]] = [(("classes", k), c.prompts) for k, c in enumerate(vocabulary.classes)]
    return found + [(("distractors", k), d.prompts) for k, d in enumerate(vocabulary.distractors)]


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text of the classes and distractors as it was written."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key in ("classes", "distractors") if not path else ("name", "prompts", "prompt"):
            yield from _texts(value.get(key), (*path, key))
    elif isinstance(value, list):
        for k, each in enumerate(value):
            yield from _texts(each, (*path, k))


def _spelling(written: Any, find: Find) -> Iterator[Finding]:
    for path, text in _texts(written):
        words = one_spelling(text)
        shown = repr(text[:60])
        if words != text:
            yield find("note", path, f"{shown} has white space or accents that are tidied", f"write {words[:60]!r}")
        if re.search(r"\w_\w|[a-z][A-Z]", words):
            spaced = re.sub(r"_+|(?<=[a-z])(?=[A-Z])", " ", words).lower()
            prompt = f"write it as people do, {spaced[:60]!r}, at least as the prompt"
            yield find(
                "warning", path, f"{shown} is no word of a language, and text encoders learnt from language", prompt
            )
        elif len(words) > 3 and words.isupper():
            remedy = f"if it is no abbreviation, write {words.lower()[:60]!r}"
            yield find("note", path, f"{shown} is all capitals, which CLIP does not see", remedy)


def _ids(vocabulary: Vocabulary, written: Any, find: Find) -> Iterator[Finding]:
    listed = written.get("classes") if isinstance(written, dict) else None
    if isinstance(listed, list) and not any(isinstance(each, dict) and "id" in each for each in listed):
        problem = "no class has an id, so ids are positions, and a class added in the middle renumbers the others"
        yield find("note", ("classes",), problem, "write the ids down: escnet vocabulary show FILE --format yaml")
    highest = max(range(len(vocabulary.classes)), key=lambda k: vocabulary.classes[k].id)
    if vocabulary.classes[highest].id > MAX_CLASS_ID_8_BIT:
        problem = f"an id over {MAX_CLASS_ID_8_BIT} makes every mask 16 bit"
        if len(vocabulary.classes) <= MAX_CLASS_ID_8_BIT:
            yield find("note", ("classes", highest, "id"), problem, "give lower ids, if masks are to be 8 bit")


def _meanings(vocabulary: Vocabulary, find: Find) -> Iterator[Finding]:
    for path, prompts in entry_paths(vocabulary):
        for prompt in prompts:
            readings = HOMONYMS.get(prompt.casefold())
            if readings:
                yield find(
                    "note", path, f"{prompt!r} has several meanings", f"say which in the prompt, such as: {readings}"
                )
        if path[0] == "classes" and not prompts:
            yield find("note", path, "has no prompts and wins no pixel itself", "leave `prompts` out to use the name")


def _plain(text: str) -> tuple[str, ...]:
    """Words without case, hyphens, plural and order."""
    words = re.findall(r"\w+", text.casefold().replace("_", " "))
    return tuple(sorted(re.sub(r"(?<=\w\w)(?<!s)s$", "", word) for word in words))


def _near_duplicates(vocabulary: Vocabulary, find: Find) -> Iterator[Finding]:
    owners: dict[tuple[str, ...], tuple[Path, str]] = {}
    for path, prompts in entry_paths(vocabulary):
        for prompt in prompts:
            other, words = owners.setdefault(_plain(prompt), (path, prompt))
            if other != path:
                whose = name_of(vocabulary, other)
                problem = f"{prompt!r} is nearly {words!r} of {whose}, so the two share their pixels by chance"
                yield find("warning", path, problem, "make them one class with two prompts, or say how they differ")
    names: dict[str, VocabularyClass] = {}
    for k, each in enumerate(vocabulary.classes):
        other_class = names.setdefault(each.name.casefold(), each)
        if other_class is not each:
            yield find("warning", ("classes", k), f"differs from {other_class.name!r} in capitals alone", "rename one")


def _colours(vocabulary: Vocabulary, find: Find) -> Iterator[Finding]:
    for (_, first), (k, second) in combinations(enumerate(vocabulary.classes), 2):
        if first.color == second.color:
            problem = f"has the colour of class {first.id} {first.name!r}"
            yield find(
                "note", ("classes", k, "color"), problem, "give one of them another, to tell them apart in drawings"
            )
