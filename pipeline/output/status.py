"""How far a job is, from one listing of its label files and their footers: also while it runs elsewhere."""

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.output import absolute_uri, storing
from pipeline.output.files import OutputFile, existing_job, files_below
from pipeline.output.footers import each_totals
from pipeline.output.label_files import merge_totals
from pipeline.output.overrides import Overrides
from pipeline.output.plan import read_plan
from pipeline.output.run_log import last_run
from pipeline.storage import StorageOptions, join
from pipeline.storage.lock import is_locked
from schemas.errors import one_line
from schemas.job import JobRecord
from schemas.labels import FAILED, LABELLED, ShardTotals
from schemas.layout import LABELS_FOLDER
from schemas.manifest import public_uri
from schemas.quantities import counted, duration_text

RATE_WINDOW_S = 600.0  # of the last activity, whenever that was

_STAGE_NAMES = {"memory": "waiting for memory"}  # where the name of a stage does not say what takes the time
_VERIFY = "run `escnet verify`, which says what to do"


@dataclass(frozen=True)
class StatusReport:
    """How far a job is.

    Args:
        output: URI without secrets.
        model: its name.
        n_pictures, n_shards: of the plan.
        is_running: whether a run holds the output at this moment.
        n_pictures_done, n_shards_done: of the shards whose label file is there and has a footer.
        totals: what those footers add up to.
        unread: names of label files without a readable footer.
        n_foreign: label files that no shard of the plan has.
        pictures_per_s: pace of the last `RATE_WINDOW_S` seconds of activity; None if fewer than two files tell.
        n_corrected: pictures of which a person's mask is in `overrides/`.
        last_published: when the newest label file was written, in seconds since 1970; None if there is none.
        last_run: the summary of the newest run, as far as it is written; None if there is none.
    """

    output: str
    model: str
    n_pictures: int
    n_pictures_done: int
    n_shards: int
    n_shards_done: int
    is_running: bool = False
    totals: ShardTotals = field(default_factory=ShardTotals)
    unread: list[str] = field(default_factory=list)
    n_foreign: int = 0
    n_corrected: int = 0
    pictures_per_s: float | None = None
    last_published: float | None = None
    last_run: dict[str, Any] | None = None

    @property
    def seconds_left(self) -> float | None:
        """At that pace; None if it is unknown."""
        if self.n_pictures_done == self.n_pictures:
            return 0.0
        return (self.n_pictures - self.n_pictures_done) / self.pictures_per_s if self.pictures_per_s else None

    def failed_by(self, part: int) -> dict[str, int]:
        """Failed pictures by stage (0) or kind (1), the most frequent first."""
        counts: Counter[str] = Counter()
        for reason, n in self.totals.failed.items():
            counts[reason.partition("/")[2 * part]] += n
        return dict(counts.most_common())

    def as_json(self) -> dict[str, Any]:
        """Plain data, as docs/verify.md describes it."""
        return {
            "output": self.output,
            "model": self.model,
            "is_running": self.is_running,
            "n_pictures": self.n_pictures,
            "n_pictures_done": self.n_pictures_done,
            "n_pictures_left": self.n_pictures - self.n_pictures_done,
            "n_shards": self.n_shards,
            "n_shards_done": self.n_shards_done,
            "n_shards_left": self.n_shards - self.n_shards_done,
            "by_status": {LABELLED: self.totals.labelled, FAILED: sum(self.totals.failed.values())},
            "by_stage": self.failed_by(0),
            "by_kind": self.failed_by(1),
            "by_stage_and_kind": dict(sorted(self.totals.failed.items())),
            "pictures_per_s": self.pictures_per_s,
            "seconds_left": self.seconds_left,
            "last_published": None if self.last_published is None else _iso(self.last_published),
            "unread": self.unread,
            "n_foreign": self.n_foreign,
            "n_corrected": self.n_corrected,
            "last_run": self.last_run,
        }


def status(output: str, storage: StorageOptions | None = None) -> StatusReport:
    """Count what an output holds so far; reads plan, listing and footers, no label rows, and of corrections the names.

    Raises:
        OutputError: there is no output, its plan is damaged, or storage fails.
    """
    storage = storage or StorageOptions()
    output = absolute_uri(output, storage)
    job = existing_job(output, storage)
    with ThreadPoolExecutor(1) as pool:
        is_running = pool.submit(is_locked, output, storage)  # in object storage it has to look twice
        report = _count(job, output, storage)
        with storing(output):
            return replace(report, is_running=is_running.result(), last_run=last_run(output, storage))


