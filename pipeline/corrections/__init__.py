"""Masks that people corrected in another tool come back: those that differ become overrides of an output.

A person hands back all masks of an export, of which a few were corrected. A mask that shows what its picture was before
a correction is taken for one of the others: an export from before that correction, which it would undo.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import numpy as np

from pipeline.corrections.readers import Corrections, open_corrections
from pipeline.export.names import Names
from pipeline.output.labelled import LabelledOutput, open_one_vocabulary
from pipeline.output.masks import mask_columns, mask_of
from pipeline.output.overrides import mask_classes, write_overrides
from pipeline.picture.decide import mask_dtype
from pipeline.picture.encode import encode_mask
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import public_uri
from schemas.overrides import Override, corrected
from schemas.quantities import few

_ROWS_A_FILE = 4096


@dataclass(frozen=True)
class Change:
    """A mask that differs from the labels of its picture; `author` and `time` are those of their correction, if any."""

    image_id: str
    author: str | None
    time: datetime | None


@dataclass(frozen=True)
class MergeReport:
    """What came back.

    Args:
        n_masks: read.
        stored: those that differed from the labels and are corrections now, in the order of the labels.
        passed_over: those that differed as well, and show their picture as it was before a correction.
        files: these corrections, below the output.
    """

    n_masks: int
    stored: tuple[Change, ...]
    passed_over: tuple[Change, ...]
    files: tuple[str, ...]


def merge_corrections(
    output: str,
    corrections: str,
    *,
    author: str,
    vocabulary: str | None = None,
    min_confidence: float = 0.0,
    revert: bool = False,
    storage: StorageOptions | None = None,
) -> MergeReport:
    """Store the corrected masks of an export that differ from the labels, in `overrides/`. All are read before any is.

    Args:
        output: what `escnet annotate` wrote.
        corrections: see `pipeline.corrections.readers.open_corrections`.
        author: who corrected them.
        vocabulary: name of one of the output's; may be left out if it has one.
        min_confidence: the one that the masks were exported with.
        revert: store masks as well that show their picture as it was before a correction, and so undo that one.

    Raises:
        InputError: corrections that cannot be read, of a picture or class that is not there, or of another size.
    """
    storage = storage or StorageOptions()
    labels = open_one_vocabulary(output, storage, vocabulary)
    found = open_corrections(corrections, labels.vocabulary, storage)
    now = datetime.now(UTC)
    overrides: list[Override] = []
    stored, passed_over = [], []
    for made, mask in _differing(found, labels, min_confidence):
        if not revert and _was_before(mask, made, labels, min_confidence):
            passed_over.append(_change(made, labels))
        else:
            stored.append(_change(made, labels))
            overrides.append(_override(made, mask, labels, author, now, public_uri(corrections)))
    parts = [overrides[k : k + _ROWS_A_FILE] for k in range(0, len(overrides), _ROWS_A_FILE)]
    files = tuple(write_overrides(part, labels.uri, storage) for part in parts)
    return MergeReport(len(found.keys), tuple(stored), tuple(passed_over), files)


def _key(image_id: str, found: Corrections, names: Names) -> str | None:
    return next((key for key in (image_id, names[image_id]) if key in found.keys), None)


def _names(found: Corrections, labels: LabelledOutput) -> Names:
    """The names that exports give pictures; a mask of none of them is refused."""
    names = Names(lambda: (row.image_id for row in labels.stream((), as_made=True)))
    unknown = set(found.keys)
    for row in labels.stream((), as_made=True):
        unknown.discard(_key(row.image_id, found, names) or "")
    if unknown:
        raise InputError(
            f"{found.name}: masks of {few(list(map(repr, sorted(unknown))))} belong to no picture of {labels.name}; "
            "expected its image ids, or the names that `escnet export` gave; take them out"
        )
    return names


def _differing(
    found: Corrections, labels: LabelledOutput, min_confidence: float
) -> Iterator[tuple[LabelRow, np.ndarray]]:
    """The masks that differ from the labels as they stand, each behind its row as the model made it."""
    names = _names(found, labels)
    with Progress(len(found.keys)) as progress:
        n_done = 0
        for made in labels.stream(mask_columns(min_confidence), as_made=True):
            key = _key(made.image_id, found, names)
            if key is None:
                continue
            mask, row = found.read(key), labels.as_corrected(made)
            size_hw = (row.height, row.width)
            if row.height is not None and mask.shape != size_hw:
                raise InputError(
                    f"{found.name}: the mask of {row.image_id!r} is {mask.shape[1]} x {mask.shape[0]}, but the picture "
                    f"is {row.width} x {row.height}; correct it at that size"
                )
            mask = mask.astype(mask_dtype(labels.vocabulary))
            if not _shows(mask, row, labels, min_confidence):
                yield made, mask
            n_done += 1
            progress.update(n_done, 0, is_loading=False)


def _was_before(mask: np.ndarray, made: LabelRow, labels: LabelledOutput, min_confidence: float) -> bool:
    """Is the mask one that the picture had before its latest correction, the model's or a person's?"""
    if (made.vocabulary, made.image_id) not in labels.overrides:
        return False
    earlier = labels.overrides.earlier(made.vocabulary, made.image_id)
    rows = chain([made], (corrected(made, each) for each in earlier))
    return any(_shows(mask, row, labels, min_confidence) for row in rows)


def _shows(mask: np.ndarray, row: LabelRow, labels: LabelledOutput, min_confidence: float) -> bool:
    """Is it the row's mask, as it is or as an export with that threshold has it?"""
    return row.status == LABELLED and any(
        np.array_equal(mask_of(row, labels, each), mask) for each in {0.0, min_confidence}
    )


def _change(row: LabelRow, labels: LabelledOutput) -> Change:
    standing = labels.overrides.get(row.vocabulary, row.image_id)
    return Change(row.image_id, *((None, None) if standing is None else (standing.author, standing.time)))


def _override(
    row: LabelRow, mask: np.ndarray, labels: LabelledOutput, author: str, time: datetime, source: str
) -> Override:
    classes, ignored = mask_classes(mask, labels.vocabulary)
    height, width = mask.shape
    return Override(
        row.image_id, row.vocabulary, width, height, encode_mask(mask), classes, ignored, author, time, source
    )
