"""A label row decided again with another vocabulary, as the model would have made it: from mask and evidence alone."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.picture.encode import encode_picture
from pipeline.picture.evidence import UndecidedPicture, decode_evidence
from pipeline.picture.mask_file import read_mask
from schemas.errors import OutputError
from schemas.labels import LABELLED, LabelRow
from schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class _WithEntropy(UndecidedPicture):
    entropy_mean: float


class Redecider:
    """Decides rows again that were decided with one vocabulary, with another of the same wording.

    Ids, names and what is a class or a distractor may differ: the n-th entries of both are the same words, so a winner
    is the same entry under another code.

    Args:
        old: the vocabulary that the rows were decided with.
        new: one whose `wording` is the same.
    """

    def __init__(self, old: Vocabulary, new: Vocabulary) -> None:
        assert old.wording == new.wording
        self._old, self._new = old, new
        codes = [(was.code, now.code) for was, now in zip(old.entries, new.entries, strict=True)]
        self._first_code = min(code for code, _ in codes)
        self._recoded: np.ndarray | None = None
        if any(was != now for was, now in codes):
            self._recoded = np.zeros(max(code for code, _ in codes) - self._first_code + 1, np.int32)
            for was, now in codes:
                self._recoded[was - self._first_code] = now

    def decide_again(self, row: LabelRow) -> LabelRow:
        """The row that a fresh run with the new vocabulary would write. A failed one stays failed.

        Raises:
            OutputError: mask or evidence are damaged.
        """
        if row.status != LABELLED:
            return replace(row, vocabulary=self._new.name)
        try:
            mask = read_mask(row.mask or b"", (row.height or 0, row.width or 0))
        except ValueError as error:
            raise OutputError(f"mask of {row.image_id!r}: {error}") from error
        undecided = decode_evidence(row.evidence or b"", mask, self._old)
        again = _WithEntropy(
            winner=self._in_new_codes(undecided.winner),
            runner_up=self._in_new_codes(undecided.runner_up),
            confidence=undecided.confidence,
            margin=undecided.margin,
            entropy_mean=row.entropy_mean or 0.0,
        )
        return encode_picture(row, self._new, again)

    def _in_new_codes(self, codes: np.ndarray) -> np.ndarray:
        return codes if self._recoded is None else self._recoded[codes - self._first_code]
