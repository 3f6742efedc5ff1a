"""The proof that an output holds what its plan promised: every manifest row in exactly one row of one label file.

Plan and names are checked first, then the label files, each against the manifest rows of its shard and against its own
canonical encoding, side by side and one file a process at a time.
"""

import random
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from pipeline.output import absolute_uri, read_job
from pipeline.output.files import refuse_no_output
from pipeline.output.verification.findings import RESTORE, Finding, LabelCheck
from pipeline.output.verification.labels import LabelChecker, LabelTask
from pipeline.output.verification.plan import PlanCheck, check_plan
from pipeline.output.verification.workers import check_side_by_side, default_workers
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import OutputError
from schemas.layout import JOB_FILE
from schemas.manifest import public_uri

_FOOTERS_A_WORKER = 64
MAX_KEPT = 100_000  # findings; any further are only counted


@dataclass
class VerifyReport:
    """What a verification found.

    Args:
        output: URI without secrets.
        n_planned_rows, n_planned_files: of the plan, as far as it can be read.
        n_rows, n_files, n_bytes: of label files that were compared in full and hold.
        n_footers: label files of which only the name and the footer were looked at and hold.
        findings: what does not hold, the first 100,000 of `n_findings`.
        missing: names, below the output, of label files that are not there yet.
        notes: what does no harm and is good to know.
    """

    output: str
    n_planned_rows: int = 0
    n_planned_files: int = 0
    n_rows: int = 0
    n_files: int = 0
    n_bytes: int = 0
    n_footers: int = 0
    n_findings: int = 0
    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing is missing and nothing is wrong."""
        return not self.n_findings and not self.missing

    def add(self, finding: Finding) -> None:
        self.n_findings += 1
        if len(self.findings) < MAX_KEPT:
            self.findings.append(finding)

    def as_json(self) -> dict[str, Any]:
        """Plain data, as docs/verify.md describes it."""
        return {"holds": self.holds, **asdict(self)}


def verify(
    output: str,
    storage: StorageOptions | None = None,
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> VerifyReport:
    """Check an output against its own plan; a bar or lines on stderr say how far it is.

    Args:
        output: what `escnet annotate` wrote, local or in object storage.
        sample: look into so many label files, and at names and footers alone of the others; None is all of them.
        seed: which ones.
        workers: processes, each with one label file in memory some four times; 1 is this process. None is one a core.

    Raises:
        OutputError: there is no output, or storage cannot be listed.
    """
    storage = storage or StorageOptions()
    output = absolute_uri(output, storage)
    report = VerifyReport(public_uri(output))
    refuse_no_output(output, storage)
    try:
        job = read_job(output, storage)
    except OutputError as error:
        reason = f"no job record ({' '.join(str(error).split())})"
        report.add(Finding(JOB_FILE, reason, "the record that `escnet annotate` wrote", RESTORE))
        return report
    assert job is not None, "job.json was there a moment ago"
    plan = check_plan(job, output, storage)
    report.n_planned_rows = sum(ref.n_rows for ref in plan.refs)
    report.n_planned_files = len(plan.refs)
    report.missing, report.notes = plan.missing, plan.notes
    for finding in plan.findings:
        report.add(finding)
    checker = LabelChecker(output, storage, job, plan.vocabularies)
    tasks = _tasks(plan, sample, seed)
    _check_labels(tasks, checker, min(workers or default_workers(), _worth(tasks)), report)
    return report


def _tasks(plan: PlanCheck, sample: int | None, seed: int) -> list[LabelTask]:
    """The label files that are there; those of the sample, one from each of `sample` equal runs of shards, in full."""
    refs = [ref for ref in plan.refs if ref.shard_id in plan.labels]
    if sample is None or sample >= len(refs):
        chosen = set(range(len(refs)))
    else:
        draw = random.Random(seed)
        edges = [k * len(refs) // sample for k in range(sample + 1)]
        chosen = {draw.randrange(first, end) for first, end in pairwise(edges)}
    return [LabelTask(ref, k in chosen) for k, ref in enumerate(refs)]


def _worth(tasks: list[LabelTask]) -> int:
    """How many workers have something to do: starting one takes a second."""
    n_full = sum(task.is_full for task in tasks)
    return max(1, n_full + (len(tasks) - n_full) // _FOOTERS_A_WORKER)


def _check_labels(tasks: list[LabelTask], checker: LabelChecker, n_workers: int, report: VerifyReport) -> None:
    writers: dict[str, int] = {}
    n_done = 0
    with Progress(sum(task.ref.n_rows for task in tasks)) as progress:
        for task, check in zip(tasks, check_side_by_side(tasks, checker, n_workers), strict=True):
            _add(task, check, report)
            if check.writer is not None:
                writers[check.writer] = writers.get(check.writer, 0) + 1
            n_done += task.ref.n_rows
            progress.update(n_done, 0, is_loading=False)
    for writer, n_files in sorted(writers.items()):
        version = writer.rpartition(" ")[2]
        report.notes.append(
            f"{n_files:,} label files were written by {writer}, which is not this machine's: their rows, checksums and "
            f"numbers hold, their bytes were not compared; verify with pyarrow=={version} to compare them"
        )


def _add(task: LabelTask, check: LabelCheck, report: VerifyReport) -> None:
    for finding in check.findings:
        report.add(finding)
    if check.findings:
        return
    if task.is_full:
        report.n_files += 1
        report.n_rows += check.n_rows
        report.n_bytes += check.n_bytes
    else:
        report.n_footers += 1
