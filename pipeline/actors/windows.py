"""The next pictures on their way to the model: read ahead in threads, taken in order, cut into batches."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any


class Window:
    """Results of futures in order, at most `size` of them under way or waiting to be taken.

    It is filled at once, before the first result is asked for.

    Args:
        waited: told how many seconds the taker of a result had to wait for it.
    """

    def __init__(self, futures: Iterable[Future], size: int, waited: Callable[[float], None]) -> None:
        self._source = iter(futures)
        self._waiting: deque[Future] = deque(islice(self._source, size))
        self._waited = waited

    @property
    def n_ready(self) -> int:
        """How many results could be taken without waiting, if order did not matter."""
        return sum(future.done() for future in self._waiting)

    def __iter__(self) -> "Window":
        return self

    def __next__(self) -> Any:
        if not self._waiting:
            raise StopIteration
        future = self._waiting.popleft()
        if not future.done():
            started = time.perf_counter()
            future.exception()  # waits
            self._waited(time.perf_counter() - started)
        self._waiting.extend(islice(self._source, 1))
        return future.result()


def batches(items: Iterable, size: int) -> Iterator[tuple[list[int], list]]:
    """Runs of `size` items with their positions: cut by position, whatever failed among them."""
    positions: list[int] = []
    batch: list = []
    for position, item in enumerate(items):
        positions.append(position)
        batch.append(item)
        if len(batch) == size:
            yield positions, batch
            positions, batch = [], []
    if batch:
        yield positions, batch
