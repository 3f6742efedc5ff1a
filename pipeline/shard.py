"""The shard runner: rows of one shard in, one published label file out.

While the model works on one batch, threads of the same runner fetch, decode and resize the next
pictures and encode the last ones. `run` may be called from two threads at once: the second call fills
its window while the first holds the model, so that the model does not wait between shards.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from pipeline.budget import PixelBudget
from pipeline.decode import decode
from pipeline.encode import encode_picture, failed_row
from pipeline.fetch import fetch
from pipeline.label_files import label_file_bytes, totals_of
from pipeline.output import storing
from pipeline.plan import read_shard_rows
from pipeline.storage import StorageOptions, join, write_new
from schemas.errors import ErrorStage, JobFailedError, PictureError
from schemas.job import ShardRef
from schemas.labels import FAILED, LABELLED, LabelRow, ShardTotals
from schemas.layout import LABELS_FOLDER
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary

if TYPE_CHECKING:  # torch stays out of the driver
    from escnet.scoring import Segmentation

N_READ_THREADS = 4  # fetching waits for the network; decoding and resizing release the GIL
N_ENCODE_THREADS = 2
WINDOW_BATCHES = 3  # batches of prepared pictures kept ready
MIN_WINDOW = 8
READ_PIXELS = 64 * 2**20  # decoded at a time, some 7 bytes a pixel; a larger picture is decoded alone
ENCODE_PIXELS = 32 * 2**20  # label maps waiting to be encoded or being so, some 10 bytes a pixel

log = logging.getLogger(__name__)


class Prepared(Protocol):
    """A picture at the network's resolution, and the size of the original."""

    size_hw: tuple[int, int]


class Segmenter(Protocol):
    """What the runner needs of the model; `escnet.segmenter.Segmenter` is the real one."""

    def compile(self, vocabulary: Vocabulary) -> Any: ...
    def prepare(self, picture: np.ndarray) -> Any: ...  # a `Prepared`
    def segment(self, batch: Sequence[Any], vocabulary: Any) -> list["Segmentation"]: ...


