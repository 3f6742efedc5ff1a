"""The plan of a job: manifest rows cut into shards, written below the output before any work starts.

`manifest/part-*.parquet` holds one row group a shard, so that a worker reads its own rows and no others.
The files' footers name their shards, so that the driver knows a job of ten million rows from a few
hundred small reads.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain, groupby
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output import storing
from pipeline.storage import StorageOptions, join, list_files, open_file, remove, write_replace
from schemas.errors import ManifestError, OutputError
from schemas.fingerprint import fingerprint
from schemas.job import ManifestRecord, ShardRef
from schemas.layout import MANIFEST_FOLDER
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow, public_uri
from schemas.manifest_table import ManifestTable

SHARDS_KEY = b"escnet.shards"
MAX_ROWS_PER_FILE = 65_536
MAX_BYTES_PER_FILE = 256 * 2**20  # matters where rows carry the pictures themselves

# In row groups of a few hundred rows, compressing other columns, and dictionaries, cost more than they save.
_COMPRESSION = {"image_id": "zstd", "uri": "zstd", "etag": "zstd", "mask_uri": "zstd"}
_NOT_AS_WRITTEN = (pa.ArrowException, LookupError)  # no Parquet; a row group, a row or a column too few

_COLUMNS = tuple(field.name for field in fields(ManifestRow))

Rows = Sequence[ManifestRow]


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of manifest rows: the unit of work, of retry and of publication."""

    shard_id: str
    vocabulary: str
    rows: Rows


def cut_shards(
    batches: Iterable[Rows],
    vocabularies: tuple[str, ...],
    shard_size: int,
    identify: Callable[[Rows, str], str],
) -> Iterator[Shard]:
    """Cut rows into shards of one vocabulary each, in manifest order, holding one shard a vocabulary in memory.

    Args:
        batches: the rows, some at a time; how they are batched is of no account.
        vocabularies: names of the job's vocabularies; the first is for rows that name none.
        identify: gives the shard id of rows under a vocabulary.

    Raises:
        ManifestError: a row names a vocabulary that the job does not have.
    """
    waiting: dict[str, list[Rows]] = {name: [] for name in vocabularies}
    n_waiting = dict.fromkeys(vocabularies, 0)
    for name, run in chain.from_iterable(_runs(batch, vocabularies) for batch in batches):
        while run:
            part, run = run[: shard_size - n_waiting[name]], run[shard_size - n_waiting[name] :]
            waiting[name].append(part)
            n_waiting[name] += len(part)
            if n_waiting[name] == shard_size:
                full, waiting[name], n_waiting[name] = _joined(waiting[name]), [], 0
                yield Shard(identify(full, name), name, full)
    for name, parts in waiting.items():
        if parts:
            rest = _joined(parts)
            yield Shard(identify(rest, name), name, rest)


def _runs(batch: Rows, vocabularies: tuple[str, ...]) -> Iterator[tuple[str, Rows]]:
    """The rows of a batch, in runs of one vocabulary."""
    if isinstance(batch, ManifestTable) and batch.batch.column("vocabulary").null_count == len(batch):
        yield vocabularies[0], batch
    else:
        for name, run in groupby(batch, lambda row: vocabulary_of(row, vocabularies)):
            yield name, list(run)


def _joined(parts: list[Rows]) -> Rows:
    tables = [part for part in parts if isinstance(part, ManifestTable)]
    return ManifestTable.join(tables) if len(tables) == len(parts) else list(chain.from_iterable(parts))


def vocabulary_of(row: ManifestRow, vocabularies: tuple[str, ...]) -> str:
    """The name of the vocabulary that a row is labelled with: its own, or the job's first.

    Raises:
        ManifestError: the job does not have it.
    """
    name = row.vocabulary or vocabularies[0]
    if name not in vocabularies:
        raise ManifestError(
            f"image {row.image_id!r} asks for vocabulary {name!r}, but the job has {', '.join(vocabularies)}; "
            f"add --vocabulary {name} or correct the manifest's vocabulary column"
        )
    return name


