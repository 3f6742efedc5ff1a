"""The folder or prefix that an export fills: one export's and no other's, and what of it is done.

`.escnet-export/export.json` says which export it is; beside it lies one file a shard that is done. These go when
the export is whole, and `done.json` stays.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from pipeline.output import storing
from pipeline.output.files import files_below
from pipeline.storage import StorageOptions, join, list_files, new_file, read_bytes, remove, write_new, write_replace
from pipeline.storage.local_files import is_partial_name
from schemas.errors import OutputError
from schemas.manifest import public_uri

_OWN = ".escnet-export"
_RECORD = f"{_OWN}/export.json"
_DONE = f"{_OWN}/done.json"
_PARTS = f"{_OWN}/parts"


class Folder:
    """An export's folder.

    Args:
        uri: where it lies, local or in object storage.
        record: what is exported, and how; another one is refused.

    Raises:
        OutputError: the folder holds something else, or an export of something else.
    """

    def __init__(self, uri: str, storage: StorageOptions, record: dict[str, Any]) -> None:
        self.uri, self._storage = uri, storage
        there = self._read(_RECORD)
        if there is None:
            self._refuse_foreign()
            with storing(uri):
                write_new(join(uri, _RECORD), _json(record), storage)
        elif there != record:
            differing = sorted(key for key in {*there, *record} if there.get(key) != record.get(key))
            raise OutputError(
                f"{public_uri(uri)}: holds another export, which differs in {', '.join(differing)}; "
                "choose an empty or new folder for --output"
            )

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; `name` is a safe path below the folder."""
        uri = join(self.uri, name)
        with storing(uri):
            write_replace(uri, data, self._storage)

    def write_parts(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file that may be too large for memory."""
        with self.new_file(name) as file:
            for part in parts:
                file.write(part)

    @contextmanager
    def new_file(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file piece by piece; it appears when the block ends."""
        uri = join(self.uri, name)
        with storing(uri), new_file(uri, self._storage, replace=True) as file:
            yield file

    def done(self) -> dict[str, Any] | None:
        """What the export said when it was finished; None if it is not."""
        return self._read(_DONE)

    def done_shards(self) -> set[str]:
        """Ids of the shards that are done."""
        with storing(self.uri):
            files = list_files(join(self.uri, _PARTS), self._storage, ".json")
        return {file.name.removesuffix(".json") for file in files}

    def finish_shard(self, shard_id: str, part: dict[str, Any]) -> None:
        """Say that all files of a shard are there."""
        self.write(f"{_PARTS}/{shard_id}.json", _json(part))

    def part(self, shard_id: str) -> dict[str, Any]:
        """What `finish_shard` was given."""
        found = self._read(f"{_PARTS}/{shard_id}.json")
        if found is None:
            raise OutputError(f"{public_uri(self.uri)}: part {shard_id} is gone; give the same command again")
        return found

    def finish(self, said: dict[str, Any], shard_ids: Iterable[str]) -> None:
        """Say that the export is whole."""
        self.write(_DONE, _json(said))
        with storing(self.uri):
            for shard_id in shard_ids:
                remove(join(self.uri, f"{_PARTS}/{shard_id}.json"), self._storage)

    def _read(self, name: str) -> dict[str, Any] | None:
        with storing(self.uri), suppress(FileNotFoundError, NotADirectoryError):
            try:
                return json.loads(read_bytes(join(self.uri, name), self._storage))
            except ValueError as error:
                raise OutputError(
                    f"{public_uri(join(self.uri, name))}: is damaged; export into a new folder"
                ) from error
        return None

    def _refuse_foreign(self) -> None:
        for file in self._others():
            raise OutputError(
                f"{public_uri(self.uri)}: holds something else ({file}) and no export; "
                "choose an empty or new folder for --output"
            )

    def _others(self) -> Iterator[str]:
        for file in files_below(self.uri, self._storage):
            name = file.name.rpartition("/")[2]
            if not is_partial_name(name) and name != ".DS_Store":
                yield file.name


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
