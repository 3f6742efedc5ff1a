"""Masks that people corrected in another tool come back: those that differ become overrides of an output."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pipeline.corrections.readers import Corrections, open_corrections
from pipeline.export.names import Names
from pipeline.output.labelled import LabelledOutput, open_one_vocabulary
from pipeline.output.masks import mask_of
from pipeline.output.overrides import mask_classes, write_overrides
from pipeline.picture.decide import mask_dtype
from pipeline.picture.encode import encode_mask
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import public_uri
from schemas.overrides import Override

_ROWS_A_FILE = 4096
_SHOWN = 3


@dataclass(frozen=True)
class MergeReport:
    """What came back: masks read, those that differed from the labels, and the files these are in."""

    n_masks: int
    n_changed: int
    files: tuple[str, ...]


def merge_corrections(
    output: str,
    corrections: str,
    *,
    author: str,
    vocabulary: str | None = None,
    storage: StorageOptions | None = None,
) -> MergeReport:
    """Store the corrected masks of an export that differ from the labels, in `overrides/`. All are read before any is.

    Args:
        output: what `escnet annotate` wrote.
        corrections: see `pipeline.corrections.readers.open_corrections`.
        author: who corrected them.
        vocabulary: name of one of the output's; may be left out if it has one.

    Raises:
        InputError: corrections that cannot be read, of a picture or class that is not there, or of another size.
    """
    storage = storage or StorageOptions()
    labels = open_one_vocabulary(output, storage, vocabulary)
    found = open_corrections(corrections, labels.vocabulary, storage)
    now = datetime.now(UTC)
    names = Names(lambda: (row.image_id for row in labels.stream(())))
    _refuse_unknown(found, labels, names)
    changed = [
        _override(row, mask, labels, author, now, public_uri(corrections))
        for row, mask in _masks(found, labels, names)
        if _differs(row, mask, labels)
    ]
    parts = [changed[k : k + _ROWS_A_FILE] for k in range(0, len(changed), _ROWS_A_FILE)]
    files = tuple(write_overrides(part, labels.uri, storage) for part in parts)
    return MergeReport(len(found.keys), len(changed), files)


def _key(image_id: str, found: Corrections, names: Names) -> str | None:
    return next((key for key in (image_id, names[image_id]) if key in found.keys), None)


def _refuse_unknown(found: Corrections, labels: LabelledOutput, names: Names) -> None:
    unknown = set(found.keys)
    for row in labels.stream(()):
        unknown.discard(_key(row.image_id, found, names) or "")
    if unknown:
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        shown = ", ".join(map(repr, sorted(unknown)[:_SHOWN]))
        raise InputError(
            f"{found.name}: masks of {shown}{more} belong to no picture of {labels.name}; "
            "expected its image ids, or the names that `escnet export` gave; take them out"
        )


def _masks(found: Corrections, labels: LabelledOutput, names: Names) -> Iterator[tuple[LabelRow, np.ndarray]]:
    with Progress(len(found.keys)) as progress:
        n_done = 0
        for row in labels.stream(("width", "height", "mask")):
            key = _key(row.image_id, found, names)
            if key is None:
                continue
            mask = found.read(key)
            size_hw = (row.height, row.width)
            if row.height is not None and mask.shape != size_hw:
                raise InputError(
                    f"{found.name}: the mask of {row.image_id!r} is {mask.shape[1]} x {mask.shape[0]}, but the picture "
                    f"is {row.width} x {row.height}; correct it at that size"
                )
            yield row, mask.astype(mask_dtype(labels.vocabulary))
            n_done += 1
            progress.update(n_done, 0, is_loading=False)


def _differs(row: LabelRow, mask: np.ndarray, labels: LabelledOutput) -> bool:
    return row.status != LABELLED or not np.array_equal(mask_of(row, labels), mask)


def _override(
    row: LabelRow, mask: np.ndarray, labels: LabelledOutput, author: str, time: datetime, source: str
) -> Override:
    classes, ignored = mask_classes(mask, labels.vocabulary)
    height, width = mask.shape
    return Override(
        row.image_id, row.vocabulary, width, height, encode_mask(mask), classes, ignored, author, time, source
    )
