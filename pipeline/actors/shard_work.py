"""A shard on its way, as the driver sees it: how often its process died, and which pictures are to blame."""

from dataclasses import dataclass, field

from pipeline.actors.orders import ShardOrder, Withholding
from pipeline.actors.suspects import Search
from schemas.errors import ErrorKind, PictureError
from schemas.job import ShardRef

MAX_FRUITLESS = 3  # searches that find no picture to blame, after which the machine is to blame
MAX_POISON = 32  # pictures of one shard that end processes: with more of them it is the machine as well

# Nothing of time, host or run: rows say the same whenever a picture does the same.
_MESSAGES: dict[ErrorKind, str] = {
    "killed": "the process ended every time it worked on this picture alone",
    "timeout": "the process did not come back from this picture in the time allowed",
}


@dataclass(eq=False)
class ShardWork:
    """One shard. A process that dies with it is nobody's fault at first; from then on it has a process to itself.

    If that dies as well, the shard is halved until the pictures that did it are found. They become failed rows.
    """

    ref: ShardRef
    poison: dict[int, ErrorKind] = field(default_factory=dict)  # by position in the shard
    search: Search | None = None
    n_deaths: int = 0
    n_fruitless: int = 0  # searches that found nothing

    @property
    def is_suspect(self) -> bool:
        """Is it to have a process to itself?"""
        return self.n_deaths > 0

    @property
    def is_hopeless(self) -> bool:
        """Processes keep dying with it, and none of its pictures does that alone, or too many do."""
        return self.n_fruitless >= MAX_FRUITLESS or len(self.poison) > MAX_POISON

    def order(self, withhold: Withholding = "none") -> ShardOrder:
        poison = {i: PictureError("segment", kind, _MESSAGES[kind]) for i, kind in self.poison.items()}
        return ShardOrder(self.ref, withhold, poison)

    def survived(self) -> None:
        """The process lived through the group that the search is at."""
        if self.search is not None:
            self.search.survived()
            self._end_search()

    def died(self, kind: ErrorKind, *, was_alone: bool, stuck: tuple[int, ...] = ()) -> None:
        """The process ended.

        Args:
            was_alone: it worked on nothing else.
            stuck: positions of the pictures that the model did not come back from, if that is why it was ended.
        """
        self.n_deaths += 1
        if self.search is not None:
            self.search.died(kind, is_certain=bool(stuck))
            self._end_search()
        elif len(stuck) == 1:
            self.poison[stuck[0]] = kind
        elif stuck:
            self.search = Search(stuck)
        elif was_alone and self.n_deaths > 1:
            self.search = Search(i for i in range(self.ref.n_rows) if i not in self.poison)
            self._end_search()

    def _end_search(self) -> None:
        if self.search is not None and self.search.group is None:
            self.poison.update(self.search.found)
            self.n_fruitless += not self.search.found
            self.search = None
