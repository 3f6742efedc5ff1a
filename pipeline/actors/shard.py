"""The shard runner: rows of one shard in, one published label file out.

While the model works on one batch, threads of the same runner fetch, decode and resize the next
pictures and encode the last ones. `run` may be called from two threads at once: the second call fills
its window while the first holds the model, so that the model does not wait between shards.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.actors.metrics import ActorMetrics, NoMetrics
from pipeline.actors.orders import Counts, RunnerReport, Segmenter, ShardOrder, ShardResult, Stuck
from pipeline.actors.safe_batches import SafeBatches
from pipeline.actors.stages import encode_label, read_picture, too_late
from pipeline.actors.stopwatch import Stopwatch
from pipeline.actors.timed_pool import TimedPool
from pipeline.actors.windows import Window, batches
from pipeline.actors.withholding import ReadBefore, is_forbidden, is_withheld
from pipeline.output import storing
from pipeline.output.label_files import label_file_bytes, read_rows, totals_of
from pipeline.output.plan import read_shard_rows
from pipeline.picture.budget import PixelBudget
from pipeline.picture.encode import failed_row
from pipeline.storage import StorageOptions, join, write_new, write_replace
from schemas.errors import JobFailedError, PictureError
from schemas.job import DEFAULT_TIMEOUT_S, ShardRef
from schemas.labels import FAILED, LABELLED, LabelRow
from schemas.layout import LABELS_FOLDER
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary

N_READ_THREADS = 4  # fetching waits for the network; decoding and resizing release the GIL
N_ENCODE_THREADS = 2
WINDOW_BATCHES = 3  # batches of prepared pictures kept ready
MIN_WINDOW = 8
READ_PIXELS = 64 * 2**20  # decoded at a time, some 7 bytes a pixel; a larger picture is decoded alone
ENCODE_PIXELS = 32 * 2**20  # label maps waiting to be encoded or being so, some 10 bytes a pixel


@dataclass(frozen=True)
class _Work:
    """A shard at hand: which, its rows, and where its time goes."""

    ref: ShardRef
    rows: list[ManifestRow]
    watch: Stopwatch


class ShardRunner:
    """Labels shards with one replica of the model.

    Args:
        segmenter: the model.
        compiled: by vocabulary name, the vocabulary and what `segmenter.segment` takes for it.
        output: URI of the dataset.
        identity: what every label file's footer says of the job, besides the shard's own numbers.
        timeout_s: how long a picture may take at each stage.
        redo_kinds: of shards that have label files, do only the rows that failed so again and replace the files;
            None labels shards that have none.
        has_own_core: see `Stopwatch`.
        more_threads: at least so many read, and as many encode. They change no label.
        metrics: told of every picture, batch and shard.
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
        timeout_s: float = DEFAULT_TIMEOUT_S,
        redo_kinds: frozenset[str] | None = None,
        has_own_core: bool = False,
        more_threads: int = 0,
        metrics: ActorMetrics | NoMetrics | None = None,
    ) -> None:
        self._segmenter = segmenter
        self._compiled = compiled
        self._output = output
        self._storage = storage
        self._batch_size = batch_size
        self._max_pixels = max_pixels
        self._identity = identity
        self._timeout_s = timeout_s
        self._redo_kinds = redo_kinds
        self._has_own_core = has_own_core
        self._metrics = metrics or NoMetrics()
        self._at_hand: dict[str, Counts] = {}
        self._at_model: tuple[Stuck, float] | None = None  # what the model works on, and since when
        self._counts_lock = threading.Lock()
        self._batches = SafeBatches(segmenter.segment)
        self._read_before = ReadBefore(storage)
        self._read_pool = TimedPool(max(N_READ_THREADS, more_threads), timeout_s, "read")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")  # shards take turns, first come first
        self._encode_pool = TimedPool(max(N_ENCODE_THREADS, more_threads), timeout_s, "encode")
        self._read_budget = PixelBudget(READ_PIXELS)
        self._encode_budget = PixelBudget(ENCODE_PIXELS)
        self._model_free_since = time.perf_counter()

    def run(self, order: ShardOrder) -> ShardResult:
        """Label one shard and publish its file, or do failed rows of a published one again.

        Raises:
            JobFailedError: the output cannot be read or written.
        """
        ref, work = order.ref, self._work(order.ref)
        given = {i: failed_row(work.rows[i], ref.vocabulary, why) for i, why in order.poison.items()}
        kept = self._kept(ref)
        with self._counting(ref):
            labels = self._label(work, {**given, **kept})
        return self._publish(order, work, labels, kept)

    def try_pictures(self, ref: ShardRef, positions: Sequence[int]) -> None:
        """Work on some pictures of a shard and publish nothing: does the process live through it?"""
        work = self._work(ref)
        tried = set(positions) - self._kept(ref).keys()
        skipped = PictureError("segment", "internal", "not tried")
        given = {i: failed_row(row, ref.vocabulary, skipped) for i, row in enumerate(work.rows) if i not in tried}
        with self._counting(ref):
            self._label(work, given)

    def report(self) -> RunnerReport:
        """How far the shards at hand are, and what the model is stuck at."""
        at_model = self._at_model
        if at_model is not None:
            pictures, since = at_model
            if time.monotonic() - since > self._timeout_s * len(pictures.positions):
                return RunnerReport(dict(self._at_hand), pictures)
        return RunnerReport(dict(self._at_hand))

    def _work(self, ref: ShardRef) -> _Work:
        with storing(self._output, JobFailedError):
            rows = read_shard_rows(ref, self._output, self._storage)
        return _Work(ref, rows, Stopwatch(has_own_core=self._has_own_core))

    def _kept(self, ref: ShardRef) -> dict[int, LabelRow]:
        """By position, the rows of a label file that are not to be done again; none if there is no file yet."""
        if self._redo_kinds is None:
            return {}
        uri = self._label_uri(ref)
        with storing(uri, JobFailedError):
            labels = read_rows(uri, self._storage)
        return {i: label for i, label in enumerate(labels) if label.error_kind not in self._redo_kinds}

    @contextmanager
    def _counting(self, ref: ShardRef) -> Iterator[None]:
        self._at_hand[ref.shard_id] = Counts()
        try:
            yield
        finally:
            self._at_hand.pop(ref.shard_id, None)  # an actor that was thought dead may have the shard twice

    def _label(self, work: _Work, given: Mapping[int, LabelRow]) -> list[LabelRow]:
        """A label for every row; `given` are those that stand already, by position."""
        size = max(MIN_WINDOW, WINDOW_BATCHES * self._batch_size)
        reading = (self._reading(row, given.get(i), work.watch) for i, row in enumerate(work.rows))
        ready = Window(reading, size, partial(work.watch.waited, "pictures"))
        done = self._model_thread.submit(self._segment_all, work, ready).result()
        return [future.result() for future in done]

    def _label_uri(self, ref: ShardRef) -> str:
        return join(self._output, f"{LABELS_FOLDER}/{ref.shard_id}.parquet")

    def _publish(self, order: ShardOrder, work: _Work, labels: list[LabelRow], kept: Collection[int]) -> ShardResult:
        ref, watch = order.ref, work.watch
        done = [(work.rows[i], label) for i, label in enumerate(labels) if i not in kept]
        done_now = [label for _, label in done]
        is_refused = order.withhold != "none" and self._read_before.is_refused_now(done)
        is_kept_back = is_refused or is_withheld(order, totals_of(done_now))
        if not is_kept_back:
            with watch.stage("write"):
                self._write(ref, labels)
            self._metrics.shard(watch.read(len(done_now)))
        failed = [label for label in labels if (is_forbidden(label) if is_refused else label.status == FAILED)]
        n_labelled = sum(label.status == LABELLED for label in done_now)
        return ShardResult(
            ref.shard_id,
            totals_of(labels),
            Counts(n_labelled, len(done_now) - n_labelled),
            is_kept_back,
            is_refused,
            _error(failed[-1]) if failed else "",
            self._batches.n_halved,
            watch.read(len(done_now)),
            ref.vocabulary,
            sum(label.status == LABELLED and not label.classes for label in labels),
            _confidence_mean(labels),
        )

    def _write(self, ref: ShardRef, labels: list[LabelRow]) -> None:
        identity = {
            **self._identity,
            "shard_id": ref.shard_id,
            "vocabulary": ref.vocabulary,
            "vocabulary_fingerprint": self._compiled[ref.vocabulary][0].fingerprint,
        }
        uri, data = self._label_uri(ref), label_file_bytes(labels, identity)
        with storing(uri, JobFailedError):
            if self._redo_kinds is None:
                write_new(uri, data, self._storage)
            else:
                write_replace(uri, data, self._storage)

    def _reading(self, row: ManifestRow, given: LabelRow | None, watch: Stopwatch) -> Future:
        """The future of a prepared picture, a PictureError, or the label that stands already."""
        if given is not None:
            return _finished(given)
        read = partial(
            read_picture,
            row=row,
            segmenter=self._segmenter,
            storage=self._storage,
            max_pixels=self._max_pixels,
            budget=self._read_budget,
            watch=watch,
        )
        return self._read_pool.submit(read, too_late)

    def _segment_all(self, work: _Work, ready: Window) -> list[Future[LabelRow]]:
        """Run the model over prepared pictures in batches cut by position; encoding goes on behind it."""
        work.watch.waited("shards", time.perf_counter() - self._model_free_since)
        done: list[Future[LabelRow]] = []
        for positions, batch in batches(ready, self._batch_size):
            work.watch.took_batch(ready.n_ready, self._encode_pool.n_at_hand)
            self._metrics.batch(len(batch), ready.n_ready, self._encode_pool.n_at_hand)
            results = iter(self._segment(work, positions, batch))
            for position, item in zip(positions, batch, strict=True):
                if isinstance(item, LabelRow):
                    done.append(_finished(item))
                    continue
                size_hw = None if isinstance(item, PictureError) else item.size_hw
                outcome = item if isinstance(item, PictureError) else next(results)
                done.append(self._submit_encoding(work, work.rows[position], outcome, size_hw))
        self._model_free_since = time.perf_counter()
        return done

    def _segment(self, work: _Work, positions: list[int], batch: list) -> list:
        """Results for those of a batch that the model is to see."""
        seen = [i for i, item in enumerate(batch) if not isinstance(item, PictureError | LabelRow)]
        if not seen:
            return []
        vocabulary, compiled = self._compiled[work.ref.vocabulary]
        self._at_model = (Stuck(work.ref.shard_id, tuple(positions[i] for i in seen)), time.monotonic())
        try:
            with work.watch.model(len(seen)):
                return self._batches.segment([batch[i] for i in seen], vocabulary.name, compiled)
        finally:
            self._at_model = None

    def _submit_encoding(
        self, work: _Work, row: ManifestRow, outcome: object, size_hw: tuple[int, int] | None
    ) -> Future[LabelRow]:
        # The model waits here while label maps, as large as their pictures, wait to be encoded.
        n_pixels = 0 if size_hw is None else size_hw[0] * size_hw[1]
        held = ExitStack()
        started = time.perf_counter()
        self._encode_budget.acquire(n_pixels)
        work.watch.waited("encoding", time.perf_counter() - started)
        held.callback(self._encode_budget.release, n_pixels)
        vocabulary = self._compiled[work.ref.vocabulary][0]
        encoded = self._encode_pool.submit(
            lambda task: encode_label(task, row, vocabulary, outcome, size_hw, work.watch),
            lambda stage: failed_row(row, vocabulary.name, too_late(stage), size_hw),
            held,
        )
        encoded.add_done_callback(lambda future: self._count(work.ref, future.result()))
        return encoded

    def _count(self, ref: ShardRef, label: LabelRow) -> None:
        self._metrics.picture(label.status)
        with self._counts_lock:
            if ref.shard_id in self._at_hand:  # whoever waits for the last label may be faster than this
                self._at_hand[ref.shard_id] += Counts(1, 0) if label.status == LABELLED else Counts(0, 1)


def _error(label: LabelRow) -> str:
    return f"{label.error_stage}/{label.error_kind}: {label.error_message}"


def _confidence_mean(labels: Sequence[LabelRow]) -> float | None:
    classes = [each for label in labels for each in label.classes or ()]
    pixels = sum(each["pixels"] for each in classes)
    return sum(each["pixels"] * each["confidence_mean"] for each in classes) / pixels if pixels else None


def _finished(label: LabelRow) -> Future[LabelRow]:
    future: Future[LabelRow] = Future()
    future.set_result(label)
    return future
