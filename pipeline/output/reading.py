"""The labels of an output as people use them: one vocabulary, the shards that are done, corrections in place.

Evaluation, exports, reports and training read through here. `escnet verify` and `relabel` do not: they want the
label files as they are.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.output import absolute_uri, done_shards, storing
from pipeline.output.files import existing_job
from pipeline.output.label_files import read_rows
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
class Labels:
    """What an output holds so far of one vocabulary; any number of threads may read.

    Args:
        name: the output as it was given, without secrets, for people.
        output: where it lies, for every process of this machine.
        vocabulary: as the labels were made with.
        n_planned: pictures of the job under this vocabulary.
        shards: those that are done, in the order of the plan.
        overrides: corrections by people.
    """

    name: str
    output: str
    storage: StorageOptions
    job: JobRecord
    vocabulary: Vocabulary
    n_planned: int
    shards: tuple[ShardRef, ...]
    overrides: Overrides

    @property
    def n_done(self) -> int:
        """Pictures in the shards that are done."""
        return sum(shard.n_rows for shard in self.shards)

    def rows(self, shard: ShardRef, columns: Sequence[str] | None = None) -> list[LabelRow]:
        """The rows of a shard in manifest order, corrections applied.

        Args:
            columns: see `pipeline.output.label_files.read_rows`; corrected rows have all of theirs.

        Raises:
            OutputError: a label file or correction that cannot be read.
        """
        uri = join(self.output, f"{LABELS_FOLDER}/{shard.shard_id}.parquet")
        with storing(uri):
            rows = read_rows(uri, self.storage, columns)
        if not len(self.overrides):
            return rows
        return [self._corrected(row) for row in rows]

    def _corrected(self, row: LabelRow) -> LabelRow:
        override = self.overrides.get(row.vocabulary, row.image_id)
        return row if override is None else corrected(row, override)

    def stream(self, columns: Sequence[str] | None = None) -> Iterator[LabelRow]:
        """All rows, shard after shard; the next one is read while one is used."""
        with ThreadPoolExecutor(1) as pool:
            waiting = None
            for shard in self.shards:
                coming = pool.submit(self.rows, shard, columns)
                if waiting is not None:
                    yield from waiting.result()
                waiting = coming
            if waiting is not None:
                yield from waiting.result()

    def pictures(self, shard: ShardRef) -> list[ManifestRow]:
        """Where the pictures of a shard lie, row for row: what `pipeline.picture.fetch` takes, signed addresses too."""
        with storing(self.output):
            return read_shard_rows(shard, self.output, self.storage)


def open_output(output: str, storage: StorageOptions, vocabulary: str | None = None) -> Labels:
    """The labels that an output has so far.

    Args:
        output: what `escnet annotate` wrote, local or in object storage.
        vocabulary: name of one of the output's; may be left out if it has one.

    Raises:
        InputError: no output, no shard done, several vocabularies and none chosen, or one that is not there.
    """
    job, given = existing_job(output, storage), public_uri(output)
    output = absolute_uri(output, storage)
    words = _load_words(job, _vocabulary_name(job, vocabulary, given), output, storage)
    planned = [each for each in read_plan(job.manifest.files, output, storage) if each.vocabulary == words.name]
    done = done_shards(output, storage)
    shards = tuple(each for each in planned if each.shard_id in done)
    if not shards:
        raise OutputError(f"{given}: none of its {len(planned)} shards is labelled yet; run `escnet annotate` first")
    n_planned = sum(each.n_rows for each in planned)
    return Labels(given, output, storage, job, words, n_planned, shards, Overrides(output, storage))


def _load_words(job: JobRecord, name: str, output: str, storage: StorageOptions) -> Vocabulary:
    uri = join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml")
    words = load_vocabulary(uri, storage)
    if words.fingerprint != job.vocabularies[name]:
        raise OutputError(f"{public_uri(uri)}: was changed after the labels were made; put the original back")
    return words


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
