"""A dataset's archives to a manifest, masks with the vocabulary's ids, and the vocabulary.

Masks are written one by one, each whole or not at all, and the manifest last: a run that was stopped is gone on with by
running it again, and finds the masks it wrote. The archives are only read.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.archives import Dataset, LabelledPicture
from pipeline.datasets.convert import Converter
from pipeline.datasets.output import MANIFEST_FILE, MASKS_FOLDER, open_output, refuse_overlap, write_if_changed
from pipeline.datasets.registry import find_dataset
from pipeline.output import storing
from pipeline.picture.encode import encode_mask
from pipeline.progress import Progress
from pipeline.sources.manifest import write_manifest
from pipeline.storage import StorageOptions
from pipeline.storage.local_files import sweep_partial_files
from pipeline.storage.lock import lock_output
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError, SourceError
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary

_WAITING_A_WORKER = 4  # masks that are ready before their turn

_Task = tuple[str, LabelledPicture]  # with its split


@dataclass
class PreparedDataset:
    """What a run came to. `pixels` counts them by class id, the vocabulary's ignore_id among them."""

    dataset: Dataset
    vocabulary: Vocabulary
    manifest: Path
    n_pictures: dict[str, int] = field(default_factory=dict)  # by split
    n_masks_written: int = 0
    pixels: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Row:
    row: ManifestRow
    pixels: Counter[int]
    is_written: bool


def prepare_dataset(
    name: str, root: str, output: str, *, splits: Sequence[str] = (), workers: int | None = None
) -> PreparedDataset:
    """Prepare a dataset; with a run that was stopped before in `output`, go on with it.

    Args:
        name: one of `registry.DATASETS`.
        root: the local folder that the archives were unpacked into.
        output: a local folder apart from `root`; gets manifest.parquet, vocabulary.yaml and masks/.
        splits: of the dataset; all but its extra ones by default.
        workers: threads, one for each core by default.

    Raises:
        InputError: an unknown dataset or split.
        SourceError: archives that lack something, or files that are not as they should be.
        OutputError: an output that holds something else, overlaps the archives, or cannot be written.
    """
    dataset = find_dataset(name)
    splits = tuple(splits) or dataset.default_splits
    _check_splits(dataset, splits)
    archive, folder = _local_folder(root), _local_folder(output)
    pictures = {split: _list_split(dataset, archive, split) for split in splits}
    every = [each for found in pictures.values() for each in found]
    refuse_overlap(folder, {archive, *(each.picture.parent for each in every), *(each.mask.parent for each in every)})
    prepared = PreparedDataset(dataset, load_vocabulary(name), folder / MANIFEST_FILE)
    with ExitStack() as held:
        with storing(output):
            held.enter_context(lock_output(str(folder), StorageOptions()))
        open_output(folder, prepared.vocabulary, splits)
        for masks in {_mask_path(each.image_id).parent for each in every}:
            sweep_partial_files(str(folder / masks))
        rows = list(_convert_all(prepared, folder, pictures, workers or os.cpu_count() or 1))
        write_manifest(rows, str(prepared.manifest), StorageOptions(), replace=True)
    return prepared


def _local_folder(path: str) -> Path:
    if "://" in path:
        raise InputError(f"{path}: is no local folder; archives are read from a disk and prepared on one")
    return Path(os.path.abspath(path))


def _check_splits(dataset: Dataset, splits: Sequence[str]) -> None:
    for split in splits:
        if split not in dataset.n_official:
            raise InputError(f"{split}: no split of {dataset.name}, which has {', '.join(dataset.n_official)}")


def _list_split(dataset: Dataset, root: Path, split: str) -> list[LabelledPicture]:
    found = dataset.list_pictures(root, split)
    if not found:
        raise SourceError(
            f"{root}: split {split} of {dataset.name} is empty, expected {dataset.n_official[split]:,} pictures; "
            f"unpacked, the archives give {dataset.layout}"
        )
    return found


def _mask_path(image_id: str) -> Path:
    """Where the mask of a picture lies below the output."""
    return Path(MASKS_FOLDER, image_id).with_suffix(".png")


def _convert_all(
    prepared: PreparedDataset, folder: Path, pictures: dict[str, list[LabelledPicture]], workers: int
) -> Iterator[ManifestRow]:
    """Yield the rows of all pictures, split by split, when their masks are written; counts into `prepared`."""
    converter = Converter(prepared.dataset, prepared.vocabulary)

    def convert(task: _Task) -> _Row:
        return _convert_one(converter, folder, *task)

    tasks = [(split, each) for split, found in pictures.items() for each in found]
    prepared.n_pictures = {split: len(found) for split, found in pictures.items()}
    with Progress(len(tasks)) as progress:
        for n_done, done in enumerate(_in_order(convert, tasks, workers), start=1):
            prepared.n_masks_written += done.is_written
            prepared.pixels.update(done.pixels)
            progress.update(n_done, 0, is_loading=False)
            yield done.row


def _convert_one(converter: Converter, folder: Path, split: str, labelled: LabelledPicture) -> _Row:
    converted = converter.convert(labelled)
    mask_path = _mask_path(labelled.image_id)
    height, width = converted.mask.shape
    row = ManifestRow(
        image_id=labelled.image_id,
        uri=str(labelled.picture),
        width=width,
        height=height,
        size_bytes=labelled.picture.stat().st_size,
        mask_uri=mask_path.as_posix(),  # below the manifest's folder, which may be moved
        split=split,
    )
    return _Row(row, converted.pixels, write_if_changed(folder / mask_path, encode_mask(converted.mask)))


def _in_order(work: Callable[[_Task], _Row], tasks: Iterable[_Task], workers: int) -> Iterator[_Row]:
    """Results in the order of the tasks, made by threads; few are ready before their turn."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[_Row]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) > _WAITING_A_WORKER * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def summary_lines(prepared: PreparedDataset) -> list[str]:
    """The end of a run in a few lines: pictures, masks, classes and ignored pixels, and what is not as published."""
    n_pictures = sum(prepared.n_pictures.values())
    splits = ", ".join(f"{split} {count:,}" for split, count in prepared.n_pictures.items())
    n_kept = n_pictures - prepared.n_masks_written
    ids = {each.id for each in prepared.vocabulary.classes}
    n_ignored, n_pixels = prepared.pixels[prepared.vocabulary.ignore_id], sum(prepared.pixels.values())
    lines = [
        f"{prepared.dataset.name}: {n_pictures:,} {'picture' if n_pictures == 1 else 'pictures'} ({splits})",
        f"  masks:    {prepared.n_masks_written:,} written" + (f", {n_kept:,} there before" if n_kept else ""),
        f"  classes:  {len(ids & set(+prepared.pixels)):,} of {len(ids):,} occur",
        f"  ignored:  {n_ignored / max(1, n_pixels):.1%} of {n_pixels:,} pixels",
    ]
    for split, count in prepared.n_pictures.items():
        if count != prepared.dataset.n_official[split]:
            lines.append(f"  note:     {split} officially has {prepared.dataset.n_official[split]:,} pictures")
    return [*lines, f"  manifest: {prepared.manifest}"]