def _count(job: JobRecord, output: str, storage: StorageOptions) -> StatusReport:
    n_rows = {ref.shard_id: ref.n_rows for ref in read_plan(job.manifest.files, output, storage)}
    done: dict[str, OutputFile] = {}
    n_foreign = 0
    for file in files_below(join(output, LABELS_FOLDER), storage):
        shard_id = file.name.removesuffix(".parquet")
        if shard_id in n_rows and shard_id != file.name:
            done[shard_id] = file
        elif file.name.endswith(".parquet"):
            n_foreign += 1
    unread: list[str] = []
    totals = merge_totals(totals for _, totals in each_totals(done, output, storage, unread))
    readable = [done[each] for each in sorted(done.keys() - set(unread))]
    return StatusReport(
        output=public_uri(output),
        model=job.model.name,
        n_pictures=job.manifest.n_rows,
        n_pictures_done=sum(n_rows[file.name.removesuffix(".parquet")] for file in readable),
        n_shards=job.manifest.n_shards,
        n_shards_done=len(readable),
        totals=totals,
        unread=[f"{LABELS_FOLDER}/{shard_id}.parquet" for shard_id in unread],
        n_foreign=n_foreign,
        n_corrected=len(Overrides(output, storage)),
        pictures_per_s=_pace((f.modified, n_rows[f.name.removesuffix(".parquet")]) for f in readable),
        last_published=max((file.modified for file in readable if file.modified is not None), default=None),
    )


def _pace(published: Iterable[tuple[float | None, int]]) -> float | None:
    """Pictures a second, from when each file was published and how many pictures it has.

    The first file of the window starts the clock, so its pictures, which took their time before, do not count.
    """
    known = sorted((when, n_rows) for when, n_rows in published if when is not None)
    if not known:
        return None
    last = known[-1][0]
    recent = [(when, n_rows) for when, n_rows in known if when > last - RATE_WINDOW_S]
    first = recent[0][0]
    return sum(n_rows for _, n_rows in recent[1:]) / (last - first) if last > first else None


def status_lines(report: StatusReport, now: float | None = None) -> list[str]:
    """The report in a few lines; `now` in seconds since 1970."""
    left, n_left = report.n_shards - report.n_shards_done, report.n_pictures - report.n_pictures_done
    n_failed = sum(report.totals.failed.values())
    lines = [
        f"{report.output}: {_state(report)}, labelled by {report.model}",
        f"  shards:    {report.n_shards_done:,} of {report.n_shards:,} done, {left:,} left",
        f"  pictures:  {report.n_pictures_done:,} of {report.n_pictures:,} done, {n_left:,} left",
        f"  status:    {report.totals.labelled:,} {LABELLED}, {n_failed:,} {FAILED}",
    ]
    if n_failed:
        lines.append(f"  by stage:  {_counts(report.failed_by(0))}")
        lines.append(f"  by kind:   {_counts(report.failed_by(1))}")
    if report.n_corrected:
        lines.append(f"  corrected: {counted(report.n_corrected, 'picture')}, by people")
    lines += _time_lines(report, time.time() if now is None else now)
    lines += _run_lines(report)
    if report.unread:
        lines.append(f"  {len(report.unread):,} label files cannot be read, the first {report.unread[0]}; {_VERIFY}")
    if report.n_foreign:
        lines.append(f"  {report.n_foreign:,} label files belong to no shard of the plan; {_VERIFY}")
    return lines


def _state(report: StatusReport) -> str:
    if report.is_running:
        return "a run is at work there"
    return "done" if report.n_shards_done == report.n_shards else "not finished, and no run is at work there"


def _time_lines(report: StatusReport, now: float) -> list[str]:
    if report.last_published is None:
        return ["  pace:      no label file yet"]
    lines = []
    if report.pictures_per_s is not None:
        lines.append(f"  pace:      {report.pictures_per_s:.2f} pictures a second when last at work")
    if report.n_shards_done < report.n_shards:
        seconds = report.seconds_left
        lines.append(f"  time left: {'unknown' if seconds is None else f'{duration_text(seconds)} at that pace'}")
    ago = duration_text(max(0.0, now - report.last_published))
    return [*lines, f"  newest:    label file of {_iso(report.last_published)}, {ago} ago"]


def _run_lines(report: StatusReport) -> list[str]:
    """How the newest run ended, and what it spent at each stage; nothing if its summary, which anybody may have
    changed, lacks it.
    """
    run = report.last_run
    if run is None:
        return []
    try:
        is_cut_off = run["state"] == "running" and not report.is_running  # it could not write its end
        state = "cut off: it was killed, or its machine stopped" if is_cut_off else run["state"]
        timings = run["timings"]
        seconds = timings["stages"]["seconds"].items()
        stages = ", ".join(f"{_STAGE_NAMES.get(name, name)} {float(spent):.1f}" for name, spent in seconds)
        reached = timings["reached"]
        share = "" if reached is None else f", {float(reached):.0%} of the model's own speed"
        lines = [f"  last run:  {run['run_id']}, {state}{share}", f"  seconds:   {stages}"]
    except (LookupError, TypeError, ValueError, AttributeError):
        return []
    return list(map(one_line, lines))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
