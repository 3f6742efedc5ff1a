"""What a run tells of itself while it goes: events, and timings that add up."""

import time
from typing import Any

from pipeline.actors.orders import ReplicaStart, ShardResult
from pipeline.actors.placement import Placement
from pipeline.annotation.health import ShardMonitor
from pipeline.annotation.resolve import ResolvedJob
from pipeline.output.run_log import RunLog
from pipeline.progress import Progress
from schemas.timings import RunTimings, ShardTimings


class RunWatch:
    """Adds up the timings of a run, and keeps its events below `runs/` of the output.

    Args:
        about: what the run is, beside what the job says of itself: plain data for its summary.
        placement: with as many actors as the run has.
        started: when the command was given (`time.monotonic`).
    """

    def __init__(
        self, job: ResolvedJob, about: dict[str, Any], placement: Placement, started: float, progress: Progress
    ) -> None:
        self._n_actors = placement.n_actors
        self._started = started
        self._steps: dict[str, float] = {}
        self._ready_at: float | None = None
        self._last_at: float | None = None
        self._closed_at: float | None = None
        self._shards = ShardTimings()
        self._n_shards = 0
        self._unknown_words: list[str] | None = None  # until a model is loaded
        self.passed("plan")
        about = {**about, **_about(job, placement)}
        self._monitor = ShardMonitor()
        self._say = progress.say
        self._log = RunLog(job.request.output, job.storage, about, self._so_far, progress.say)
        progress.heard = lambda line: self._log.event("note", said=line)

    @property
    def is_first(self) -> bool:
        """No actor was ready yet."""
        return self._ready_at is None

    def passed(self, step: str) -> None:
        """A step of the start is done: "plan", "cluster", "model"."""
        self._steps[step] = round(time.monotonic() - self._started, 3)

    def ready(self, actor: int, start: ReplicaStart) -> None:
        """An actor has loaded its model."""
        if self._ready_at is None:
            self._ready_at = time.monotonic()
            self.passed("model")
            self._unknown_words = start.unknown_words
        self._log.event("ready", actor=actor, seconds={step: round(s, 3) for step, s in start.seconds.items()})

    def add(self, result: ShardResult) -> None:
        """A shard is done."""
        self._shards += result.timings
        self._n_shards += 1
        self._last_at = time.monotonic()
        alarm = self._monitor.look(result)
        if alarm is not None:
            self._say(alarm)
        counts = {"labelled": result.counts.labelled, "failed": result.counts.failed}
        self._log.event("shard", shard_id=result.shard_id, actor=result.actor, **counts, **result.timings.as_json())

    def close(self, error: BaseException | None) -> RunTimings:
        """The run has ended, with `error` if not as it should."""
        self._closed_at = time.monotonic()
        is_stopped = isinstance(error, KeyboardInterrupt)
        self._log.close("done" if error is None else "stopped" if is_stopped else "failed", str(error or ""))
        return self.timings()

    def timings(self) -> RunTimings:
        """Everything so far."""
        now = self._closed_at or time.monotonic()
        ready_at = self._ready_at or now
        last_at = max(ready_at, self._last_at or ready_at)
        return RunTimings(self._n_actors, ready_at - self._started, last_at - ready_at, now - last_at, self._shards)

    def _so_far(self) -> dict[str, Any]:
        return {
            "n_shards_done": self._n_shards,
            "unknown_words": self._unknown_words,
            "start_steps": self._steps,
            "timings": self.timings().as_json(),
        }


def _about(job: ResolvedJob, placement: Placement) -> dict[str, Any]:
    return {
        "model": job.model.name,
        "vocabularies": {name: len(words.classes) for name, words in job.vocabularies.items()},
        "options": job.options.model_dump(),
        "n_actors": placement.n_actors,
        "gpus_per_actor": placement.gpus_per_actor,
        "versions": job.versions(),
    }
