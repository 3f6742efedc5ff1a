"""Corrections by people: override files below an output, written once each and found by picture.

Files are never changed: a later correction of a picture is a row of a later file.
"""

import io
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output import storing
from pipeline.output.label_files import open_parquet
from pipeline.storage import StorageOptions, join, list_files, write_new
from schemas.errors import OutputError
from schemas.fingerprint import fingerprint
from schemas.layout import OVERRIDES_FOLDER
from schemas.manifest import public_uri
from schemas.overrides import OVERRIDE_SCHEMA, Override
from schemas.vocabulary import Vocabulary

_ROWS_A_GROUP = 32  # read at a time, so that one picture's mask needs no whole file
_GROUPS_HELD = 16
_UNREADABLE = "Parquet that cannot be read"


class _Place(NamedTuple):
    time: datetime
    file: str
    group: int
    row: int


class Overrides:
    """The overrides of an output, by vocabulary and picture. In memory are names and places, some 300 bytes each.

    Args:
        output: an output; one without corrections has none.

    Raises:
        OutputError: an override file that cannot be read.
    """

    def __init__(self, output: str, storage: StorageOptions) -> None:
        self._folder, self._storage = join(output, OVERRIDES_FOLDER), storage
        self._places: dict[tuple[str, str], _Place] = {}
        self._earlier: dict[tuple[str, str], list[_Place]] = {}  # of pictures that were corrected more than once
        self._groups: OrderedDict[tuple[str, int], list[dict[str, Any]]] = OrderedDict()
        self._lock = Lock()
        for name in override_files(output, storage):
            self._index(name)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._places

    def digest(self) -> str:
        """Names the corrections: another one, another digest."""
        return fingerprint(sorted((*key, place.file, place.group, place.row) for key, place in self._places.items()))

    def get(self, vocabulary: str, image_id: str) -> Override | None:
        """The latest correction of a picture; None if there is none."""
        place = self._places.get((vocabulary, image_id))
        return None if place is None else self._read(place)

    def earlier(self, vocabulary: str, image_id: str) -> Iterator[Override]:
        """The corrections of a picture before its latest, the latest of them first."""
        yield from map(self._read, sorted(self._earlier.get((vocabulary, image_id), ()), reverse=True))

    def _index(self, name: str) -> None:
        uri = join(self._folder, name)
        columns = ["vocabulary", "image_id", "time"]
        with _opened(uri, self._storage) as parquet:
            for group in range(parquet.num_row_groups):
                for k, row in enumerate(parquet.read_row_group(group, columns=columns).to_pylist()):
                    key, place = (row["vocabulary"], row["image_id"]), _Place(row["time"], name, group, k)
                    if key in self._places:
                        older, place = sorted((self._places[key], place))
                        self._earlier.setdefault(key, []).append(older)
                    self._places[key] = place

    def _read(self, place: _Place) -> Override:
        return Override(**self._group(place.file, place.group)[place.row])

    def _group(self, name: str, group: int) -> list[dict[str, Any]]:
        with self._lock:
            if (name, group) not in self._groups:
                uri = join(self._folder, name)
                with _opened(uri, self._storage) as parquet:
                    self._groups[name, group] = parquet.read_row_group(group, use_threads=False).to_pylist()
                if len(self._groups) > _GROUPS_HELD:
                    self._groups.popitem(last=False)
            return self._groups[name, group]


def override_files(output: str, storage: StorageOptions) -> list[str]:
    """Names of the override files of an output, in their order; one without corrections has none."""
    folder = join(output, OVERRIDES_FOLDER)
    with storing(folder):
        return [file.name for file in list_files(folder, storage, ".parquet")]


def read_override_file(output: str, name: str, storage: StorageOptions, columns: list[str] | None = None) -> pa.Table:
    """One override file, or some columns of it.

    Raises:
        OutputError: it is damaged, or no override file.
    """
    with _opened(join(output, f"{OVERRIDES_FOLDER}/{name}"), storage) as parquet:
        return parquet.read(columns=columns, use_threads=False)


@contextmanager
def _opened(uri: str, storage: StorageOptions) -> Iterator[pq.ParquetFile]:
    with storing(uri), open_parquet(uri, storage, _damaged(uri, _UNREADABLE)) as parquet:
        if not parquet.schema_arrow.equals(OVERRIDE_SCHEMA):
            raise _damaged(uri, f"columns {', '.join(parquet.schema_arrow.names)}")
        yield parquet


def _damaged(uri: str, found: str) -> OutputError:
    return OutputError(
        f"{public_uri(uri)}: found {found}, expected a file of corrections; remove it and merge them again"
    )


def write_overrides(rows: Iterable[Override], output: str, storage: StorageOptions) -> str:
    """Write a new override file, whole or not at all; its name below the output.

    Args:
        rows: at least one; of one `time`.
    """
    rows = list(rows)
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in OVERRIDE_SCHEMA]
    data = override_bytes(pa.Table.from_arrays(columns, schema=OVERRIDE_SCHEMA))
    named = fingerprint([[row.image_id, row.vocabulary, row.author, row.source] for row in rows])[:8]
    name = f"{OVERRIDES_FOLDER}/{rows[0].time:%Y%m%dT%H%M%S%fZ}-{named}.parquet"
    uri = join(output, name)
    with storing(uri):
        write_new(uri, data, storage)
    return name


def override_bytes(table: pa.Table) -> bytes:
    """Rows of `OVERRIDE_SCHEMA` as the bytes of an override file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=_ROWS_A_GROUP, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def mask_classes(mask: np.ndarray, vocabulary: Vocabulary) -> tuple[list[dict[str, Any]], float]:
    """The `classes` of a mask without confidences, and its ignored fraction.

    Args:
        mask: (H, W) ids of the vocabulary and its `ignore_id`.
    """
    names = {each.id: each.name for each in vocabulary.classes}
    ids, counts = np.unique(mask, return_counts=True)
    empty = dict.fromkeys(("confidence_mean", "confidence_p10", "confidence_p50", "confidence_p90", "margin_mean"))
    classes = [
        {"class_id": class_id, "name": names[class_id], "pixels": pixels, "fraction": pixels / mask.size, **empty}
        for class_id, pixels in zip(ids.tolist(), counts.tolist(), strict=True)
        if class_id != vocabulary.ignore_id
    ]
    return classes, (mask.size - sum(each["pixels"] for each in classes)) / mask.size
