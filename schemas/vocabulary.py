"""A vocabulary: the user's words, their pinned ids, and how sure the model must be of each.

The classes and distractors of a vocabulary are its *entries*. An entry has a *code*: the class id for a
class (0 and up), -1 - k for distractor k. Entries are computed in a canonical order that depends on
their prompts alone, so re-ordering a vocabulary file changes no pixel.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.fingerprint import fingerprint

DEFAULT_TEMPLATES = ("A photo of a {} in the scene",)  # CAT-Seg's; see docs/model.md
IGNORE_ID_8_BIT = 255
IGNORE_ID_16_BIT = 65535
MAX_CLASS_ID_8_BIT = 254

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VocabularyClass(_Strict):
    """One class. `prompts` are averaged in embedding space; without prompts the name is the prompt."""

    id: int = Field(ge=0, le=IGNORE_ID_16_BIT - 1)
    name: str = Field(min_length=1)
    prompts: tuple[str, ...] = ()
    min_confidence: Fraction = 0.0
    min_margin: Fraction = 0.0
    parent: str | None = None
    color: tuple[int, int, int] | None = None
    heldout: bool = False

    @model_validator(mode="before")
    @classmethod
    def _name_is_the_prompt(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("prompts") and isinstance(data.get("name"), str):
            return {**data, "prompts": (data["name"],)}
        return data


class Distractor(_Strict):
    """Prompts that compete for pixels; the pixels they win become `ignore`, or class `becomes`."""

    prompts: tuple[str, ...] = Field(min_length=1)
    becomes: int | None = None  # a class id; None is ignore


@dataclass(frozen=True)
class Entry:
    """One thing that competes for pixels: a class (code >= 0, its id) or a distractor (code < 0)."""

    code: int
    prompts: tuple[str, ...]


class Vocabulary(_Strict):
    """A named set of classes with pinned ids, and the distractors that compete with them."""

    name: str = Field(min_length=1)
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    ignore_id: int = IGNORE_ID_8_BIT
    classes: tuple[VocabularyClass, ...] = Field(min_length=1)
    distractors: tuple[Distractor, ...] = ()

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Classes and distractors in canonical order: by their sorted prompts, then by code."""
        found = [Entry(c.id, tuple(sorted(c.prompts))) for c in self.classes]
        prompts = sorted(tuple(sorted(d.prompts)) for d in self.distractors)
        found += [Entry(-1 - k, p) for k, p in enumerate(prompts)]
        return tuple(sorted(found, key=lambda entry: (entry.prompts, entry.code)))

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that changes a label; colours, held-out marks and parents do not."""
        classes = sorted((c.id, c.name, sorted(c.prompts), c.min_confidence, c.min_margin) for c in self.classes)
        distractors = sorted((sorted(d.prompts), -1 if d.becomes is None else d.becomes) for d in self.distractors)
        return fingerprint([self.name, sorted(self.templates), self.ignore_id, classes, distractors])
