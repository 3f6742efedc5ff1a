"""The pictures of an output that are most worth a person's time, as a manifest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output import storing
from pipeline.output.footers import each_totals
from pipeline.output.labelled import LabelledOutput, open_labelled, open_one_vocabulary
from pipeline.progress import Progress
from pipeline.selection.scoring import COLUMNS, ShardScores, rarities, score_shard
from pipeline.selection.spreading import Candidate, Choice, Pool, choose
from pipeline.sources.listing import suffix_of_uri
from pipeline.storage import StorageOptions, exists, new_file
from schemas.errors import InputError, OutputError
from schemas.job import ShardRef
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow, public_uri
from schemas.quantities import counted

_POOL = 20  # candidates for each picture that is asked for
_SMALLEST_POOL = 2_000
_IGNORE = -1  # in place of a class id

_FURTHER = pa.schema(
    [
        ("score", pa.float64()), ("reason", pa.string()), ("unsure", pa.float64()), ("rare", pa.float64()),
        ("odd", pa.float64()), ("new", pa.float64()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """What was chosen. `reasons` counts the pictures by the one of its own numbers that speaks most for each."""

    file: str
    n_labelled: int
    n_chosen: int
    reasons: dict[str, int]


def select(
    output: str,
    budget: int,
    file: str,
    *,
    one_vocabulary: bool = False,
    vocabulary: str | None = None,
    replace: bool = False,
    storage: StorageOptions | None = None,
) -> Selection:
    """Write a manifest of the `budget` labelled pictures that are most worth a person's time, the most worthy first.

    Footers and statistics columns are read, masks are not. In memory are the 20 * budget pictures (at least 2,000)
    whose own numbers are highest; the choice is made among these. The same labels give the same choice.

    Args:
        one_vocabulary: choose among pictures of one vocabulary, as exports hold them: `vocabulary`, or the only one.

    Raises:
        InputError: an output that cannot be used, one without a labelled picture, or a file that is there already.
    """
    storage = storage or StorageOptions()
    _check_file(file, storage, replace=replace)
    if one_vocabulary or vocabulary is not None:
        labels = open_one_vocabulary(output, storage, vocabulary)
    else:
        labels = open_labelled(output, storage)
    pool, n_labelled = _candidates(labels, max(_SMALLEST_POOL, _POOL * budget))
    if not n_labelled:
        raise InputError(f"{labels.name}: has no labelled picture; see why with `escnet status`")
    chosen = choose(pool, budget)
    _write(labels, chosen, file, replace=replace)
    reasons = Counter(reason_of(each.candidate).partition(":")[0] for each in chosen)
    return Selection(public_uri(file), n_labelled, len(chosen), dict(reasons.most_common()))


def reason_of(each: Candidate) -> str:
    """Which of its own numbers speaks most for a picture, in words."""
    numbers = {"unsure": each.unsure, f"rare class: {each.rarest}": each.rare, "unlike its shard": each.odd}
    return max(numbers, key=lambda name: numbers[name])


def _candidates(labels: LabelledOutput, n: int) -> tuple[Pool, int]:
    """The pool, and how many pictures are labelled; a bar or lines on stderr say how far it is."""
    pool, n_labelled = Pool(n), 0
    with Progress(sum(ref.n_rows for ref in labels.done)) as progress:
        progress.say(f"reading the footers of {counted(len(labels.done), 'label file')}")
        rarity = _rarities(labels, progress)
    with Progress(sum(ref.n_rows for ref in labels.done)) as progress:
        progress.say(f"reading the statistics of {len(labels.done):,} label files")
        n_done = 0
        for ref, table in labels.each_columns(labels.done, COLUMNS):
            scores = score_shard(table, rarity[ref.vocabulary])
            names = {each.id: each.name for each in labels.vocabularies[ref.vocabulary].classes}
            _offer(pool, labels, ref, table["image_id"].to_pylist(), scores, names)
            n_labelled += len(scores.position)
            n_done += ref.n_rows
            progress.update(n_done, 0, is_loading=False)
    return pool, n_labelled


def _rarities(labels: LabelledOutput, progress: Progress) -> dict[str, dict[int, float]]:
    """By vocabulary and class id."""
    refs = {ref.shard_id: ref for ref in labels.done}
    pictures: dict[str, Counter[int]] = {name: Counter() for name in labels.vocabularies}
    n_labelled: Counter[str] = Counter()
    unread: list[str] = []
    n_done = 0
    for shard_id, totals in each_totals(refs, labels.uri, labels.storage, unread):
        name = refs[shard_id].vocabulary
        n_labelled[name] += totals.labelled
        pictures[name].update({class_id: sums["pictures"] for class_id, sums in totals.classes.items()})
        n_done += refs[shard_id].n_rows
        progress.update(n_done, 0, is_loading=False)
    if unread:
        raise OutputError(
            f"{labels.name}: {len(unread):,} label files cannot be read, the first {unread[0]}.parquet; "
            "run `escnet verify`, which says what to do"
        )
    return {name: rarities(counts, n_labelled[name]) for name, counts in pictures.items()}


def _offer(
    pool: Pool,
    labels: LabelledOutput,
    ref: ShardRef,
    image_ids: Sequence[str],
    scores: ShardScores,
    names: dict[int, str],
) -> None:
    """Offer the pictures of a shard, but for those that a person has corrected already."""
    keys = [(ref.vocabulary, class_id) for class_id in (*scores.class_ids.tolist(), _IGNORE)]
    own = scores.unsure + scores.rare + scores.odd
    for k in np.flatnonzero(own >= pool.lowest).tolist():
        position = int(scores.position[k])
        if labels.is_corrected(ref, image_ids[position]):
            continue
        present = np.flatnonzero(scores.histogram[k])
        shares = tuple((keys[c], float(scores.histogram[k, c])) for c in present.tolist())
        pool.offer(
            Candidate(
                image_id=image_ids[position],
                ref=ref,
                position=position,
                unsure=float(scores.unsure[k]),
                rare=float(scores.rare[k]),
                odd=float(scores.odd[k]),
                rarest=names.get(int(scores.rarest[k]), ""),
                shares=shares,
            )
        )


def _check_file(file: str, storage: StorageOptions, *, replace: bool) -> None:
    if suffix_of_uri(file) != ".parquet":
        raise OutputError(f"{public_uri(file)}: a selection is a Parquet manifest; give a name that ends in .parquet")
    with storing(file):
        if not replace and exists(file, storage):
            raise _taken(file)


def _taken(file: str) -> OutputError:
    return OutputError(f"{public_uri(file)}: already there; choose another name or give --overwrite")


def _write(labels: LabelledOutput, chosen: Sequence[Choice], file: str, *, replace: bool) -> None:
    """The manifest rows as the plan has them, signed addresses too, and the numbers."""
    rows: dict[str, ManifestRow] = {}
    by_shard: dict[ShardRef, list[Candidate]] = {}
    for choice in chosen:
        by_shard.setdefault(choice.candidate.ref, []).append(choice.candidate)
    for ref, some in by_shard.items():
        planned = labels.pictures(ref)
        rows |= {each.image_id: planned[each.position] for each in some}
    ordered = [rows[choice.candidate.image_id] for choice in chosen]
    columns = [pa.array([getattr(row, field.name) for row in ordered], field.type) for field in MANIFEST_SCHEMA]
    values = [
        (
            each.score,
            reason_of(each.candidate),
            each.candidate.unsure,
            each.candidate.rare,
            each.candidate.odd,
            each.new,
        )
        for each in chosen
    ]
    columns += [pa.array(column, field.type) for column, field in zip(zip(*values, strict=True), _FURTHER, strict=True)]
    table = pa.Table.from_arrays(columns, schema=pa.schema([*MANIFEST_SCHEMA, *_FURTHER]))
    try:
        with storing(file), new_file(file, labels.storage, replace=replace) as target:
            pq.write_table(table, target, compression="zstd")
    except FileExistsError as error:
        raise _taken(file) from error
