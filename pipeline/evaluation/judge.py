"""One picture's labels against its ground truth: which of its pixels are right, and how sure the model was of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.boundaries import BoundaryCounts
from pipeline.evaluation.ground_truth import GroundTruth
from pipeline.evaluation.scores import NO_CLASS, PixelCounts
from pipeline.evaluation.thresholds import LevelCounts
from pipeline.picture.budget import PixelBudget
from pipeline.picture.decide import CELL, sorted_distractors
from pipeline.picture.evidence import decode_evidence
from pipeline.picture.mask_file import read_mask
from pipeline.protocols import Protocol
from pipeline.storage import StorageOptions
from schemas.errors import InputError, OutputError
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import public_uri
from schemas.vocabulary import Vocabulary

_PIXELS_AT_ONCE = 2**25  # about 10 bytes each
_BAND_PIXELS = 2**20  # counted at a time, so that a large picture needs no large tables


@dataclass(frozen=True)
class PictureCounts:
    """The pixels of one picture: as labelled, and, if asked for, by their winner's confidence, and its outlines."""

    pixels: PixelCounts
    levels: LevelCounts
    boundaries: BoundaryCounts


class Judge:
    """Compares one picture at a time; any number of threads may ask.

    Args:
        output: whose labels they are, for messages.
        vocabulary: as used for the labels.
        truth: where the masks lie.
        protocol: which pixels of them are left out beside the ignored ones.
        allow_missing: pictures without a mask are no error.
        storage: how to reach the masks.
    """

    def __init__(
        self,
        output: str,
        vocabulary: Vocabulary,
        truth: GroundTruth,
        *,
        protocol: Protocol | None,
        allow_missing: bool,
        storage: StorageOptions,
    ) -> None:
        self._output = public_uri(output)
        self._vocabulary = vocabulary
        self._truth = truth
        self._left_out_ids = protocol.left_out_ids if protocol else frozenset()
        self._allow_missing = allow_missing
        self._storage = storage
        self._budget = PixelBudget(_PIXELS_AT_ONCE)
        self._class_of_code, self._first_code = classes_of_codes(vocabulary)
        self._rolled_up = _rolled_up(vocabulary)
        if self._rolled_up is not None:
            self._class_of_code = self._rolled_up[self._class_of_code]

    def counts_of(
        self, row: LabelRow, *, needs_levels: bool = False, needs_boundaries: bool = False
    ) -> PictureCounts | None:
        """The pixels of one picture; None if it has no mask and may lack one. Those of a failed one are all wrong.

        Args:
            needs_levels: count by class and confidence too.
            needs_boundaries: score the outlines too, which takes some time.

        Raises:
            InputError: no mask, or one that does not fit the picture or the vocabulary.
            OutputError: labels that cannot be read.
        """
        uri = self._truth.mask_uri(row.image_id)
        if uri is None:
            if self._allow_missing:
                return None
            raise InputError(self._truth.missing(row.image_id))
        size_hw = (row.height, row.width) if row.height and row.width else None
        ids = [each.id for each in self._vocabulary.classes]
        counts = PictureCounts(PixelCounts(ids, with_pairs=True), LevelCounts(), BoundaryCounts(ids))
        with self._budget.take(size_hw[0] * size_hw[1] if size_hw else 0):
            truth = self._truth.read(
                uri, self._storage, self._vocabulary, left_out_ids=self._left_out_ids, size_hw=size_hw
            )
            if self._rolled_up is not None:
                truth = self._rolled_up[truth]
            mask = None
            if row.status != LABELLED:
                counts.pixels.update_missing(truth)
            else:
                mask = self._count_labelled(row, truth, counts, needs_levels=needs_levels)
            if needs_boundaries:
                counts.boundaries.update(None if mask is None else self._decided(mask), truth)
        return counts

    def _count_labelled(
        self, row: LabelRow, truth: np.ndarray, counts: PictureCounts, *, needs_levels: bool
    ) -> np.ndarray:
        """Add its pixels; returns the mask."""
        try:
            mask = read_mask(row.mask or b"", (truth.shape[0], truth.shape[1]))
        except ValueError as error:
            raise self._damaged(row, f"its mask: {error}") from error
        if row.evidence is None:
            for rows in _bands(mask):
                counts.pixels.update(self._decided(mask[rows]), truth[rows])
            return mask
        try:
            undecided = decode_evidence(row.evidence, mask, self._vocabulary)
        except OutputError as error:
            raise self._damaged(row, str(error)) from error
        for rows in _bands(mask):
            cells = undecided.confidence[rows.start // CELL : -(-rows.stop // CELL)]
            confidence = cells.repeat(CELL, axis=0).repeat(CELL, axis=1)[: rows.stop - rows.start, : mask.shape[1]]
            winner = self._class_of_code[undecided.winner[rows] - self._first_code]
            counts.pixels.update(self._decided(mask[rows]), truth[rows], winner, confidence)
            if needs_levels:
                counts.levels.update(winner, truth[rows], confidence)
        return mask

    def _damaged(self, row: LabelRow, reason: str) -> OutputError:
        return OutputError(f"{self._output}: labels of {row.image_id!r} cannot be used; {reason}")

    def _decided(self, mask: np.ndarray) -> np.ndarray:
        """Class ids and NO_CLASS, uint16."""
        return np.where(mask == self._vocabulary.ignore_id, NO_CLASS, mask).astype(np.uint16)


def _bands(mask: np.ndarray) -> Iterator[slice]:
    """Rows of pixels, whole cells high."""
    height, width = mask.shape
    step = CELL * max(1, _BAND_PIXELS // (CELL * width))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def classes_of_codes(vocabulary: Vocabulary) -> tuple[np.ndarray, int]:
    """By entry code less the lowest, (n,) uint16: the class that it stands for, NO_CLASS for a distractor that is
    ignored. And the lowest code.
    """
    n_distractors = len(vocabulary.distractors)
    ids = [each.id for each in vocabulary.classes]
    table = np.full(n_distractors + max(ids) + 1, NO_CLASS, np.uint16)
    table[[n_distractors + each for each in ids]] = ids
    for k, distractor in enumerate(sorted_distractors(vocabulary)):
        if distractor.becomes is not None:
            table[n_distractors - 1 - k] = distractor.becomes
    return table, -n_distractors


def _rolled_up(vocabulary: Vocabulary) -> np.ndarray | None:
    """By class id of the ground truth, the id that the labels have for it; None where these are the same."""
    if not vocabulary.rolled_up:
        return None
    table = np.full(NO_CLASS + 1, NO_CLASS, np.uint16)
    table[list(vocabulary.labels)] = list(vocabulary.labels.values())
    return table
