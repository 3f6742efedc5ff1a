"""An output decided again with other thresholds, levels, ids or ignored classes, without the model.

The new output is what `annotate` would have written with the new vocabulary, byte for byte: the same plan, the same
names, the same label files. So a run that was stopped goes on by the same command, and `annotate` could go on with it.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from pipeline.annotation.update import refuse_overlap
from pipeline.output import absolute_uri, done_shards, read_job, shard_totals, storing, sweep
from pipeline.output.files import existing_job
from pipeline.output.footers import each_totals
from pipeline.output.label_files import merge_totals
from pipeline.output.labelled import vocabularies_as_used
from pipeline.output.run_log import pass_on_unknown_words
from pipeline.output.verification.workers import default_workers
from pipeline.progress import Progress, say
from pipeline.relabel.overrides import copy_overrides, overrides_to_copy
from pipeline.relabel.plan import plan_again
from pipeline.relabel.shards import ShardPair, ShardRelabeller, relabel_side_by_side
from pipeline.relabel.words import match_vocabularies
from pipeline.signals import StopSignals
from pipeline.storage import StorageOptions
from pipeline.storage.lock import lock_output
from schemas.errors import one_line
from schemas.job import JobRecord
from schemas.labels import ShardTotals
from schemas.layout import LABELS_FOLDER
from schemas.manifest import public_uri
from schemas.quantities import counted
from schemas.vocabulary import Level

SHOWN_DAMAGED = 5


@dataclass(frozen=True)
class RelabelRequest:
    """What `escnet relabel` was asked to do.

    Args:
        output: an output of `annotate` or of an earlier `relabel`, which stays as it is.
        other: where the new one is written.
        vocabularies: names, files or URIs; those of the output that are not among them stay.
        level: what labels are rolled up to; None leaves that to the vocabularies.
        workers: processes; None is one a core.
    """

    output: str
    other: str
    vocabularies: tuple[str, ...] = ()
    level: Level | None = None
    workers: int | None = None
    storage: StorageOptions = field(default_factory=StorageOptions)


@dataclass
class RelabelReport:
    """What became of it. `totals` are over the whole new output; `damaged` has a line for each file of no use."""

    output: str
    other: str
    n_rows: int
    n_shards: int
    n_shards_before: int
    n_unlabelled: int  # shards that the old output has not done
    n_mended: int = 0  # pictures that failed in shards done before, and are labelled in the old output by now
    n_rows_now: int = 0
    n_overrides: int = 0
    seconds: float = 0.0
    totals: ShardTotals = field(default_factory=ShardTotals)
    damaged: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not self.n_unlabelled and not self.damaged


def relabel(request: RelabelRequest) -> RelabelReport:
    """Decide all labels of an output again and write them as a new one; go on where an earlier run stopped.

    Raises:
        InputError: no output, a vocabulary that needs the model, or another place that cannot be used.
        JobFailedError: storage fails or a worker process ends; what is done stays.
        StoppedError: by Ctrl-C; what is done stays.
    """
    started = time.monotonic()
    storage = request.storage
    old, new = absolute_uri(request.output, storage), absolute_uri(request.other, storage)
    refuse_overlap(old, new, storage, "relabel")
    job = existing_job(old, storage)
    changes = match_vocabularies(
        vocabularies_as_used(job, old, storage), request.vocabularies, request.level, old, storage
    )
    overrides = overrides_to_copy(old, changes, storage)
    with ExitStack() as stack:
        found = read_job(new, storage)  # refuses a foreign output before anything is written into it
        with storing(new):
            lock = stack.enter_context(lock_output(new, storage))
        sweep(new, storage)
        pairs, record = plan_again(job, changes, found, old, new, storage)
        work = _sort(pairs, record, old, new, storage)
        work.report.n_overrides = copy_overrides(overrides, old, new, storage)
        _relabel_all(work, ShardRelabeller(old, new, storage, record, changes), request.workers, lock.check)
        pass_on_unknown_words(old, new, "relabel", storage, say)
        sweep(new, storage)  # a worker that was killed while it wrote left a temporary file
    work.report.seconds = time.monotonic() - started
    return work.report


@dataclass(frozen=True)
class _Work:
    """What a run has to do, and its report, which grows."""

    pairs: list[ShardPair]
    report: RelabelReport


def _sort(pairs: list[ShardPair], record: JobRecord, old: str, new: str, storage: StorageOptions) -> _Work:
    """Which shards are done, which can be done now, and which wait for labels."""
    done, there = done_shards(new, storage), done_shards(old, storage)
    missing = [pair for pair in pairs if pair.new.shard_id not in done]
    todo = [pair for pair in missing if pair.old.shard_id in there]
    report = RelabelReport(
        output=old,
        other=new,
        n_rows=record.manifest.n_rows,
        n_shards=len(pairs),
        n_shards_before=len(pairs) - len(missing),
        n_unlabelled=len(missing) - len(todo),
        totals=shard_totals((p.new.shard_id for p in pairs if p.new.shard_id in done), new, storage),
    )
    if report.totals.failed:
        both = [pair for pair in pairs if pair.new.shard_id in done and pair.old.shard_id in there]
        report.n_mended = _n_mended(both, old, new, storage)
    return _Work(todo, report)


def _n_mended(pairs: list[ShardPair], old: str, new: str, storage: StorageOptions) -> int:
    """How many more pictures the old output has labelled in these shards: a retry there replaced its files."""
    unread: list[str] = []
    before = dict(each_totals((pair.old.shard_id for pair in pairs), old, storage, unread))
    now = dict(each_totals((pair.new.shard_id for pair in pairs), new, storage, unread))
    known = [pair for pair in pairs if pair.old.shard_id in before and pair.new.shard_id in now]
    return sum(max(0, before[pair.old.shard_id].labelled - now[pair.new.shard_id].labelled) for pair in known)


def _relabel_all(work: _Work, relabeller: ShardRelabeller, asked: int | None, check: Callable[[], None]) -> None:
    """Relabel what is to be done, and keep the report up to date."""
    report, signals = work.report, StopSignals()
    n_workers = max(1, min(asked or default_workers(), len(work.pairs)))
    try:
        with Progress(report.n_rows, report.totals.rows) as progress, signals.noted():
            for shard in relabel_side_by_side(work.pairs, relabeller, n_workers):
                signals.check()
                check()
                if shard is not None and shard.totals is None:
                    report.damaged.append(shard.damage)
                elif shard is not None and shard.totals is not None:
                    report.totals = merge_totals((report.totals, shard.totals))
                    report.n_rows_now += shard.pair.new.n_rows
                progress.update(report.n_rows_now, 0, is_loading=False)
    except KeyboardInterrupt as stop:
        n_done = len(done_shards(report.other, relabeller.storage))
        line = (
            f"stopped; {n_done} of {report.n_shards} shards are done and kept, the same command goes on with the rest"
        )
        raise signals.error(line) from stop


def relabel_lines(report: RelabelReport) -> list[str]:
    """The end of a run in a few lines."""
    failed = sum(report.totals.failed.values())
    done = f"{report.totals.labelled:,} of {report.n_rows:,} pictures are labelled"
    done += f", {failed:,} failed as before" if failed else ""
    if report.n_rows_now:
        rate = report.n_rows_now / max(report.seconds, 1e-9)
        done += f". This run: {report.n_rows_now:,} in {report.seconds:.1f} s, {rate:.0f} a second"
    lines = [f"Nothing to do: {done}." if report.n_shards_before == report.n_shards else f"Done: {done}."]
    if report.totals.pixels:
        lines.append(f"  ignored: {report.totals.ignored_pixels / report.totals.pixels:.1%} of all pixels")
    if report.n_overrides:
        lines.append(f"  copied:  {counted(report.n_overrides, 'file')} of corrections by people")
    where, origin = public_uri(report.other).rstrip("/"), public_uri(report.output)
    lines.append(f"  labels:  {where}/{LABELS_FOLDER}/*.parquet ({counted(report.n_shards, 'shard')})")
    if report.n_unlabelled:
        lines.append(
            f"  missing: {counted(report.n_unlabelled, 'shard')} that {origin} has not labelled yet; when it has, the "
            "same command goes on"
        )
    if report.n_mended:
        mended = counted(report.n_mended, "picture")
        lines.append(
            f"  since:   {origin} has labelled {mended} that failed before; relabel into a new output to have them"
        )
    lines += [f"  damaged: {line}" for line in report.damaged[:SHOWN_DAMAGED]]
    if len(report.damaged) > SHOWN_DAMAGED:
        lines.append(f"  damaged: {len(report.damaged) - SHOWN_DAMAGED:,} more; see `escnet verify {origin}`")
    return list(map(one_line, lines))