class PlanDigest:
    """Counts shards and rows as they pass and hashes the shard ids in their order."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.n_shards = 0
        self.has_signed = False  # some address carries a signature, which expires
        self._hash = hashlib.sha256()

    def watch(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        for shard in shards:
            self.n_rows += len(shard.rows)
            self.n_shards += 1
            self.has_signed = self.has_signed or _has_signed(shard.rows)
            self._hash.update(f"{shard.shard_id}\n".encode())
            yield shard

    def record(self, files: tuple[str, ...], shard_size: int) -> ManifestRecord:
        return ManifestRecord(
            files=files,
            n_rows=self.n_rows,
            n_shards=self.n_shards,
            shard_size=shard_size,
            digest=self._hash.hexdigest()[:32],
        )


def _has_signed(rows: Rows) -> bool:
    return not isinstance(rows, ManifestTable) and any(row.uri != public_uri(row.uri) for row in rows)


def write_plan(shards: Iterable[Shard], output: str, options: StorageOptions) -> tuple[str, ...]:
    """Write the manifest files of a plan; the names of the files, in order."""
    names: list[str] = []
    part = _ManifestPart()
    for shard in shards:
        part.add(shard)
        if part.is_full:
            names.append(_publish(part, len(names), output, options))
            part = _ManifestPart()
    if part.shards:
        names.append(_publish(part, len(names), output, options))
    return tuple(names)


def sweep_parts(keep: Iterable[str], output: str, options: StorageOptions) -> None:
    """Remove manifest files that an interrupted plan left behind; `keep` are those of the job."""
    folder = join(output, MANIFEST_FOLDER)
    for file in list_files(folder, options, ".parquet"):
        if file.name not in set(keep):
            remove(join(folder, file.name), options)


def read_plan(files: Iterable[str], output: str, options: StorageOptions) -> list[ShardRef]:
    """All shards of a planned job, in order, read from the footers of its manifest files."""
    found: list[ShardRef] = []
    for name in files:
        uri = join(output, f"{MANIFEST_FOLDER}/{name}")
        with storing(uri), open_file(uri, options) as file:
            shards = json.loads(_footer(file).get(SHARDS_KEY, b"[]"))
        if not shards:
            raise OutputError(f"{public_uri(uri)}: names no shards; the output is damaged, label into a new one")
        found += [ShardRef(i, vocabulary, name, k, n) for k, (i, vocabulary, n) in enumerate(shards)]
    return found


def _footer(file: IO[bytes]) -> dict[bytes, bytes]:
    """The key-value pairs of a Parquet file; none if it is broken."""
    try:
        return pq.read_metadata(file).metadata or {}
    except pa.ArrowInvalid:
        return {}


def read_shard_rows(ref: ShardRef, output: str, options: StorageOptions) -> list[ManifestRow]:
    """The manifest rows of one shard, in manifest order.

    Raises:
        OutputError: the manifest file is damaged.
    """
    uri = join(output, f"{MANIFEST_FOLDER}/{ref.manifest_file}")
    with open_file(uri, options) as file, _as_written(uri):
        return _rows_of_group(pq.ParquetFile(file), ref)


def read_plan_rows(
    refs: Iterable[ShardRef], output: str, options: StorageOptions
) -> Iterator[tuple[ShardRef, list[ManifestRow]]]:
    """The shards of a plan with their manifest rows, in order; each manifest file is opened once.

    Raises:
        OutputError: a manifest file that is gone or damaged.
    """
    for name, of_file in groupby(refs, key=lambda ref: ref.manifest_file):
        uri = join(output, f"{MANIFEST_FOLDER}/{name}")
        with storing(uri), open_file(uri, options) as file, _as_written(uri):
            parquet = pq.ParquetFile(file)
            for ref in of_file:
                yield ref, _rows_of_group(parquet, ref)


def find_row(
    refs: Iterable[ShardRef], image_id: str, output: str, storage: StorageOptions
) -> tuple[ShardRef, int] | None:
    """The shard of a picture, and its position in it; None if the plan has no such picture.

    Parquet's own statistics say of most shards that they do not have it.

    Raises:
        OutputError: a manifest file that is gone or damaged.
    """
    for name, of_file in groupby(refs, key=lambda ref: ref.manifest_file):
        uri = join(output, f"{MANIFEST_FOLDER}/{name}")
        with storing(uri), open_file(uri, storage) as file, _as_written(uri):
            parquet = pq.ParquetFile(file)
            column = parquet.schema_arrow.names.index("image_id")
            for ref in of_file:
                known = parquet.metadata.row_group(ref.row_group).column(column).statistics
                if known is not None and known.has_min_max and not known.min <= image_id <= known.max:
                    continue
                names = parquet.read_row_group(ref.row_group, columns=["image_id"])["image_id"].to_pylist()
                if image_id in names:
                    return ref, names.index(image_id)
    return None


@contextmanager
def _as_written(uri: str) -> Iterator[None]:
    try:
        yield
    except _NOT_AS_WRITTEN as error:
        raise OutputError(
            f"{public_uri(uri)}: holds other rows than its footer names; the output is damaged, label into a new one"
        ) from error


def _rows_of_group(parquet: pq.ParquetFile, ref: ShardRef) -> list[ManifestRow]:
    table = parquet.read_row_group(ref.row_group)
    if table.num_rows != ref.n_rows:
        raise IndexError(f"{table.num_rows} rows, expected {ref.n_rows}")
    return [ManifestRow(**row) for row in table.select(list(_COLUMNS)).to_pylist()]


class _ManifestPart:
    """A manifest file in the making, in memory: one row group a shard."""

    def __init__(self) -> None:
        self.shards: list[tuple[str, str, int]] = []
        self._buffer = io.BytesIO()
        self._writer = pq.ParquetWriter(
            self._buffer,
            MANIFEST_SCHEMA,
            compression=_COMPRESSION,
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
            store_schema=False,
        )
        self._n_rows = 0

    @property
    def is_full(self) -> bool:
        return self._n_rows >= MAX_ROWS_PER_FILE or self._buffer.tell() >= MAX_BYTES_PER_FILE

    def add(self, shard: Shard) -> None:
        if isinstance(shard.rows, ManifestTable):
            batch = shard.rows.batch
        else:
            columns = {name: [getattr(row, name) for row in shard.rows] for name in _COLUMNS}
            batch = pa.RecordBatch.from_pydict(columns, schema=MANIFEST_SCHEMA)
        self._writer.write_batch(batch, row_group_size=len(shard.rows))
        self.shards.append((shard.shard_id, shard.vocabulary, len(shard.rows)))
        self._n_rows += len(shard.rows)

    def finish(self) -> bytes:
        self._writer.add_key_value_metadata({SHARDS_KEY: json.dumps(self.shards).encode()})
        self._writer.close()
        return self._buffer.getvalue()


def _publish(part: _ManifestPart, number: int, output: str, options: StorageOptions) -> str:
    # Named by what it holds: two drivers that begin different jobs at one moment overwrite nothing of each other.
    name = f"part-{number:05d}-{fingerprint(part.shards)[:8]}.parquet"
    with storing(output):
        write_replace(join(output, f"{MANIFEST_FOLDER}/{name}"), part.finish(), options)
    return name
