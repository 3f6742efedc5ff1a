"""Workers are asked in turns for how far they are, and none of them is waited for."""

from types import SimpleNamespace

from pipeline.actors.orders import Counts, RunnerReport
from pipeline.actors.reports import ASKED_AT_ONCE, Reports
from pipeline.actors.worker import Worker


class Gone(Exception):
    pass


class Crowd:
    """Workers, and a Ray in which those named in `silent` do not answer and those in `dead` answer with an error."""

    def __init__(self, n: int, silent=(), dead=()):
        self.asked: list[int] = []
        self.silent, self.dead = silent, dead
        self.exceptions = SimpleNamespace(RayError=Gone)
        self.workers = [Worker(i, SimpleNamespace(report=self._report(i))) for i in range(n)]

    def _report(self, i):
        return SimpleNamespace(remote=lambda: (self.asked.append(i), (i, len(self.asked)))[1])

    def wait(self, calls, **_):
        return [call for call in calls if call[0] not in self.silent], []

    def get(self, call):
        if call[0] in self.dead:
            raise Gone
        return RunnerReport({"shard": Counts(call[0])})


def test_of_many_workers_some_are_asked_at_once_and_all_in_turn():
    crowd = Crowd(2 * ASKED_AT_ONCE + 50)
    reports = Reports(crowd, crowd.workers)
    reports.gather()
    assert crowd.asked == list(range(ASKED_AT_ONCE))
    for _ in range(3):
        reports.gather()
    n = len(crowd.workers)
    assert crowd.asked == [k % n for k in range(4 * ASKED_AT_ONCE)]
    assert [worker.report.counts["shard"].labelled for worker in crowd.workers] == list(range(n))
    assert all(worker.is_placed for worker in crowd.workers)


def test_a_worker_that_does_not_answer_is_not_asked_again_and_known_by_when_it_was():
    crowd = Crowd(2, silent={0})
    reports = Reports(crowd, crowd.workers)
    reports.gather()
    first_asked = crowd.workers[0].asked_at
    reports.gather()
    assert crowd.asked == [0, 1, 1]
    assert crowd.workers[0].asked_at == first_asked
    assert first_asked is not None
    assert not crowd.workers[0].is_placed


def test_a_dead_worker_keeps_its_last_report_and_one_whose_life_is_over_is_not_asked():
    crowd = Crowd(2, dead={0})
    last = crowd.workers[0].report = RunnerReport({"shard": Counts(7)})
    crowd.workers[1].is_gone = True
    reports = Reports(crowd, crowd.workers)
    reports.gather()
    reports.gather()
    assert crowd.asked == [0, 0]
    assert crowd.workers[0].report is last
