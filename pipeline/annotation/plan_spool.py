"""What a new listing makes of a plan: each picture found again at its place, changed, gone or new.

The plan's pictures are kept by name in a temporary database on disk, which SQLite removes by itself, so that ten
million of them need some hundred megabytes there and one byte each in memory. Rows that did not change are taken
from the plan; only changed and new ones are written to the database.
"""

import hashlib
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import accumulate

from pipeline.output.plan import Rows, Shard, cut_shards, read_plan_rows, vocabulary_of
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import OutputError
from schemas.job import ShardRef
from schemas.manifest import ManifestRow, public_uri, row_identity

N_NAMED = 3  # pictures named where they are counted

_COLUMNS = tuple(field.name for field in fields(ManifestRow))
_VALUES = ", ".join("?" * (1 + len(_COLUMNS)))
_CACHE_KIB = 65_536

# What became of a picture of the plan, as one byte.
_GONE, _KEPT, _REPLACED, _MOVED = range(4)


@dataclass
class NamedCount:
    """A number of pictures, and the image ids of the first of them."""

    n: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, image_id: str) -> None:
        self.n += 1
        if self.n <= N_NAMED:
            self.first.append(image_id)

    def __str__(self) -> str:
        names = ", ".join(map(repr, self.first))
        return f"{names}, ..." if self.n > len(self.first) else names


@dataclass
class PictureChanges:
    """How a listing differs from a plan. Changed are pictures of another place, size, etag, range or vocabulary."""

    new: NamedCount = field(default_factory=NamedCount)
    changed: NamedCount = field(default_factory=NamedCount)
    gone: NamedCount = field(default_factory=NamedCount)

    def __str__(self) -> str:
        said = [f"{found.n:,} {name} ({found})" for name, found in vars(self).items() if found.n]
        return ", ".join(said) or "the same ones, in another order"


