"""Which shards of an output another vocabulary touches, from its plan and the footers of its label files."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.output import FOOTER_THREADS, storing
from pipeline.output.label_files import read_totals
from pipeline.output.labelled import open_one_vocabulary
from pipeline.storage import StorageOptions, join
from schemas.layout import LABELS_FOLDER
from schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class Touched:
    """What a change of vocabulary means for an output.

    Args:
        output: its name, without secrets.
        vocabulary: name in the output of the vocabulary that is changed.
        is_as_used: whether that one is the old one of the comparison.
        n_shards, n_pictures: done with it; all of them get other labels or at least another name.
        n_shards_with: those of them that hold pixels of a changed class.
    """

    output: str
    vocabulary: str
    is_as_used: bool
    n_shards: int
    n_pictures: int
    n_shards_with: int

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def touched(output: str, old: Vocabulary, class_ids: Collection[int], options: StorageOptions) -> Touched:
    """Count the shards that are labelled with `old`, and those that hold pixels of some classes.

    Args:
        class_ids: the classes that change.

    Raises:
        InputError: no output, nothing labelled yet, or no vocabulary of that name.
    """
    labels = open_one_vocabulary(output, options, old.name)
    uris = [join(labels.uri, f"{LABELS_FOLDER}/{shard.shard_id}.parquet") for shard in labels.done]
    with storing(labels.uri), ThreadPoolExecutor(FOOTER_THREADS) as pool:
        totals = list(pool.map(lambda uri: read_totals(uri, options), uris))
    return Touched(
        output=labels.name,
        vocabulary=labels.vocabulary.name,
        is_as_used=labels.vocabulary.fingerprint == old.fingerprint,
        n_shards=len(totals),
        n_pictures=sum(each.rows for each in totals),
        n_shards_with=sum(not set(class_ids).isdisjoint(each.classes) for each in totals),
    )
