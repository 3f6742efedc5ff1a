"""Where the pictures of an output lie in it, by name: in a temporary database on disk, so that memory stays small."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.output.labelled import LabelledOutput
from pipeline.progress import Progress
from schemas.errors import OutputError

Place = tuple[int, int]  # number of the done shard, and position in it


class Places:
    """The done pictures of an output."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def of(cls, labels: LabelledOutput) -> Iterator["Places"]:
        """For as long as the block lasts.

        Raises:
            OutputError: labels that cannot be read, or a temporary folder without room.
        """
        database = sqlite3.connect("")  # on disk, without a name: gone with this process however it ends
        try:
            database.execute("CREATE TABLE places (image_id PRIMARY KEY, shard, position) WITHOUT ROWID")
            with Progress(sum(ref.n_rows for ref in labels.done)) as progress:
                progress.say(f"reading the names of the pictures in {labels.name}")
                database.executemany("INSERT INTO places VALUES (?, ?, ?)", _names(labels, progress))
            yield cls(database)
        except sqlite3.Error as error:
            raise OutputError(
                f"the names of the pictures in {labels.name} cannot be kept in the temporary folder ({error}); "
                "free some space there, or set TMPDIR to a folder that has it"
            ) from error
        finally:
            database.close()

    def find(self, image_ids: Sequence[str]) -> list[Place | None]:
        """The place of each; None if there is no such picture."""
        query = "SELECT shard, position FROM places WHERE image_id = ?"
        return [self._database.execute(query, (image_id,)).fetchone() for image_id in image_ids]


def _names(labels: LabelledOutput, progress: Progress) -> Iterator[tuple[str, int, int]]:
    n_done = 0
    for shard, (_, table) in enumerate(labels.each_columns(labels.done, ("image_id",))):
        yield from ((image_id, shard, k) for k, image_id in enumerate(table["image_id"].to_pylist()))
        n_done += table.num_rows
        progress.update(n_done, 0, is_loading=False)
