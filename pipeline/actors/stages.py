"""What happens to one picture before the model and behind it. A bad picture is a value, not an exception."""

import logging
from typing import TYPE_CHECKING, cast

from pipeline.actors.orders import Prepared, Segmenter
from pipeline.actors.safe_batches import is_out_of_memory
from pipeline.actors.stopwatch import Stopwatch
from pipeline.actors.timed_pool import GivenUpError, Task
from pipeline.picture.budget import PixelBudget
from pipeline.picture.decide import decide
from pipeline.picture.decode import decode
from pipeline.picture.encode import encode_decided, failed_row
from pipeline.picture.fetch import fetch
from pipeline.storage import StorageOptions
from schemas.errors import ErrorStage, PictureError, one_line
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary

if TYPE_CHECKING:  # torch stays out of the driver
    from escnet.scoring import Segmentation

log = logging.getLogger(__name__)


def read_picture(
    task: Task,
    row: ManifestRow,
    segmenter: Segmenter,
    *,
    storage: StorageOptions,
    max_pixels: int,
    budget: PixelBudget,
    watch: Stopwatch,
) -> Prepared | PictureError:
    """Fetch, decode and resize one picture.

    Args:
        budget: pixels that may be decoded at a time.
        watch: told what each stage took.
    """
    lap = watch.laps()

    def admit(n_pixels: int) -> None:
        lap("decode")
        task.take(budget, n_pixels)
        lap("memory")

    try:
        task.enter("fetch")
        data = fetch(row, storage, max_pixels=max_pixels)
        lap("fetch")
        task.enter("decode")
        decoded = decode(data, max_pixels=max_pixels, admit=admit)
        lap("decode")
        prepared = segmenter.prepare(decoded)
        lap("prepare")
        return prepared
    except GivenUpError:
        raise
    except PictureError as error:
        lap(task.stage)
        return error
    except Exception as error:
        return _unexpected(task.stage, error, row)


def encode_label(
    task: Task,
    row: ManifestRow,
    vocabulary: Vocabulary,
    outcome: object,
    size_hw: tuple[int, int] | None,
    watch: Stopwatch,
) -> LabelRow:
    """The label of a picture.

    Args:
        outcome: a Segmentation, or a PictureError.
        size_hw: (height, width) of the picture as seen, if that much is known.
    """
    task.enter("encode")
    if isinstance(outcome, PictureError):
        return failed_row(row, vocabulary.name, outcome, size_hw)
    lap = watch.laps()
    try:
        segmentation = cast("Segmentation", outcome)
        decision = decide(segmentation, vocabulary)
        lap("decide")
        encoded = encode_decided(row, vocabulary, segmentation, decision)
        lap("encode")
        return encoded
    except Exception as error:
        return failed_row(row, vocabulary.name, _unexpected("encode", error, row), size_hw)


def too_late(stage: ErrorStage) -> PictureError:
    """Why a picture failed that was given up at this stage."""
    return PictureError(stage, "timeout", f"{stage} took longer than allowed")


def _unexpected(stage: ErrorStage, error: Exception, row: ManifestRow) -> PictureError:
    """An exception nobody foresaw: logged with its traceback; the row says only what is the same in every run."""
    if is_out_of_memory(error):
        return PictureError(stage, "out_of_memory", f"not enough memory to {stage} this picture")
    log.exception("%s failed for %s", stage, one_line(row.image_id))
    return PictureError(stage, "internal", f"{type(error).__name__} in {stage}")
