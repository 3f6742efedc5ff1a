"""Label files are checked by processes, and one that ends its process is found."""

import os
import signal
from dataclasses import dataclass

from pipeline.output.verification.findings import LabelCheck
from pipeline.output.verification.labels import LabelChecker, LabelTask
from pipeline.output.verification.workers import check_side_by_side
from pipeline.output.verify import verify
from tests.pipeline.labelled_output import STORAGE
from tests.pipeline.output.verification.whole import job_of, label_file, refs_of


@dataclass(frozen=True)
class DyingChecker(LabelChecker):
    """Ends its process at the second row group, as hostile bytes might."""

    def check(self, task: LabelTask) -> LabelCheck:
        if task.ref.row_group == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().check(task)


def test_processes_say_the_same_as_this_one(output):
    label_file(output, 1).write_bytes(b"torn")
    one, two = (verify(str(output), STORAGE, workers=n) for n in (1, 2))
    assert one == two
    assert (one.n_files, one.n_findings) == (3, 1)


def test_a_file_that_ends_its_reader_is_found_and_the_others_are_proven(whole):
    tasks = [LabelTask(ref, is_full=True) for ref in refs_of(whole)[:3]]
    checker = DyingChecker(str(whole), STORAGE, job_of(whole), {})
    checks = list(check_side_by_side(tasks, checker, 2))
    assert [check.name for check in checks] == [f"labels/{task.ref.shard_id}.parquet" for task in tasks]
    assert [[finding.found for finding in check.findings] for check in checks] == [
        [],
        ["bytes that end the process which reads them"],
        [],
    ]
