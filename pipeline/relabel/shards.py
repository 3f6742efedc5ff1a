"""Label files decided again, one after another in each of several processes."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice

from pipeline.output import storing
from pipeline.output.label_files import LabelFileError, footer_of, label_file_bytes, metadata_of, rows_of, totals_of
from pipeline.output.verification.labels import LARGE_PIXELS
from pipeline.picture.redecide import Redecider
from pipeline.relabel.words import Changes
from pipeline.storage import StorageOptions, join, read_bytes, write_new
from schemas.errors import JobFailedError, OutputError
from schemas.job import JobRecord, ShardRef
from schemas.labels import LabelRow, ShardTotals
from schemas.layout import LABELS_FOLDER
from schemas.manifest import public_uri

POLL_S = 0.5

_TASKS_A_WORKER = 4  # handed out at a time: a few tasks, not a million

_work: "ShardRelabeller | None" = None  # of a worker process


@dataclass(frozen=True)
class ShardPair:
    """A shard of the old output, and the same pictures' shard of the new one."""

    old: ShardRef
    new: ShardRef


@dataclass(frozen=True)
class RelabelledShard:
    """What became of a shard: its totals, or in one line why its old file cannot be used."""

    pair: ShardPair
    totals: ShardTotals | None
    damage: str = ""


@dataclass(frozen=True)
class ShardRelabeller:
    """Relabels the shards of one output.

    Args:
        record: the new output's job.
        changes: the vocabularies as they were and as they are now.
        large: held while a large picture is decided.
    """

    old: str
    new: str
    storage: StorageOptions
    record: JobRecord
    changes: Changes
    large: AbstractContextManager = field(default_factory=nullcontext)

    def relabel(self, pair: ShardPair) -> RelabelledShard:
        """Write the label file of a shard from the old one, if there is none yet.

        Raises:
            JobFailedError: storage fails.
        """
        try:
            labels = self._decided_again(pair)
        except OutputError as error:
            return RelabelledShard(pair, None, str(error))
        uri = label_uri(self.new, pair.new)
        with storing(uri, JobFailedError):
            write_new(uri, label_file_bytes(labels, self.record.footer_of(pair.new)), self.storage)
        return RelabelledShard(pair, totals_of(labels))

    def _decided_again(self, pair: ShardPair) -> list[LabelRow]:
        uri = label_uri(self.old, pair.old)
        with storing(uri, JobFailedError):
            data = read_bytes(uri, self.storage)
        shard_id = footer_of(metadata_of(data, uri), uri).get("shard_id")
        if shard_id != pair.old.shard_id:
            raise LabelFileError(uri, f"the labels of shard {shard_id}")
        redecider = Redecider(*self.changes[pair.old.vocabulary])
        rows = rows_of(data, uri)
        if len(rows) != pair.old.n_rows:
            raise LabelFileError(uri, f"{len(rows)} rows")
        try:
            return [self._decide(redecider, row) for row in rows]
        except OutputError as error:
            raise OutputError(f"{public_uri(uri)}: {error}") from error

    def _decide(self, redecider: Redecider, row: LabelRow) -> LabelRow:
        is_large = (row.width or 0) * (row.height or 0) > LARGE_PIXELS
        with self.large if is_large else nullcontext():
            return redecider.decide_again(row)


def label_uri(output: str, ref: ShardRef) -> str:
    return join(output, f"{LABELS_FOLDER}/{ref.shard_id}.parquet")


def relabel_side_by_side(
    pairs: Sequence[ShardPair], relabeller: ShardRelabeller, n_workers: int
) -> Iterator[RelabelledShard | None]:
    """Relabel shards in processes, in no order; None now and then while none is done. One worker is this process.

    Raises:
        JobFailedError: storage fails, or a process ends.
    """
    if n_workers == 1:
        yield from map(relabeller.relabel, pairs)
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the locks of storage's threads
    pool = ProcessPoolExecutor(n_workers, context, _start, (relabeller, context.Lock()))
    source = iter(pairs)
    waiting: set[Future[RelabelledShard]] = set()
    try:
        while True:
            waiting |= {pool.submit(_relabel, p) for p in islice(source, n_workers * _TASKS_A_WORKER - len(waiting))}
            if not waiting:
                return
            done, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
            yield from (call.result() for call in done)
            if not done:
                yield None
    except BrokenProcessPool as error:
        raise JobFailedError(
            "a worker process ended: the machine may be out of memory; the same command with fewer --workers goes on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(relabeller: ShardRelabeller, large: AbstractContextManager) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    _work = replace(relabeller, large=large)


def _relabel(pair: ShardPair) -> RelabelledShard:
    assert _work is not None
    return _work.relabel(pair)
