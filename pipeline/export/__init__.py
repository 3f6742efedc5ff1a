"""Labels in the formats of other tools: shard after shard, to a disk or object storage, going on where it stopped.

Failed pictures have no labels and are left out. `docs/exports.md` says what each format holds.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.export.chosen import Chosen, Part, all_pictures, pictures_of
from pipeline.export.folder import Folder
from pipeline.export.formats import Choices, Format, check_choices, make_format
from pipeline.export.item import Item
from pipeline.export.names import Names
from pipeline.output import absolute_uri
from pipeline.output.footers import each_totals
from pipeline.output.labelled import LabelledOutput, open_one_vocabulary
from pipeline.output.masks import mask_columns
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import InputError, PictureError
from schemas.fingerprint import fingerprint
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import public_uri

_THREADS = 8
_SHOWN = 3


@dataclass(frozen=True)
class ExportReport:
    """What an export came to.

    Args:
        n_exported: pictures in it.
        n_failed: left out, since they have no labels.
        n_without_picture: left out, since the picture itself could not be read again; `lost` names some.
        n_unknown: asked for, and not among the labels.
        n_waiting: pictures of the job that are not labelled yet; 0 if only some pictures were asked for.
        notes: what the format could not hold.
    """

    format: str
    output: str
    n_exported: int
    n_failed: int
    n_without_picture: int
    n_unknown: int
    n_waiting: int
    lost: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Export:
    labels: LabelledOutput
    chosen: Chosen
    names: Names
    writer: Format
    min_confidence: float


def export_labels(
    output: str,
    destination: str,
    name: str,
    *,
    vocabulary: str | None = None,
    choices: Choices | None = None,
    min_confidence: float = 0.0,
    images: str | None = None,
    storage: StorageOptions | None = None,
) -> ExportReport:
    """Write the labels that an output has so far in another tool's format; the same call goes on where it stopped.

    Args:
        output: what `escnet annotate` wrote.
        destination: an empty or new folder or prefix, or that of the same export.
        name: one of `pipeline.export.formats.FORMATS`.
        vocabulary: name of one of the output's; may be left out if it has one.
        min_confidence: pixels that are less sure become ignored; a person's masks stay.
        images: a manifest that names the pictures to export by `image_id`; all if None.

    Raises:
        InputError: something that cannot be exported so; names what and what to do.
    """
    storage, choices = storage or StorageOptions(), choices or Choices()
    labels = open_one_vocabulary(output, storage, vocabulary)
    check_choices(name, labels.vocabulary, choices)
    destination = absolute_uri(destination, storage)
    if f"{destination.rstrip('/')}/".startswith(f"{labels.uri.rstrip('/')}/"):
        raise InputError(f"{public_uri(destination)}: lies in the labels themselves; choose an --output apart")
    chosen = all_pictures(labels) if images is None else pictures_of(images, labels, storage)
    record = {**_record(labels, name, choices, min_confidence), "images": chosen.digest}
    folder = Folder(destination, storage, record)
    if (done := folder.done()) is not None:
        return _report(done)
    writer = make_format(name, folder, labels.vocabulary, choices)
    export = _Export(labels, chosen, Names(lambda: _ids(labels)), writer, min_confidence)
    _write_shards(export, folder)
    return _finish(export, folder, name)


def _record(labels: LabelledOutput, name: str, choices: Choices, min_confidence: float) -> dict[str, Any]:
    return {
        "format": name,
        "labels": _fingerprint_of(labels),
        "corrections": labels.overrides.digest(),
        "vocabulary": labels.vocabulary.name,
        "with-images": choices.with_images,
        "shift-ids": choices.shift_ids,
        "min-confidence": min_confidence,
    }


def _fingerprint_of(labels: LabelledOutput) -> str:
    """Names the labels. A retry leaves shards their ids: what it mends shows in the number of labelled pictures."""
    unread: list[str] = []
    found = each_totals((ref.shard_id for ref in labels.done), labels.uri, labels.storage, unread)
    return fingerprint([(shard_id, totals.labelled) for shard_id, totals in found])


def _ids(labels: LabelledOutput) -> Iterator[str]:
    """Of all pictures, whichever are exported: a picture has the same name in every export."""
    for _, table in labels.each_columns(labels.done, ("image_id",)):
        yield from table["image_id"].to_pylist()


def _write_shards(export: _Export, folder: Folder) -> None:
    done = folder.done_shards()
    n_there = sum(part.n_pictures for part in export.chosen.parts if part.ref.shard_id in done)
    n_done, n_failed = 0, 0
    with Progress(export.chosen.n_pictures, n_there) as progress, ThreadPoolExecutor(_THREADS) as pool:
        for part in export.chosen.parts:
            if part.ref.shard_id not in done:
                work = _Work()
                kept = export.writer.shard(part.number, work.found(export.writer, _items(export, part), pool))
                folder.finish_shard(part.ref.shard_id, {**work.counts(part.n_pictures), "kept": kept})
                n_done, n_failed = n_done + part.n_pictures, n_failed + part.n_pictures - work.n_exported
                progress.update(n_done, n_failed, is_loading=False)


def _items(export: _Export, part: Part) -> Iterator[Item]:
    pictures = export.labels.pictures(part.ref)
    for position, row in _rows(export, part):
        if row.status == LABELLED:
            number, name = part.first + position, export.names[row.image_id]
            yield Item(number, name, row, pictures[position], export.labels, export.min_confidence)


def _rows(export: _Export, part: Part) -> Iterator[tuple[int, LabelRow]]:
    if part.positions is None:
        return enumerate(export.labels.rows(part.ref, mask_columns(export.min_confidence)))
    return export.labels.some_rows(part.ref, part.positions)


class _Work:
    """One shard on its way: the next few pictures are written side by side."""

    def __init__(self) -> None:
        self.n_exported = 0
        self.lost: list[str] = []

    def found(self, writer: Format, items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Any]:
        while some := list(islice(items, _THREADS)):
            for item, result in zip(some, pool.map(lambda each: _attempt(writer, each), some), strict=True):
                if isinstance(result, PictureError):
                    self.lost.append(f"{item.image_id}: {result.message}")
                else:
                    self.n_exported += 1
                    yield result

    def counts(self, n_pictures: int) -> dict[str, Any]:
        n_lost = len(self.lost)
        return {
            "n_exported": self.n_exported,
            "n_failed": n_pictures - self.n_exported - n_lost,
            "n_lost": n_lost,
            "lost": self.lost[:_SHOWN],
        }


def _attempt(writer: Format, item: Item) -> Any:
    try:
        return writer.picture(item)
    except PictureError as error:
        return error


def _finish(export: _Export, folder: Folder, name: str) -> ExportReport:
    labels, chosen = export.labels, export.chosen
    ids = [part.ref.shard_id for part in chosen.parts]

    def parts() -> Iterator[list[Any]]:
        return (folder.part(each)["kept"] for each in ids)

    export.writer.finish(parts)
    counts = [{key: value for key, value in folder.part(each).items() if key != "kept"} for each in ids]
    said = {
        "format": name,
        "output": public_uri(folder.uri),
        "n_exported": sum(each["n_exported"] for each in counts),
        "n_failed": sum(each["n_failed"] for each in counts),
        "n_without_picture": sum(each["n_lost"] for each in counts),
        "n_unknown": chosen.n_unknown,
        "n_waiting": 0 if chosen.digest else labels.n_planned - labels.n_done,
        "lost": [line for each in counts for line in each["lost"]][:_SHOWN],
        "notes": export.writer.notes(parts),
    }
    folder.finish(said, ids)
    return _report(said)


def _report(said: dict[str, Any]) -> ExportReport:
    return ExportReport(**{**said, "lost": tuple(said["lost"]), "notes": tuple(said["notes"])})