@dataclass(frozen=True)
class Counts:
    """Pictures of a shard, or of a job, so far."""

    labelled: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.labelled + self.failed

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.labelled + other.labelled, self.failed + other.failed)


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard. A shard is withheld if all its pictures failed and that was not to be published."""

    shard_id: str
    totals: ShardTotals
    is_withheld: bool
    last_error: str


class ShardRunner:
    """Labels shards with one replica of the model.

    Args:
        segmenter: the model.
        compiled: by vocabulary name, the vocabulary and what `segmenter.segment` takes for it.
        output: URI of the dataset.
        identity: what every label file's footer says of the job, besides the shard's own numbers.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        compiled: Mapping[str, tuple[Vocabulary, Any]],
        *,
        output: str,
        storage: StorageOptions,
        batch_size: int,
        max_pixels: int,
        identity: dict,
    ) -> None:
        self._segmenter = segmenter
        self._compiled = compiled
        self._output = output
        self._storage = storage
        self._batch_size = batch_size
        self._max_pixels = max_pixels
        self._identity = identity
        self._at_hand: dict[str, Counts] = {}
        self._counts_lock = threading.Lock()
        self._read_pool = ThreadPoolExecutor(N_READ_THREADS, thread_name_prefix="read")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")  # shards take turns, first come first
        self._encode_pool = ThreadPoolExecutor(N_ENCODE_THREADS, thread_name_prefix="encode")
        self._read_budget = PixelBudget(READ_PIXELS)
        self._encode_budget = PixelBudget(ENCODE_PIXELS)

    def run(self, ref: ShardRef, publish_failures: bool = True) -> ShardResult:
        """Label one shard and publish its file, unless every picture failed and that is not to be published.

        Raises:
            JobFailedError: the output cannot be read or written.
        """
        with storing(self._output, JobFailedError):
            rows = read_shard_rows(ref, self._output, self._storage)
        vocabulary, compiled = self._compiled[ref.vocabulary]
        self._at_hand[ref.shard_id] = Counts()
        try:
            window = max(MIN_WINDOW, WINDOW_BATCHES * self._batch_size)
            ready = _in_order(self._read_pool, self._read, rows, window=window)
            done = self._model_thread.submit(self._segment_all, ref, rows, ready, vocabulary, compiled).result()
            labels = [future.result() for future in done]
        finally:
            del self._at_hand[ref.shard_id]
        return self._publish(ref, labels, vocabulary, publish_failures)

    def counts(self) -> dict[str, Counts]:
        """How far the shards at hand are, by shard id."""
        return dict(self._at_hand)

    def _publish(
        self, ref: ShardRef, labels: list[LabelRow], vocabulary: Vocabulary, publish_failures: bool
    ) -> ShardResult:
        totals = totals_of(labels)
        is_withheld = totals.labelled == 0 and not publish_failures
        if not is_withheld:
            identity = {
                **self._identity,
                "shard_id": ref.shard_id,
                "vocabulary": ref.vocabulary,
                "vocabulary_fingerprint": vocabulary.fingerprint,
            }
            uri = join(self._output, f"{LABELS_FOLDER}/{ref.shard_id}.parquet")
            with storing(uri, JobFailedError):
                write_new(uri, label_file_bytes(labels, identity), self._storage)
        failed = [f"{row.error_stage}/{row.error_kind}: {row.error_message}" for row in labels if row.status == FAILED]
        return ShardResult(ref.shard_id, totals, is_withheld, failed[-1] if failed else "")

    def _read(self, row: ManifestRow) -> Prepared | PictureError:
        """Fetch, decode and resize one picture. A bad picture is a value, not an exception."""
        stage: ErrorStage = "fetch"
        try:
            data = fetch(row, self._storage)
            stage = "decode"
            with ExitStack() as held:
                decoded = decode(
                    data,
                    max_pixels=self._max_pixels,
                    admit=lambda n_pixels: held.enter_context(self._read_budget.take(n_pixels)),
                )
                return self._segmenter.prepare(decoded)
        except PictureError as error:
            return error
        except Exception as error:
            return _unexpected(stage, error, row)

    def _segment_all(
        self, ref: ShardRef, rows: list[ManifestRow], ready: Iterable, vocabulary: Vocabulary, compiled: Any
    ) -> list[Future[LabelRow]]:
        """Run the model over prepared pictures in batches cut by position; encoding goes on behind it."""
        done: list[Future[LabelRow]] = []
        for positions, batch in _batches(ready, self._batch_size):
            pictures = [item for item in batch if not isinstance(item, PictureError)]
            results = iter(self._segment(pictures, compiled))
            for position, item in zip(positions, batch, strict=True):
                size_hw = None if isinstance(item, PictureError) else item.size_hw
                outcome = item if isinstance(item, PictureError) else next(results)
                # The model waits here while label maps, as large as their pictures, wait to be encoded.
                self._encode_budget.acquire(_n_pixels(size_hw))
                done.append(self._encode_pool.submit(self._encode, ref, rows[position], vocabulary, outcome, size_hw))
        return done

    def _segment(self, pictures: list, compiled: Any) -> list:
        """One result a picture: a segmentation or a PictureError. A batch that fails is halved until it does not."""
        if not pictures:
            return []
        failure: PictureError | None = None
        try:
            return self._segmenter.segment(pictures, compiled)
        except Exception as error:
            failure = _segment_error(error)
        # Out of the handler, so that what the failed call held is free again before a part of it is tried.
        half = len(pictures) // 2
        if not half:
            return [failure]
        return self._segment(pictures[:half], compiled) + self._segment(pictures[half:], compiled)

    def _encode(
        self,
        ref: ShardRef,
        row: ManifestRow,
        vocabulary: Vocabulary,
        outcome: object,
        size_hw: tuple[int, int] | None,
    ) -> LabelRow:
        try:
            label = self._encode_outcome(row, vocabulary, outcome, size_hw)
        finally:
            self._encode_budget.release(_n_pixels(size_hw))
        with self._counts_lock:
            self._at_hand[ref.shard_id] += Counts(1, 0) if label.status == LABELLED else Counts(0, 1)
        return label

    def _encode_outcome(
        self, row: ManifestRow, vocabulary: Vocabulary, outcome: object, size_hw: tuple[int, int] | None
    ) -> LabelRow:
        if isinstance(outcome, PictureError):
            return failed_row(row, vocabulary.name, outcome, size_hw)
        try:
            return encode_picture(row, vocabulary, cast("Segmentation", outcome))
        except Exception as error:
            return failed_row(row, vocabulary.name, _unexpected("encode", error, row), size_hw)


def _n_pixels(size_hw: tuple[int, int] | None) -> int:
    return 0 if size_hw is None else size_hw[0] * size_hw[1]


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: Iterable, *, window: int) -> Iterator:
    """Map over `items` in a pool, results in order, at most `window` of them waiting to be taken.

    The window is filled at once, before the first result is asked for.
    """
    source = iter(items)
    waiting: deque[Future] = deque(pool.submit(work, item) for item in islice(source, window))

    def results() -> Iterator:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(source, 1))
            yield result

    return results()


def _batches(items: Iterable, size: int) -> Iterator[tuple[list[int], list]]:
    """Runs of `size` items with their positions: cut by position, whatever failed among them."""
    positions: list[int] = []
    batch: list = []
    for position, item in enumerate(items):
        positions.append(position)
        batch.append(item)
        if len(batch) == size:
            yield positions, batch
            positions, batch = [], []
    if batch:
        yield positions, batch


def _segment_error(error: Exception) -> PictureError:
    if isinstance(error, PictureError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return PictureError("segment", "out_of_memory", "not enough memory to segment this picture alone")
    log.exception("segment failed")
    return PictureError("segment", "internal", f"{type(error).__name__} while segmenting")


def _unexpected(stage: ErrorStage, error: Exception, row: ManifestRow) -> PictureError:
    """An exception nobody foresaw: logged with its traceback; the row says only what is the same in every run."""
    if isinstance(error, MemoryError):
        return PictureError(stage, "out_of_memory", f"not enough memory to {stage} this picture")
    log.exception("%s failed for %s", stage, row.image_id)
    return PictureError(stage, "internal", f"{type(error).__name__} in {stage}")
