"""The labels of an output as people use them: the shards that are done, vocabularies as used, corrections in place.

Evaluation, exports, reports, selections and training read through here. `escnet verify` and `relabel` do not: they want
the label files as they are.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from pipeline.output import FOOTER_THREADS, absolute_uri, done_shards, storing
from pipeline.output.files import existing_job
from pipeline.output.label_files import read_columns, read_metadata, read_rows, read_some_rows
from pipeline.output.overrides import Overrides
from pipeline.output.plan import read_plan, read_shard_rows
from pipeline.storage import StorageOptions, join
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError, OutputError
from schemas.job import JobRecord, ShardRef
from schemas.labels import LabelRow
from schemas.layout import LABELS_FOLDER, VOCABULARIES_FOLDER
from schemas.manifest import ManifestRow, public_uri
from schemas.overrides import corrected
from schemas.spelling import did_you_mean
from schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class LabelledOutput:
    """What `escnet annotate` wrote so far; any number of threads may read.

    Args:
        name: the output as it was given, without secrets, for people.
        uri: the same place for every process.
        vocabularies: those of the job, or the one that was asked for, as used, by name.
        planned: all shards of these, in manifest order.
        done: those of them whose label file is there, likewise.
        overrides: corrections by people. They are in the rows; columns are the model's.
    """

    name: str
    uri: str
    storage: StorageOptions
    job: JobRecord
    vocabularies: dict[str, Vocabulary]
    planned: list[ShardRef]
    done: list[ShardRef]
    overrides: Overrides

    @property
    def vocabulary(self) -> Vocabulary:
        """The only vocabulary: that of labels opened with `open_one_vocabulary`."""
        (only,) = self.vocabularies.values()
        return only

    @property
    def n_planned(self) -> int:
        """Pictures of the job under these vocabularies."""
        return sum(ref.n_rows for ref in self.planned)

    @property
    def n_done(self) -> int:
        """Pictures in the shards that are done."""
        return sum(ref.n_rows for ref in self.done)

    def columns(self, ref: ShardRef, columns: Sequence[str]) -> pa.Table:
        """Some columns of a done shard; of the others nothing is read."""
        uri = self._label_file(ref)
        with storing(uri):
            return read_columns(uri, self.storage, columns)

    def row_bytes(self, ref: ShardRef) -> int:
        """How much of the label file of a done shard is rows; the rest is its footer."""
        uri = self._label_file(ref)
        with storing(uri):
            found = read_metadata(uri, self.storage)
        groups = [found.row_group(k) for k in range(found.num_row_groups)]
        return sum(group.column(k).total_compressed_size for group in groups for k in range(group.num_columns))

    def each_columns(self, refs: Sequence[ShardRef], columns: Sequence[str]) -> Iterator[tuple[ShardRef, pa.Table]]:
        """Some columns of each of the shards, in order; a bounded number is read ahead, side by side."""
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            for start in range(0, len(refs), FOOTER_THREADS):
                some = refs[start : start + FOOTER_THREADS]
                yield from zip(some, pool.map(lambda ref: self.columns(ref, columns), some), strict=True)

    def rows(self, ref: ShardRef, columns: Sequence[str] | None = None, *, as_made: bool = False) -> list[LabelRow]:
        """The label rows of a done shard in manifest order.

        Args:
            columns: see `pipeline.output.label_files.read_rows`; corrected rows have all of theirs.
            as_made: as the model made them, without corrections.
        """
        uri = self._label_file(ref)
        with storing(uri):
            found = read_rows(uri, self.storage, columns)
            return found if as_made else list(map(self.as_corrected, found))

    def some_rows(self, ref: ShardRef, positions: Collection[int]) -> Iterator[tuple[int, LabelRow]]:
        """The label rows at some positions of a done shard, with their position; few are held at a time."""
        uri = self._label_file(ref)
        with storing(uri):
            found = read_some_rows(uri, self.storage, positions)
            yield from ((position, self.as_corrected(row)) for position, row in found)

    def stream(self, columns: Sequence[str] | None = None, *, as_made: bool = False) -> Iterator[LabelRow]:
        """All rows as `rows` gives them, shard after shard; the next one is read while one is used."""
        with ThreadPoolExecutor(1) as pool:
            waiting = None
            for ref in self.done:
                coming = pool.submit(self.rows, ref, columns, as_made=as_made)
                if waiting is not None:
                    yield from waiting.result()
                waiting = coming
            if waiting is not None:
                yield from waiting.result()

    def pictures(self, ref: ShardRef) -> list[ManifestRow]:
        """Where the pictures of a shard lie, row for row: what `pipeline.picture.fetch` takes, signed addresses too."""
        with storing(self.uri):
            return read_shard_rows(ref, self.uri, self.storage)

    def is_corrected(self, ref: ShardRef, image_id: str) -> bool:
        """Has a person put a mask in place of the model's?"""
        return (ref.vocabulary, image_id) in self.overrides

    def as_corrected(self, row: LabelRow) -> LabelRow:
        """A row as the model made it, with the latest correction in place if there is one."""
        override = self.overrides.get(row.vocabulary, row.image_id) if len(self.overrides) else None
        return row if override is None else corrected(row, override)

    def _label_file(self, ref: ShardRef) -> str:
        return join(self.uri, f"{LABELS_FOLDER}/{ref.shard_id}.parquet")


