"""The six benchmarks of open-vocabulary segmentation that ESC-Net's paper reports (arXiv:2411.14723, Table 1).

A protocol says which bundled vocabulary the pictures are labelled with, and which pixels count. Ground truth has the
ids of that vocabulary and is ignored (255 or 65535) where the benchmark has no class. What all six share: a pixel
without a predicted class is wrong, and the mean is over the classes that occur, over all pictures together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.vocabulary import Vocabulary

_SHOWN = 3


@dataclass(frozen=True)
class Protocol:
    """One benchmark.

    Args:
        name: as in the literature.
        vocabulary: name of the bundled vocabulary.
        background: what becomes of background, in words.
        left_out_ids: values of the ground truth that are left out although they are neither 255 nor 65535.
    """

    name: str
    vocabulary: str
    background: str
    left_out_ids: frozenset[int] = frozenset()


# PAS-20 and PAS-20b share their pictures. Masks made for PAS-20b say 20 for background, so they serve both.
_VOC_BACKGROUND_ID = 20

PROTOCOLS = {
    each.name: each
    for each in (
        Protocol("A-150", "ade20k-150", "pixels of no class are left out"),
        Protocol("A-847", "ade20k-847", "pixels of no class are left out"),
        Protocol("PC-59", "pascal-context-59", "background is left out"),
        Protocol("PC-459", "pascal-context-459", "pixels of no class are left out"),
        Protocol("PAS-20", "pascal-voc-20", "background is left out", frozenset((_VOC_BACKGROUND_ID,))),
        Protocol("PAS-20b", "pascal-voc-20b", "background is a class: all that is none of the 20"),
    )
}


def vocabulary_differences(found: "Vocabulary", expected: "Vocabulary") -> list[str]:
    """What of a vocabulary that changes labels is not as expected, in a few words each; [] if all is."""
    said = []
    if found.name != expected.name:
        said.append(f"it is {found.name!r}, expected {expected.name!r}")
    said += _class_differences(found, expected)
    if sorted(found.templates) != sorted(expected.templates):
        said.append(f"templates are {list(found.templates)}, expected {list(expected.templates)}")
    if found.rolled_up != expected.rolled_up:
        said.append(f"labels are rolled up to level {found.level}, expected {expected.level}")
    if found.ignore_id != expected.ignore_id:
        said.append(f"ignore_id is {found.ignore_id}, expected {expected.ignore_id}")
    if _distractors(found) != _distractors(expected):
        said.append(f"{len(found.distractors)} distractors that are not the {len(expected.distractors)} expected")
    return said


def _class_differences(found: "Vocabulary", expected: "Vocabulary") -> list[str]:
    there, wanted = _classes(found), _classes(expected)
    differing = [class_id for class_id in sorted({*there, *wanted}) if there.get(class_id) != wanted.get(class_id)]
    if not differing:
        return []
    shown = ", ".join(
        f"{class_id} {_name(there, class_id)} (expected {_name(wanted, class_id)})" for class_id in differing[:_SHOWN]
    )
    same_names = all(_name(there, each) == _name(wanted, each) for each in differing)
    what = "prompts or thresholds of classes differ" if same_names else "classes differ"
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    return [f"{what}: {', '.join(map(str, differing[:_SHOWN])) if same_names else shown}{more}"]


def _classes(vocabulary: "Vocabulary") -> dict[int, tuple]:
    return {c.id: (c.name, sorted(c.prompts), c.min_confidence, c.min_margin) for c in vocabulary.classes}


def _name(classes: dict[int, tuple], class_id: int) -> str:
    return repr(classes[class_id][0]) if class_id in classes else "none"


def _distractors(vocabulary: "Vocabulary") -> list[tuple]:
    return sorted(
        (sorted(each.prompts), -1 if each.becomes is None else each.becomes) for each in vocabulary.distractors
    )
