"""What a whole output looks like, from footers and statistics columns: masks are not read.

The footers of all label files are read, so counts are exact whatever the size. Confidence, and which pictures to show,
come from the statistics columns of at most `n_shards` label files spread evenly over the output, and of those few that
the footers name for a rare class or a kind of failure.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.output.class_table import ClassTable
from pipeline.output.footers import each_totals
from pipeline.output.label_files import merge_totals
from pipeline.output.labelled import LabelledOutput
from pipeline.output.run_log import unknown_words
from pipeline.picture.decide import sorted_distractors
from pipeline.progress import Progress
from pipeline.report.candidates import Candidates, ClassKey
from schemas.job import ShardRef
from schemas.labels import FAILED, LABELLED, ShardTotals
from schemas.quantities import counted
from schemas.vocabulary import Distractor, Vocabulary

N_BINS = 100  # of confidence; the threshold moves in the same steps
EXAMPLES_A_FAILURE = 5
SHARDS_A_CLASS = 2  # looked into for a picture of it, where the sample has none

_COLUMNS = (
    "image_id", "status", "error_stage", "error_kind", "error_message", "classes", "confidence_mean",
    "ignored_fraction",
)  # fmt: skip
# A picture's pixels of a class are known by three percentiles of their confidence, each of which stands for its part.
_PERCENTILES = (("confidence_p10", 0.3), ("confidence_p50", 0.4), ("confidence_p90", 0.3))


@dataclass
class WordSurvey:
    """What is known of the labels of one vocabulary.

    Args:
        totals: of the footers.
        histogram: (K, N_BINS) pixels of the sample by class, in the vocabulary's order, and confidence: estimated from
            the percentiles of each picture.
        confidence_sum: (K,) of the pixels of the sample.
        sampled_pixels: (K,) likewise.
    """

    vocabulary: Vocabulary
    totals: ShardTotals = field(default_factory=ShardTotals)
    histogram: np.ndarray = field(init=False)
    confidence_sum: np.ndarray = field(init=False)
    sampled_pixels: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.vocabulary.classes)
        self.histogram = np.zeros((n, N_BINS))
        self.confidence_sum, self.sampled_pixels = np.zeros(n), np.zeros(n)
        ids = [each.id for each in self.vocabulary.classes]
        self._index = np.zeros(max(ids) + 1, np.int64)
        self._index[ids] = np.arange(n)

    @property
    def distractors_by_code(self) -> list[Distractor]:
        """The k-th has code -1 - k."""
        return sorted_distractors(self.vocabulary)

    def add(self, table: ClassTable) -> None:
        """Count the classes of one shard."""
        index = self._index[table.class_id]
        pixels = table.pixels.astype(float)
        n = len(self.confidence_sum)
        self.sampled_pixels += np.bincount(index, pixels, n)
        self.confidence_sum += np.bincount(index, pixels * table.values["confidence_mean"], n)
        for name, share in _PERCENTILES:
            bins = np.minimum((table.values[name] * N_BINS).astype(np.int64), N_BINS - 1)
            counts = np.bincount(index * N_BINS + bins, share * pixels, n * N_BINS)
            self.histogram += counts.reshape(n, N_BINS)


@dataclass
class Survey:
    """All that is known of an output without its masks.

    Args:
        totals: of all footers.
        words: by name of vocabulary.
        n_sampled: pictures whose statistics were read for confidence.
        failures: by "stage/kind" up to `EXAMPLES_A_FAILURE` pairs of image id and message.
        unread: ids of shards whose footer cannot be read.
        candidates: pictures that may be shown.
        unknown_words: of the vocabularies, which the model was never trained with.
    """

    totals: ShardTotals
    words: dict[str, WordSurvey]
    n_sampled: int
    failures: dict[str, list[tuple[str, str]]]
    unread: list[str]
    candidates: Candidates
    unknown_words: list[str]

    def rarest_first(self) -> list[ClassKey]:
        """The classes that occur, by the number of pictures that have them."""
        counts = [
            (sums["pictures"], sums["pixels"], name, class_id)
            for name, words in self.words.items()
            for class_id, sums in words.totals.classes.items()
        ]
        return [(name, class_id) for _, _, name, class_id in sorted(counts)]


def survey(labels: LabelledOutput, n_shards: int, n_pictures: int) -> Survey:
    """Look over an output; a bar or lines on stderr say how far it is.

    Args:
        n_shards: label files whose statistics are read, at most, beside those with rare classes and failures.
        n_pictures: how many pictures a sheet will want at most.

    Raises:
        OutputError: a label file that storage does not give, or whose columns cannot be read.
    """
    words = {name: WordSurvey(each) for name, each in labels.vocabularies.items()}
    never_trained = unknown_words(labels.uri, labels.storage) or []
    found = Survey(ShardTotals(), words, 0, defaultdict(list), [], Candidates(n_pictures), never_trained)
    sampled = {ref.shard_id for ref in spread(labels.done, n_shards)}
    with Progress(sum(ref.n_rows for ref in labels.done)) as progress:
        progress.say(f"reading the footers of {counted(len(labels.done), 'label file')}")
        where = sampled | _read_footers(labels, found, sampled, progress)
    chosen = [ref for ref in labels.done if ref.shard_id in where.difference(found.unread)]
    with Progress(sum(ref.n_rows for ref in chosen)) as progress:
        progress.say(f"reading the statistics of {len(chosen):,} of {len(labels.done):,} label files")
        n_done = 0
        for ref, table in labels.each_columns(chosen, _COLUMNS):
            _add(found, ref, table, is_sample=ref.shard_id in sampled)
            n_done += ref.n_rows
            progress.update(n_done, 0, is_loading=False)
    return found


def spread(refs: list[ShardRef], n: int) -> list[ShardRef]:
    """At most `n` of them, evenly spaced, in order."""
    return [refs[k * len(refs) // n] for k in range(n)] if len(refs) > n else refs


def _read_footers(labels: LabelledOutput, found: Survey, sampled: set[str], progress: Progress) -> set[str]:
    """Add up the footers; the shards to look into for a class or a failure that no sampled shard has."""
    refs = {ref.shard_id: ref for ref in labels.done}
    best: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
    failed_in: dict[str, str] = {}
    seen: set[tuple[str, int]] = set()
    n_done = 0
    for shard_id, totals in each_totals(refs, labels.uri, labels.storage, found.unread):
        name = refs[shard_id].vocabulary
        found.words[name].totals = merge_totals((found.words[name].totals, totals))
        for class_id, sums in totals.classes.items():
            if shard_id in sampled:
                seen.add((name, class_id))
            largest = best[name, class_id]
            largest.append((sums["pixels"], shard_id))
            largest.sort(reverse=True)
            del largest[SHARDS_A_CLASS:]
        for reason in totals.failed:
            if shard_id in sampled or reason not in failed_in:
                failed_in[reason] = shard_id
        n_done += refs[shard_id].n_rows
        progress.update(n_done, 0, is_loading=False)
    found.totals = merge_totals(words.totals for words in found.words.values())
    unseen = (largest for key, largest in best.items() if key not in seen)
    return {shard_id for largest in unseen for _, shard_id in largest} | set(failed_in.values())


def _add(found: Survey, ref: ShardRef, table: pa.Table, *, is_sample: bool) -> None:
    classes = ClassTable.of(table["classes"])
    if is_sample:
        found.words[ref.vocabulary].add(classes)
        found.n_sampled += table.num_rows
    rows = table.drop_columns(["classes"]).to_pylist()
    for row in rows:
        if row["status"] == FAILED:
            examples = found.failures[f"{row['error_stage']}/{row['error_kind']}"]
            if len(examples) < EXAMPLES_A_FAILURE:
                examples.append((row["image_id"], row["error_message"] or ""))
    if is_sample:
        found.candidates.add_rows(ref, [(k, row) for k, row in enumerate(rows) if row["status"] == LABELLED])
    found.candidates.add_classes(ref, [row["image_id"] for row in rows], classes)
