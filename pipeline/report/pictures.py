"""The pictures that a report shows, small enough for a page: pixels, labels and confidence.

A page draws masks itself, so that its threshold can move: what is embedded is the winner of every shown pixel,
whether the labels ignore it, and the confidence of every cell.
"""

import base64
import io
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from pipeline.output.labelled import LabelledOutput
from pipeline.picture.again import fetch_again
from pipeline.picture.budget import PixelBudget
from pipeline.picture.decide import sorted_distractors
from pipeline.picture.evidence import UndecidedPicture, decode_evidence
from pipeline.picture.mask_file import read_mask
from pipeline.progress import Progress
from pipeline.report.candidates import Pick
from schemas.errors import OutputError, PictureError
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow
from schemas.quantities import counted
from schemas.vocabulary import Vocabulary

LONGEST_SIDE = 480  # pixels of a picture in the page; larger ones are made smaller
LONGEST_CELLS = 160  # of the grid of confidence

_JPEG_QUALITY = 80
_THREADS = 8  # more than cores, since pictures in object storage are waited for
_PIXELS_AT_ONCE = 2**25

Grid = tuple[np.ndarray, ...]  # rows and columns that are kept, to index an array with


def embed_pictures(labels: LabelledOutput, picks: Sequence[Pick]) -> list[dict[str, Any]]:
    """What the page needs of each picture, in the order of `picks`.

    A picture that cannot be fetched again has no `image`, and a `note` that says why.

    Raises:
        OutputError: labels or plan that cannot be read.
    """
    found: dict[Pick, dict[str, Any]] = {}
    budget = PixelBudget(_PIXELS_AT_ONCE)

    def embed(job: tuple[Pick, ManifestRow, LabelRow]) -> tuple[Pick, dict[str, Any]]:
        pick, planned, row = job
        with budget.take((row.width or 0) * (row.height or 0)):
            return pick, _embed(pick, planned, row, labels)

    if not picks:
        return []
    with Progress(len(picks)) as progress, ThreadPoolExecutor(_THREADS) as pool:
        progress.say(f"fetching {counted(len(picks), 'picture')} again")
        for jobs in _by_shard(labels, picks):
            for pick, picture in pool.map(embed, jobs):
                found[pick] = picture
                progress.update(len(found), 0, is_loading=False)
    return [found[pick] for pick in picks]


def _by_shard(labels: LabelledOutput, picks: Sequence[Pick]) -> Iterator[list[tuple[Pick, ManifestRow, LabelRow]]]:
    """The rows of the picks, those of one shard at a time."""
    for _, group in groupby(sorted(picks, key=lambda pick: pick.ref.shard_id), key=lambda pick: pick.ref.shard_id):
        of_shard = {pick.position: pick for pick in group}
        ref = next(iter(of_shard.values())).ref
        planned = labels.pictures(ref)
        yield [(of_shard[k], planned[k], row) for k, row in labels.some_rows(ref, of_shard)]


def _embed(pick: Pick, planned: ManifestRow, row: LabelRow, labels: LabelledOutput) -> dict[str, Any]:
    vocabulary = labels.vocabularies[row.vocabulary]
    position = {each.id: k for k, each in enumerate(vocabulary.classes)}
    size_hw = (row.height or 1, row.width or 1)
    shown_hw = _fit(size_hw, LONGEST_SIDE)
    picture = {
        "id": row.image_id,
        "uri": row.uri,
        "vocabulary": list(labels.vocabularies).index(row.vocabulary),
        "size": [size_hw[1], size_hw[0]],
        "shown": [shown_hw[1], shown_hw[0]],
        "corrected": labels.is_corrected(pick.ref, row.image_id),
        "confidence_mean": row.confidence_mean,
        "ignored_fraction": row.ignored_fraction,
        "classes": [
            [position[each["class_id"]], each["fraction"], each["confidence_mean"]]
            for each in sorted(row.classes or (), key=lambda each: -each["pixels"])
        ],
        **_labels(row, vocabulary, shown_hw),
    }
    try:
        pixels = fetch_again(planned, row, labels.job.options.max_pixels, labels.storage)
    except PictureError as error:
        return {**picture, "image": None, "note": error.message}
    return {**picture, "image": _jpeg(pixels, shown_hw), "note": None}


def _labels(row: LabelRow, vocabulary: Vocabulary, shown_hw: tuple[int, int]) -> dict[str, Any]:
    """`codes`, the planes of winners and of confidence, and the share of the picture that distractors took.

    A value of the first plane is 2 * k, and 1 more where the labels ignore the pixel. `codes[k]` is the position of a
    class in the vocabulary, or -1 - d for the d-th distractor.
    """
    try:
        mask = read_mask(row.mask or b"", (row.height or 1, row.width or 1))
        undecided = None if row.evidence is None else decode_evidence(row.evidence, mask, vocabulary)
    except (OutputError, ValueError) as error:
        raise OutputError(f"labels of {row.image_id!r} cannot be used; {error}") from error
    grid = _grid(mask.shape, shown_hw)
    mask = mask[grid]
    is_ignored = mask == vocabulary.ignore_id
    winner = np.full(mask.shape, -1, np.int32) if undecided is None else _winners(undecided, vocabulary)[grid]
    label = np.where(is_ignored, winner, _positions(vocabulary)[mask])
    codes, k = np.unique(label, return_inverse=True)
    is_wide = 2 * len(codes) > 256
    plane = (2 * k.reshape(mask.shape) + is_ignored).astype("<u2" if is_wide else np.uint8)
    found = {"codes": codes.tolist(), "wide": is_wide, "labels": _packed(plane)}
    if undecided is None:
        return {**found, "cells": None, "confidence": None, "distractor_fraction": None}
    cells_hw = _fit(undecided.confidence.shape, LONGEST_CELLS)
    cells = undecided.confidence[_grid(undecided.confidence.shape, cells_hw)]
    taken = float((is_ignored & (winner < 0)).mean())
    shown = {"cells": [cells_hw[1], cells_hw[0]], "confidence": _packed(cells)}
    return {**found, **shown, "distractor_fraction": taken}


def _winners(undecided: UndecidedPicture, vocabulary: Vocabulary) -> np.ndarray:
    """(H, W) int32: the class that each winner would be without thresholds, as its position; -1 - d for distractors."""
    n_distractors = len(vocabulary.distractors)
    positions = _positions(vocabulary)
    positions[list(vocabulary.labels)] = positions[list(vocabulary.labels.values())]  # as the labels are rolled up
    table = np.concatenate([np.arange(-n_distractors, 0, dtype=np.int32), positions])
    for k, distractor in enumerate(sorted_distractors(vocabulary)):
        if distractor.becomes is not None:
            table[n_distractors - 1 - k] = positions[distractor.becomes]
    return table[undecided.winner + n_distractors]


def _positions(vocabulary: Vocabulary) -> np.ndarray:
    """The position of a class in the vocabulary by its id; anything up to the ignore id has one, the others 0."""
    table = np.zeros(vocabulary.ignore_id + 1, np.int32)
    table[[each.id for each in vocabulary.classes]] = np.arange(len(vocabulary.classes))
    return table


def _fit(size_hw: tuple[int, ...], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def _grid(size_hw: tuple[int, ...], shown_hw: tuple[int, int]) -> Grid:
    """The pixel at the centre of each shown one."""
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for size, n in zip(size_hw, shown_hw, strict=True))
    return np.ix_(rows, columns)


def _packed(plane: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(plane).tobytes(), 9)).decode()


def _jpeg(pixels: np.ndarray, shown_hw: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels).resize((shown_hw[1], shown_hw[0]), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