def open_labelled(output: str, storage: StorageOptions) -> LabelledOutput:
    """Open an output in which something is labelled.

    Raises:
        OutputError: there is no output, nothing is labelled yet, or a file of it was changed or cannot be read.
    """
    job = existing_job(output, storage)
    return _open(output, job, tuple(job.vocabularies), storage)


def open_one_vocabulary(output: str, storage: StorageOptions, vocabulary: str | None = None) -> LabelledOutput:
    """Open what an output holds so far of one vocabulary.

    Args:
        output: what `escnet annotate` wrote, local or in object storage.
        vocabulary: name of one of the output's; may be left out if it has one.

    Raises:
        InputError: no output, no shard done, several vocabularies and none chosen, or one that is not there.
    """
    job = existing_job(output, storage)
    return _open(output, job, (_vocabulary_name(job, vocabulary, public_uri(output)),), storage)


def _open(output: str, job: JobRecord, names: Collection[str], storage: StorageOptions) -> LabelledOutput:
    uri, given = absolute_uri(output, storage), public_uri(output)
    vocabularies = vocabularies_as_used(job, uri, storage, names)
    planned = [ref for ref in read_plan(job.manifest.files, uri, storage) if ref.vocabulary in vocabularies]
    there = done_shards(uri, storage)
    done = [ref for ref in planned if ref.shard_id in there]
    if not done:
        raise OutputError(f"{given}: none of its {len(planned):,} shards is labelled yet; run `escnet annotate` first")
    return LabelledOutput(given, uri, storage, job, vocabularies, planned, done, Overrides(uri, storage))


def _vocabulary_name(job: JobRecord, asked: str | None, given: str) -> str:
    names = sorted(job.vocabularies)
    if asked is None and len(names) > 1:
        raise InputError(
            f"{given}: has labels of {len(names)} vocabularies; choose one with --vocabulary: " + ", ".join(names)
        )
    if asked is not None and asked not in names:
        raise InputError(
            f"{given}: has no labels of vocabulary {asked!r}{did_you_mean(asked, names)}; found {', '.join(names)}"
        )
    return asked or names[0]


def vocabularies_as_used(
    job: JobRecord, output: str, storage: StorageOptions, names: Collection[str] | None = None
) -> dict[str, Vocabulary]:
    """The vocabularies of an output by name, in the job's order: all, or those that are named.

    Raises:
        VocabularyError: one cannot be read. OutputError: one was changed since.
    """
    found: dict[str, Vocabulary] = {}
    for name, fingerprint in job.vocabularies.items():
        if names is None or name in names:
            uri = join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml")
            found[name] = load_vocabulary(uri, storage)
            if found[name].fingerprint != fingerprint:
                raise OutputError(f"{public_uri(uri)}: was changed after the labels were made; put the original back")
    return found
