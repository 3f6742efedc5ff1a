"""Jobs that are killed again and again until they are done, and the check of what they left."""

import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil

from pipeline.output.verify import verify
from tests.crash.cluster import Cluster
from tests.crash.comparison import differences
from tests.crash.kills import KILL_KINDS, Kill, KillKind
from tests.crash.places import Place
from tests.crash.processes import kill_tree, start
from tests.crash.world import N_SHARDS, World
from tests.crash.writers import kill_writer

POLL_S = 0.02
SEEK_EVERY_S = 0.2
CATCH_S = 0.5
LOOK_EVERY_S = 1.0
SAY_EVERY_S = 15.0
STALLED_S = 180.0  # nothing killed, nothing published and no driver started for so long: the job hangs
MAX_ENDS_IN_A_ROW = 5  # of drivers that give up although nothing was killed in between
END_TIMEOUT_S = 180.0


@dataclass
class Outcome:
    """What a campaign did and found.

    Args:
        kills: done, by kind.
        n_mid_write: temporary files that kills left among the labels: their victims were publishing.
        n_shards: compared, over all jobs.
        n_swept: jobs after whose end one more run was needed to sweep what killed writers had left.
        n_nodes_died: nodes that ended without having been killed, and were replaced.
        gave_up: last lines of drivers that ended with an error of ours, as one does whose actors die too often.
        differences: everything that is not as it should be.
    """

    kills: dict[KillKind, int] = field(default_factory=lambda: dict.fromkeys(KILL_KINDS, 0))
    n_mid_write: int = 0
    n_jobs: int = 0
    n_shards: int = 0
    n_swept: int = 0
    n_nodes_died: int = 0
    seconds: float = 0.0
    gave_up: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def uninterrupted(place: Place, cluster: Cluster, world: World, logs: Path) -> dict[str, bytes]:
    """The files of a run that nobody disturbs, by which all others are judged.

    Raises:
        RuntimeError: it did not end well, or failed other pictures than the bad ones.
    """
    campaign = Campaign(place, cluster, world, logs, expected={})
    driver = campaign.start_driver("uninterrupted")
    if driver.wait():
        raise RuntimeError(f"the uninterrupted run ended with exit code {driver.returncode}: {campaign.said()}")
    if campaign.said() != f"{world.n_rows} rows, {dict(sorted(world.failed.items()))} failed":
        raise RuntimeError(f"the uninterrupted run labelled other pictures than it should: {campaign.said()}")
    return place.files("uninterrupted")


