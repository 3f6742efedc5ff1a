"""A vocabulary: the user's words, their pinned ids, and how sure the model must be of each.

The classes and distractors of a vocabulary are its *entries*. An entry has a *code*: the class id for a
class (0 and up), -1 - k for distractor k. Entries are computed in a canonical order that depends on
their prompts alone, so re-ordering a vocabulary file changes no pixel. docs/vocabularies.md describes
the file.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from schemas.fingerprint import fingerprint
from schemas.spelling import did_you_mean
from schemas.words import Color, Fraction, Remark, TemplateList, WordList, Words, misfit, one_spelling

DEFAULT_TEMPLATES = ("A photo of a {} in the scene",)  # CAT-Seg's; see docs/model.md
IGNORE_ID_8_BIT = 255
IGNORE_ID_16_BIT = 65535
MAX_CLASS_ID_8_BIT = 254
IGNORE = "ignore"  # what a distractor becomes unless told otherwise
MAX_NAME_BYTES = 200  # the name is also the name of a file

Level = Literal["leaf", "parent", "top"]


def class_color(class_id: int) -> tuple[int, int, int]:
    """The colour of a class that names none: PASCAL VOC's colour map, in which class 0 follows the background.

    The bits of id + 1 are dealt to red, green and blue in turn, highest bit of the colour first (VOC
    development kit, `VOClabelcolormap`). All ids have distinct colours, and none is black.
    """
    rgb = [0, 0, 0]
    for k in range(24):
        rgb[k % 3] |= ((class_id + 1) >> k & 1) << (7 - k // 3)
    return rgb[0], rgb[1], rgb[2]


def _default_ignore_id(known: dict[str, Any]) -> int:
    highest = max(each.id for each in known["classes"])
    return IGNORE_ID_8_BIT if highest <= MAX_CLASS_ID_8_BIT else IGNORE_ID_16_BIT


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VocabularyClass(_Strict):
    """One class. `prompts` are averaged in embedding space; where they are left out, the name is the prompt.

    An empty list of prompts makes a class that wins no pixel itself: distractors become it, or it is
    the parent of others. `color` is red, green, blue, 0 to 255; `class_color(id)` where it is left out.
    """

    id: int = Field(ge=0, le=IGNORE_ID_16_BIT - 1, strict=True)
    name: Words
    prompts: WordList = Field(default_factory=lambda known: (known["name"],))
    min_confidence: Fraction = 0.0  # a pixel keeps the class if its confidence is at least this
    min_margin: Fraction = 0.0  # and its lead over the runner-up at least this
    parent: Words | None = None  # the name of a class
    color: Color = Field(default_factory=lambda known: class_color(known["id"]))
    heldout: bool = Field(default=False, strict=True)


class Distractor(_Strict):
    """Prompts that compete for pixels; the pixels they win become `ignore`, or class `becomes`."""

    prompts: WordList = Field(min_length=1)
    becomes: Annotated[int, Field(strict=True)] | None = None  # a class id; None is ignore

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"prompts": (data,)}
        if isinstance(data, dict) and "prompt" in data:
            if "prompts" in data:
                raise misfit("found both `prompt` and `prompts`; keep one", "prompt")
            return {("prompts" if key == "prompt" else key): value for key, value in data.items()}
        return data


@dataclass(frozen=True)
class Entry:
    """One thing that competes for pixels: a class (code >= 0, its id) or a distractor (code < 0)."""

    code: int
    prompts: tuple[str, ...]


class Vocabulary(_Strict):
    """A named set of classes with pinned ids, and the distractors that compete with them.

    Classes may be given as plain names; if no class has an id, ids are positions from 0. `ignore_id` is
    255, or 65535 if a class id is over 254. `level` is what the labels are rolled up to; see `labels`.
    """

    name: Words
    description: Remark = ""
    templates: TemplateList = DEFAULT_TEMPLATES
    classes: tuple[VocabularyClass, ...] = Field(min_length=1)
    ignore_id: int = Field(default_factory=_default_ignore_id, strict=True)
    distractors: tuple[Distractor, ...] = ()
    level: Level = "leaf"

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w .+-]*", name) or len(name.encode()) > MAX_NAME_BYTES:
            raise misfit(
                f"found {name[:60]!r}; the name is also a file name: expected letters, digits, spaces and `_.+-`, "
                f"beginning with a letter or digit, at most {MAX_NAME_BYTES} bytes"
            )
        return name

    @field_validator("classes", mode="before")
    @classmethod
    def _names_and_positions(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        found = [{"name": each} if isinstance(each, str) else each for each in value]
        if any(isinstance(each, VocabularyClass) or (isinstance(each, dict) and "id" in each) for each in found):
            return found
        return [{**each, "id": k} if isinstance(each, dict) else each for k, each in enumerate(found)]

    @field_validator("ignore_id")
    @classmethod
    def _ignore_id_fits_the_classes(cls, value: int, info: ValidationInfo) -> int:
        if value not in (IGNORE_ID_8_BIT, IGNORE_ID_16_BIT):
            raise misfit(f"found {value}; expected 255 or 65535, or leave it out")
        highest = max((each.id for each in info.data.get("classes", ())), default=0)
        if value == IGNORE_ID_8_BIT and highest > MAX_CLASS_ID_8_BIT:
            raise misfit(f"found 255, but class ids go up to {highest}; leave it out, and it becomes 65535")
        return value

    @field_validator("distractors", mode="before")
    @classmethod
    def _becomes_by_name(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list | tuple) or "classes" not in info.data:
            return value
        ids: dict[str, int | None] = {each.name: each.id for each in info.data["classes"]}
        ids[IGNORE] = None
        found = []
        for k, each in enumerate(value):
            if isinstance(each, dict) and isinstance(each.get("becomes"), str):
                name = one_spelling(each["becomes"])
                if name not in ids:
                    raise misfit(f"no class is named {name[:60]!r}{did_you_mean(name, ids)}", k, "becomes")
                each = {**each, "becomes": ids[name]}
            found.append(each)
        return found

    @model_validator(mode="after")
    def _check_whole(self) -> "Vocabulary":
        _check_distinct(self.classes)
        _check_parents(self.classes)
        _check_distractors(self.classes, self.distractors)
        _check_prompts(self.classes, self.distractors)
        return self

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Classes with prompts and distractors in canonical order: by their sorted prompts, then by code."""
        found = [Entry(c.id, tuple(sorted(c.prompts))) for c in self.classes if c.prompts]
        prompts = sorted(tuple(sorted(d.prompts)) for d in self.distractors)
        found += [Entry(-1 - k, p) for k, p in enumerate(prompts)]
        return tuple(sorted(found, key=lambda entry: (entry.prompts, entry.code)))

    @cached_property
    def wording(self) -> tuple[tuple[str, ...], ...]:
        """All that the network sees of a vocabulary: of equal wordings the n-th entries have equal scores."""
        return (tuple(sorted(self.templates)), *(entry.prompts for entry in self.entries))

    @cached_property
    def labels(self) -> dict[int, int]:
        """By class id, the id that stands in the mask for it.

        At level `leaf` that is the class itself, at `parent` its parent, at `top` the parent's parent as far as there
        are any. A class without a parent stands for itself.
        """
        by_name = {each.name: each for each in self.classes}
        most = {"leaf": 0, "parent": 1, "top": len(self.classes)}[self.level]

        def rolled_up(each: VocabularyClass) -> int:
            for _ in range(most):
                if each.parent is None:
                    break
                each = by_name[each.parent]
            return each.id

        return {each.id: rolled_up(each) for each in self.classes}

    @cached_property
    def rolled_up(self) -> dict[int, int]:
        """Those of `labels` that are not the class's own id."""
        return {class_id: label for class_id, label in self.labels.items() if label != class_id}

    @property
    def has_thresholds(self) -> bool:
        """Whether a pixel can be ignored because no class is sure enough of it."""
        return any(each.min_confidence or each.min_margin for each in self.classes)

    @property
    def has_ignored_distractors(self) -> bool:
        """Whether a pixel can be ignored because a distractor wins it."""
        return any(each.becomes is None for each in self.distractors)

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that changes a label.

        Colours, descriptions and held-out marks do not; nor do parents unless labels are rolled up to them.
        """
        classes = sorted((c.id, c.name, sorted(c.prompts), c.min_confidence, c.min_margin) for c in self.classes)
        distractors = sorted((sorted(d.prompts), -1 if d.becomes is None else d.becomes) for d in self.distractors)
        rolled_up = sorted(self.rolled_up.items())
        named = [self.name, sorted(self.templates), self.ignore_id, classes, distractors]
        return fingerprint([*named, rolled_up] if rolled_up else named)

    def at_level(self, level: Level) -> "Vocabulary":
        """The same vocabulary with its labels rolled up to `level`."""
        return Vocabulary(**{**{name: getattr(self, name) for name in self.model_fields_set}, "level": level})


def _check_distinct(classes: Iterable[VocabularyClass]) -> None:
    ids: dict[int, str] = {}
    names: dict[str, int] = {}
    for k, each in enumerate(classes):
        if each.id in ids:
            both = f"{ids[each.id]!r} and {each.name!r}"
            raise misfit(f"id {each.id} is given to both {both}; every class needs its own", "classes", k, "id")
        if each.name in names:
            both = f"id {names[each.name]} and id {each.id}"
            raise misfit(f"{each.name!r} is the name of both {both}; rename one of them", "classes", k, "name")
        ids[each.id], names[each.name] = each.name, each.id


def _check_parents(classes: tuple[VocabularyClass, ...]) -> None:
    parents = {each.name: each.parent for each in classes}
    for k, each in enumerate(classes):
        seen, parent = {each.name}, each.parent
        while parent is not None:
            if parent not in parents:
                raise misfit(f"no class is named {parent!r}{did_you_mean(parent, parents)}", "classes", k, "parent")
            if parent in seen:
                raise misfit(f"{each.name!r} leads back to {parent!r}; break the circle", "classes", k, "parent")
            seen.add(parent)
            parent = parents[parent]


def _check_distractors(classes: Iterable[VocabularyClass], distractors: Iterable[Distractor]) -> None:
    ids = {each.id for each in classes}
    for k, each in enumerate(distractors):
        if each.becomes is not None and each.becomes not in ids:
            problem = f"no class has id {each.becomes}; name a class, or leave it out for `ignore`"
            raise misfit(problem, "distractors", k, "becomes")


def _check_prompts(classes: tuple[VocabularyClass, ...], distractors: tuple[Distractor, ...]) -> None:
    """Every class can be reached, and no two entries have the same prompts: one of them would never win a pixel."""
    reached = {each.parent for each in classes} | {each.becomes for each in distractors}
    for k, each in enumerate(classes):
        if not each.prompts and not {each.id, each.name} & reached:
            problem = f"{each.name!r} has no prompts, and nothing becomes it; leave `prompts` out to use the name"
            raise misfit(problem, "classes", k, "prompts")
    competing = [(f"class {c.name!r}", c.prompts, ("classes", k)) for k, c in enumerate(classes) if c.prompts]
    competing += [(f"distractor {d.prompts[0]!r}", d.prompts, ("distractors", k)) for k, d in enumerate(distractors)]
    owners: dict[frozenset[str], str] = {}
    for owner, prompts, path in competing:
        words = frozenset(map(str.casefold, prompts))  # CLIP's tokenizer knows no capitals
        if words in owners:
            problem = f"the same prompts as {owners[words]}, so one of the two would never win a pixel; change one"
            raise misfit(problem, *path)
        owners[words] = owner
    if not owners:
        raise misfit("no class has a prompt; expected at least one that competes for pixels", "classes")
