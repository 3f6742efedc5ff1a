"""What the pictures of one shard spend at each stage, measured where they are worked on."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.timings import ShardTimings


class Stopwatch:
    """Adds up seconds by name and counts for one shard; safe in threads.

    Args:
        has_own_core: the model computes in the thread that calls it, on a core: then what that thread really computed
            is known. On a GPU it is not, and the model is taken to work for as long as its call takes.
    """

    def __init__(self, *, has_own_core: bool) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._waits: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()
        self._model_s = 0.0
        self._has_own_core = has_own_core
        self._lock = threading.Lock()

    def laps(self) -> Callable[[str], None]:
        """A clock for one picture: every call says which stage the time since the call before belongs to."""
        last = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            with self._lock:
                self._seconds[stage] += now - last
            last = now

        return lap

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes for a stage."""
        lap = self.laps()
        try:
            yield
        finally:
            lap(name)

    @contextmanager
    def model(self, n_pictures: int) -> Iterator[None]:
        """Count what the block takes for the model, with so many pictures in it."""
        before = time.thread_time()
        lap = self.laps()
        wall = time.perf_counter()
        try:
            yield
        finally:
            lap("segment")
            wall = time.perf_counter() - wall
            self._model_s += min(wall, time.thread_time() - before) if self._has_own_core else wall
            self._counts["segmented"] += n_pictures

    def waited(self, reason: str, seconds: float) -> None:
        """The model had nothing to do; only its thread calls this."""
        self._waits[reason] += seconds

    def took_batch(self, n_ready: int, n_encoding: int) -> None:
        """The model took a batch; only its thread calls this. See `ShardTimings` for the two counts."""
        self._counts.update(batches=1, ready=n_ready, encoding=n_encoding)

    def read(self, n_pictures: int) -> ShardTimings:
        """Everything so far, for a shard of `n_pictures` rows."""
        with self._lock:
            seconds = dict(self._seconds)
        return ShardTimings(
            seconds,
            self._model_s,
            dict(self._waits),
            n_pictures,
            self._counts["segmented"],
            self._counts["batches"],
            self._counts["ready"],
            self._counts["encoding"],
        )