class Campaign:
    """Kills jobs in turn; a job that is done is checked, and the next one begins on a fresh output.

    Args:
        expected: the files of an uninterrupted run.
        say: takes a line of progress.
    """

    def __init__(
        self,
        place: Place,
        cluster: Cluster,
        world: World,
        logs: Path,
        expected: Mapping[str, bytes],
        say: Callable[[str], None] = print,
    ) -> None:
        self._place = place
        self._cluster = cluster
        self._world = world
        self._logs = logs
        self._expected = expected
        self._say = say
        self._outcome = Outcome()
        self._job = ""
        self._driver: Popen[bytes] | None = None
        self._driver_due = 0.0
        self._kills: list[Kill] = []  # still to be done, the next one last
        self._kill_at: float | None = None  # None until there is something of its kind
        self._n_ends = 0
        self._names: set[str] = set()  # in labels/, when last looked at
        self._left_mid_write: set[str] = set()
        self._seek_at = self._look_at = self._say_at = self._moved_at = 0.0

    def run(self, kills: Sequence[Kill]) -> Outcome:
        """Do all of `kills`, let the last job end, and say what was found. Stops early where a job cannot go on."""
        started = time.monotonic()
        self._kills = list(reversed(kills))
        self._say_at = started + SAY_EVERY_S
        can_go_on = True
        while can_go_on and (self._kills or not self._outcome.n_jobs):
            self._job = f"job-{self._outcome.n_jobs + 1:03}"
            can_go_on = self._complete() and self._check()
        if self._driver is not None:
            kill_tree(self._driver)
        self._outcome.n_mid_write = len(self._left_mid_write)
        self._outcome.n_nodes_died = self._cluster.n_died
        self._outcome.seconds = time.monotonic() - started
        return self._outcome

    def start_driver(self, name: str) -> Popen[bytes]:
        """Start a run of the job of this name."""
        self._job = name
        request = self._logs / f"{name}.json"
        request.write_text(self._world.request(self._place.uri(name), self._cluster.address).model_dump_json())
        command = [sys.executable, "-m", "tests.crash.driver", request]
        return start(command, self._log, {**self._cluster.environment, **self._place.environment})

    def said(self) -> str:
        """The last line of the job's drivers."""
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    @property
    def _log(self) -> Path:
        return self._logs / f"{self._job}.log"

    def _complete(self) -> bool:
        """Start drivers until one of them ends well, and kill meanwhile; False if that will not come to pass."""
        self._driver, self._driver_due, self._n_ends, self._names = None, 0.0, 0, set()
        self._moved_at = time.monotonic()
        while True:
            self._cluster.tend()
            if self._driver is None and time.monotonic() >= self._driver_due:
                self._driver, self._moved_at = self.start_driver(self._job), time.monotonic()
            if self._driver is not None and self._driver.poll() is not None:
                if self._driver.returncode == 0:
                    self._driver = None
                    return True
                if not self._gave_up(self._driver):
                    return False
            if self._kills:
                self._kill_if_due(self._kills[-1])
            self._look()
            if time.monotonic() - self._moved_at > STALLED_S:
                self._wrong(f"nothing has moved for {STALLED_S:.0f} s; last said: {self.said()}")
                return False
            time.sleep(POLL_S)

    def _gave_up(self, driver: Popen[bytes]) -> bool:
        """A driver ended by itself before the job was done. Its user reads the line and starts it again."""
        self._outcome.gave_up.append(f"{self._job}, exit code {driver.returncode}: {self.said()}")
        self._say(f"a driver gave up: {self._outcome.gave_up[-1]}")
        if "Traceback" in self._log.read_text(errors="replace"):
            self._wrong("a driver ended with a traceback")
            return False
        self._n_ends += 1
        if self._n_ends > MAX_ENDS_IN_A_ROW:
            self._wrong(f"{self._n_ends} drivers in a row gave up; the last one said: {self.said()}")
            return False
        self._driver, self._driver_due = None, time.monotonic() + LOOK_EVERY_S
        return True

    def _kill_if_due(self, kill: Kill) -> None:
        """Wait for something of the kind to be there, then for the kill's delay, then kill it if it still is."""
        now = time.monotonic()
        if now < (self._seek_at if self._kill_at is None else self._kill_at):
            return
        victims = self._victims(kill.kind)
        if not victims:
            self._kill_at, self._seek_at = None, now + SEEK_EVERY_S
        elif self._kill_at is None:
            self._kill_at = now + kill.delay_s
        elif self._kill(kill, victims[int(kill.choice * len(victims))]):
            self._kills.pop()
            self._outcome.kills[kill.kind] += 1
            self._kill_at, self._seek_at, self._moved_at, self._n_ends = None, now, now, 0

    def _victims(self, kind: KillKind) -> Sequence[Any]:
        if kind == "driver":
            return [] if self._driver is None else [self._driver]
        return self._cluster.full_nodes() if kind == "node" else self._cluster.actors()

    def _kill(self, kill: Kill, victim: Any) -> bool:
        """Whether it was done: a writer has to be caught."""
        if kill.kind == "driver":
            kill_tree(victim)
            self._driver, self._driver_due = None, time.monotonic() + kill.pause_s
        elif kill.kind == "node":
            self._cluster.kill_node(victim, kill.pause_s)
        elif kill.kind == "writer":
            return kill_writer(self._cluster.actors(), lambda: self._place.label_names(self._job), CATCH_S)
        else:
            with suppress(psutil.NoSuchProcess):  # the driver that it belonged to has just ended it
                victim.kill()
        return True

    def _look(self) -> None:
        """Notice what is new among the labels, and say how far all is from time to time."""
        now = time.monotonic()
        if now < self._look_at:
            return
        names = set(self._place.label_names(self._job))
        if names - self._names:
            self._moved_at = now
        # A temporary name that stays for a second belongs to nobody any more.
        self._left_mid_write |= {name for name in names & self._names if name.startswith(".")}
        self._names, self._look_at = names, now + LOOK_EVERY_S
        if now >= self._say_at:
            self._say_at = now + SAY_EVERY_S
            self._say(f"{self._killed()}; {self._job}: {self._n_published()} of {N_SHARDS} shards")

    def _check(self) -> bool:
        """Compare the job that has ended; keep its output if anything is wrong with it, else remove it."""
        self._wait_for_actors()
        n_before = len(self._outcome.differences)
        if self._place.leftovers(self._job):  # of the last run; the next one sweeps them
            self._outcome.n_swept += 1
            if self.start_driver(self._job).wait():
                self._wrong(f"the run after the last did not end well: {self.said()}")
        for line in (
            *(f"{name}: left behind" for name in self._place.leftovers(self._job)),
            *differences(self._place.files(self._job), self._expected),
            *self._unverified(),
        ):
            self._wrong(line)
        self._outcome.n_jobs += 1
        self._outcome.n_shards += N_SHARDS
        is_right = len(self._outcome.differences) == n_before
        self._say(f"{self._killed()}; {self._job}: {'the same as uninterrupted' if is_right else 'DIFFERENT'}")
        if is_right:
            self._place.remove(self._job)
        return True

    def _unverified(self) -> list[str]:
        """What `escnet verify` says against the output."""
        with redirect_stderr(io.StringIO()):  # its progress
            report = verify(self._place.uri(self._job), workers=1)
        return [f"verify: {finding.line}" for finding in report.findings] + [f"verify: {n}" for n in report.missing]

    def _wait_for_actors(self) -> None:
        """Those of a driver that ended die a moment later, and one of them may be publishing."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while self._cluster.actors():
            if time.monotonic() > deadline:
                self._wrong(f"actors are still there {END_TIMEOUT_S:.0f} s after the last driver ended")
                return
            self._cluster.tend()
            time.sleep(POLL_S)

    def _wrong(self, line: str) -> None:
        self._outcome.differences.append(f"{self._job}: {line}")

    def _killed(self) -> str:
        by_kind = ", ".join(f"{kind} {self._outcome.kills[kind]}" for kind in KILL_KINDS)
        n_kills = sum(self._outcome.kills.values())
        return f"{n_kills} of {n_kills + len(self._kills)} kills ({by_kind})"

    def _n_published(self) -> int:
        return sum(not name.startswith(".") for name in self._names)