class PlanSpool:
    """The pictures of a plan, compared with a new listing of the sources.

    Args:
        refs: the shards of the plan, in order.
        output: where the plan lies. Nothing is written there.
        vocabularies: names of the new job's vocabularies; the first is for rows that name none.
    """

    def __init__(
        self, refs: list[ShardRef], output: str, storage: StorageOptions, vocabularies: tuple[str, ...]
    ) -> None:
        self.changes = PictureChanges()
        self._refs, self._output, self._storage, self._vocabularies = refs, output, storage, vocabularies
        self._starts = list(accumulate((ref.n_rows for ref in refs), initial=0))  # number of the first row of each
        self._became = bytearray(self._starts[-1])
        self._database = sqlite3.connect("")  # on disk, without a name: gone with this process however it ends

    @classmethod
    @contextmanager
    def of(
        cls,
        refs: list[ShardRef],
        output: str,
        storage: StorageOptions,
        vocabularies: tuple[str, ...],
        listed: Iterable[ManifestRow],
    ) -> Iterator["PlanSpool"]:
        """The plan compared with the rows of a listing, for as long as the block lasts.

        Raises:
            OutputError: a plan that cannot be read, or a temporary folder without room.
            ManifestError: a row names a vocabulary that the job does not have; what else `listed` raises.
        """
        spool = cls(refs, output, storage, vocabularies)
        try:
            spool._read_plan()
            spool._compare(listed)
            yield spool
        except sqlite3.Error as error:
            raise OutputError(
                f"the pictures of {public_uri(output)} cannot be kept in the temporary folder ({error}); "
                "free some space there, or set TMPDIR to a folder that has it"
            ) from error
        finally:
            spool._database.close()

    @property
    def n_added(self) -> int:
        """Rows that go into new shards."""
        return self.changes.new.n + self._became.count(_MOVED)

    def shards(self, identify: Callable[[Rows, str], str], shard_size: int) -> Iterator[Shard]:
        """The plan's shards with what is still there of their rows, in order; then shards of the new rows.

        Args:
            identify: gives the shard id of rows under a vocabulary.
            shard_size: rows of a new shard.
        """
        start = 0
        for ref, rows in read_plan_rows(self._refs, self._output, self._storage):
            kept = [row for number, old in enumerate(rows, start) if (row := self._present(number, old)) is not None]
            if kept:
                yield Shard(identify(kept, ref.vocabulary), ref.vocabulary, kept)
            start += ref.n_rows
        added = ([row] for row in self._rows("added ORDER BY number"))
        yield from cut_shards(added, self._vocabularies, shard_size, identify)

    def _present(self, number: int, row: ManifestRow) -> ManifestRow | None:
        """A row of the plan as it is now; None if it is there no longer."""
        became = self._became[number]
        if became == _REPLACED:
            return next(self._rows("replaced WHERE number = ?", number))
        return row if became == _KEPT else None

    def _rows(self, which: str, *values: int) -> Iterator[ManifestRow]:
        found = self._database.execute(f"SELECT {', '.join(_COLUMNS)} FROM {which}", values)
        return (ManifestRow(*row) for row in found)

    def _read_plan(self) -> None:
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("CREATE TABLE plan (number INTEGER PRIMARY KEY, image_id, identity, rest)")
        for table in ("replaced", "added"):
            self._database.execute(f"CREATE TABLE {table} (number INTEGER PRIMARY KEY, {', '.join(_COLUMNS)})")
        with Progress(self._starts[-1]) as progress:
            progress.say(f"comparing with the pictures of {public_uri(self._output)}")
            self._database.executemany("INSERT INTO plan VALUES (?, ?, ?, ?)", self._planned(progress))
        # After the rows: SQLite sorts them once, where names in any order would be put in one by one.
        self._database.execute("CREATE INDEX by_name ON plan (image_id)")

    def _planned(self, progress: Progress) -> Iterator[tuple[int, str, bytes, bytes]]:
        number = 0
        for _, rows in read_plan_rows(self._refs, self._output, self._storage):
            for row in rows:
                yield number, row.image_id, *_digests(row)
                number += 1
            progress.update(number, 0, is_loading=False)

    def _compare(self, listed: Iterable[ManifestRow]) -> None:
        find = "SELECT number, identity, rest FROM plan WHERE image_id = ?"
        for row in listed:
            vocabulary = vocabulary_of(row, self._vocabularies)
            known = self._database.execute(find, (row.image_id,)).fetchone()
            if known is None:
                self.changes.new.add(row.image_id)
                self._keep("added", None, row)
            else:
                self._meet(row, vocabulary, *known)
        self.changes.gone = self._gone()

    def _meet(self, row: ManifestRow, vocabulary: str, number: int, identity: bytes, rest: bytes) -> None:
        """A picture of the plan is there: unchanged, changed, or under another vocabulary."""
        identity_now, rest_now = _digests(row)
        is_moved = self._refs[bisect_right(self._starts, number) - 1].vocabulary != vocabulary
        if is_moved or identity != identity_now:
            self.changes.changed.add(row.image_id)
        if is_moved:
            self._became[number] = _MOVED
            self._keep("added", None, row)
        elif (identity, rest) == (identity_now, rest_now):
            self._became[number] = _KEPT
        else:
            self._became[number] = _REPLACED
            self._keep("replaced", number, row)

    def _keep(self, table: str, number: int | None, row: ManifestRow) -> None:
        values = (number, *(getattr(row, column) for column in _COLUMNS))
        # Twice the same number: an image_id listed twice, which the listing refuses when it is at its end.
        self._database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({_VALUES})", values)

    def _gone(self) -> NamedCount:
        first: list[str] = []
        number = self._became.find(_GONE)
        while number >= 0 and len(first) < N_NAMED:
            first += self._database.execute("SELECT image_id FROM plan WHERE number = ?", (number,)).fetchone()
            number = self._became.find(_GONE, number + 1)
        return NamedCount(self._became.count(_GONE), first)


def _digests(row: ManifestRow) -> tuple[bytes, bytes]:
    """Of what makes it this picture, and of all else that stands in its row."""
    rest = (row.uri, row.width, row.height, row.mask_uri, row.vocabulary, row.split)
    return _digest(row_identity(row)), _digest(repr(rest))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
