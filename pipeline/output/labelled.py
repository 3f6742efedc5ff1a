"""An output opened to look at its labels: its job, its vocabularies as used, and which shards are done."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from pipeline.output import FOOTER_THREADS, absolute_uri, done_shards, storing
from pipeline.output.files import existing_job
from pipeline.output.label_files import read_columns, read_rows, read_some_rows
from pipeline.output.overrides import Overrides
from pipeline.output.plan import read_plan
from pipeline.storage import StorageOptions, join
from pipeline.vocabularies import load_vocabulary
from schemas.errors import OutputError
from schemas.job import JobRecord, ShardRef
from schemas.labels import LabelRow
from schemas.layout import LABELS_FOLDER, VOCABULARIES_FOLDER
from schemas.manifest import public_uri
from schemas.overrides import corrected
from schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class LabelledOutput:
    """What `escnet annotate` wrote so far.

    Args:
        name: the output as it was given, without secrets, for people.
        uri: the same place for every process.
        vocabularies: those of the job, as used, by name.
        planned: all shards, in manifest order.
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

    def columns(self, ref: ShardRef, columns: Sequence[str]) -> pa.Table:
        """Some columns of a done shard; of the others nothing is read."""
        uri = self._label_file(ref)
        with storing(uri):
            return read_columns(uri, self.storage, columns)

    def each_columns(self, refs: Sequence[ShardRef], columns: Sequence[str]) -> Iterator[tuple[ShardRef, pa.Table]]:
        """Some columns of each of the shards, in order; a bounded number is read ahead, side by side."""
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            for start in range(0, len(refs), FOOTER_THREADS):
                some = refs[start : start + FOOTER_THREADS]
                yield from zip(some, pool.map(lambda ref: self.columns(ref, columns), some), strict=True)

    def rows(self, ref: ShardRef, positions: Collection[int] | None = None) -> Iterator[tuple[int, LabelRow]]:
        """The label rows of a done shard, or those at some positions, with their position; few are held at a time."""
        uri = self._label_file(ref)
        with storing(uri):
            found = read_some_rows(uri, self.storage, range(ref.n_rows) if positions is None else positions)
            yield from ((position, self._corrected(row)) for position, row in found)

    def all_rows(self, ref: ShardRef, columns: Sequence[str]) -> list[LabelRow]:
        """All rows of a done shard, with these of their optional columns; corrected rows have all of theirs."""
        uri = self._label_file(ref)
        with storing(uri):
            return [self._corrected(row) for row in read_rows(uri, self.storage, columns)]

    def is_corrected(self, ref: ShardRef, image_id: str) -> bool:
        """Has a person put a mask in place of the model's?"""
        return (ref.vocabulary, image_id) in self.overrides

    def _corrected(self, row: LabelRow) -> LabelRow:
        override = self.overrides.get(row.vocabulary, row.image_id) if len(self.overrides) else None
        return row if override is None else corrected(row, override)

    def _label_file(self, ref: ShardRef) -> str:
        return join(self.uri, f"{LABELS_FOLDER}/{ref.shard_id}.parquet")


def open_labelled(output: str, storage: StorageOptions) -> LabelledOutput:
    """Open an output in which something is labelled.

    Raises:
        OutputError: there is no output, nothing is labelled yet, or a file of it was changed or cannot be read.
    """
    uri = absolute_uri(output, storage)
    job = existing_job(uri, storage)
    vocabularies = vocabularies_as_used(job, uri, storage)
    planned = read_plan(job.manifest.files, uri, storage)
    names = done_shards(uri, storage)
    done = [ref for ref in planned if ref.shard_id in names]
    if not done:
        raise OutputError(
            f"{public_uri(uri)}: none of its {len(planned):,} shards is labelled yet; run `escnet annotate` first"
        )
    return LabelledOutput(public_uri(output), uri, storage, job, vocabularies, planned, done, Overrides(uri, storage))


def vocabularies_as_used(job: JobRecord, output: str, storage: StorageOptions) -> dict[str, Vocabulary]:
    """The vocabularies of an output by name, in the job's order.

    Raises:
        VocabularyError: one cannot be read. OutputError: one was changed since.
    """
    found: dict[str, Vocabulary] = {}
    for name, fingerprint in job.vocabularies.items():
        uri = join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml")
        found[name] = load_vocabulary(uri, storage)
        if found[name].fingerprint != fingerprint:
            raise OutputError(f"{public_uri(uri)}: was changed after the labels were made; put the original back")
    return found
