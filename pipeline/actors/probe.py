"""Failures that have one cause, not a hundred: stop before they are all written down.

Until one picture is labelled, shards in which every picture failed are withheld from the output. If the
shards that hold the run's first hundred pictures all come back so, the run stops; as soon as one
picture succeeds, what was withheld is done again and published. An output that has labels already has
shown that its model and pictures are good: then only pictures that storage does not give are a reason,
since credentials run out.

They run out later as well. Shards in which storage refuses pictures are withheld if it refuses by then also
what it gave before (see `pipeline.actors.withholding`). A hundred pictures of such shards in a row stop the run;
a shard that is published in between shows that it passed, and they are done again.
"""

from collections.abc import Iterable

from pipeline.actors.orders import Withholding
from schemas.errors import JobFailedError
from schemas.job import ShardRef

STOP_AFTER_FAILURES = 100


class Probe:
    """Watches the first shards of a job.

    Args:
        shards: what is to be done, in order, and how many pictures of it.
        has_labels: some picture of the output is labelled already.
    """

    def __init__(self, shards: Iterable[tuple[ShardRef, int]], *, has_labels: bool) -> None:
        self._first: set[str] = set()
        n_rows = 0
        for ref, n in shards:
            if n_rows >= STOP_AFTER_FAILURES:
                break
            self._first.add(ref.shard_id)
            n_rows += n
        self.passed = n_rows < STOP_AFTER_FAILURES
        self._has_labels = has_labels
        self._withheld: list[ShardRef] = []
        self._released: list[ShardRef] = []
        self._last_error = ""

    @property
    def withholds(self) -> Withholding:
        """Which shards are not to be published for now."""
        if self.passed:
            return "refused"
        return "unreadable" if self._has_labels else "failed"

    def withhold(self, ref: ShardRef, last_error: str, *, is_refused: bool) -> None:
        """This shard was not published: every picture failed, or storage refuses by now what it gave before."""
        if is_refused and not self.passed:
            self.pass_()
        if self.passed and not is_refused:  # it was handed out before the first picture was labelled
            self._released.append(ref)
            return
        self._withheld.append(ref)
        self._last_error = last_error

    def pass_(self) -> None:
        """A picture was labelled, or at least a shard was published."""
        self.passed = True
        self._released += self._withheld
        self._withheld = []

    def take_released(self) -> list[ShardRef]:
        """The shards that may now be done again and published, once."""
        released, self._released = self._released, []
        return released

    def check(self) -> None:
        """Raises:
        JobFailedError: all of the first shards were withheld, and nothing at all was labelled; or a hundred pictures
            in a row are of shards that were withheld since credentials ran out.
        """
        if self.passed and sum(ref.n_rows for ref in self._withheld) >= STOP_AFTER_FAILURES:
            self.end()
        if not self.passed and self._first <= {ref.shard_id for ref in self._withheld}:
            raise JobFailedError(
                f"the first {STOP_AFTER_FAILURES} pictures all failed, the last one with {self._last_error}; "
                "nothing was written of them: mend the cause, then give the same command again"
            )

    def end(self) -> None:
        """Raises:
        JobFailedError: nothing else is left to do than what was withheld.
        """
        if self._withheld:
            raise JobFailedError(
                f"storage refuses by now what it gave before, the last one with {self._last_error}; none of that was "
                "written down: credentials may have run out; renew them, then give the same command again"
            )
