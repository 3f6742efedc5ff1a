"""Which picture of a shard ends the process that works on it: found by halving."""

from collections import Counter, deque
from collections.abc import Iterable

from schemas.errors import ErrorKind

N_DEATHS_ALONE = 3  # a process may die for other reasons: so often it must, with one picture alone, to be blamed on it


class Search:
    """Groups of a shard's pictures to be tried by themselves, one after another.

    Args:
        positions: of the suspects in their shard, of which one at least ended a process.
    """

    def __init__(self, positions: Iterable[int]) -> None:
        self.found: dict[int, ErrorKind] = {}
        self._groups = deque(_halves(tuple(positions)))
        self._deaths: Counter[int] = Counter()

    @property
    def group(self) -> tuple[int, ...] | None:
        """The positions to be tried next; None at the end."""
        return self._groups[0] if self._groups else None

    def survived(self) -> None:
        """The process lived through the group."""
        self._groups.popleft()

    def died(self, kind: ErrorKind, *, is_certain: bool = False) -> None:
        """The process ended with the group.

        Args:
            kind: what the picture's row will say if it is to blame.
            is_certain: no other cause is possible, so one death is enough.
        """
        group = self._groups.popleft()
        if len(group) > 1:
            self._groups.extendleft(reversed(_halves(group)))
            return
        self._deaths[group[0]] += 1
        if is_certain or self._deaths[group[0]] >= N_DEATHS_ALONE:
            self.found[group[0]] = kind
        else:
            self._groups.appendleft(group)


def _halves(group: tuple[int, ...]) -> list[tuple[int, ...]]:
    middle = len(group) // 2
    return [half for half in (group[:middle], group[middle:]) if half]
