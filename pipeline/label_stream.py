"""Labels for training in PyTorch: pictures and masks streamed from an output, on a disk or in object storage.

Label files are read one after another, and pictures where they lie, a few ahead. Nothing is unpacked or copied first.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.output.labelled import LabelledOutput, open_one_vocabulary
from pipeline.output.masks import mask_columns, mask_of
from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from pipeline.storage import StorageOptions
from schemas.errors import InputError, PictureError
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import ManifestRow

IGNORE_INDEX = -100  # what torch.nn.functional.cross_entropy leaves out
_READ_AHEAD = 8

Sample = dict[str, Any]
_Pair = tuple[LabelRow, ManifestRow]


class LabelStream(IterableDataset):
    """Made by `open_labels`. `set_epoch` gives another order.

    Args:
        classes: names of the classes; the value of a mask is the position here.
        class_ids: their ids in the vocabulary.
    """

    def __init__(
        self,
        uri: str,
        storage: StorageOptions,
        *,
        vocabulary: str | None,
        split: str | None,
        min_confidence: float,
        shuffle: bool,
        seed: int,
        shuffle_buffer: int,
        transform: Callable[[Sample], Sample] | None,
        skip_unreadable: bool,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        self._uri, self._storage, self._split, self._min_confidence = uri, storage, split, min_confidence
        self._seed, self._buffer = seed, shuffle_buffer if shuffle else 0
        self._transform, self._skips = transform, skip_unreadable
        self._rank, self._world_size = _place(rank, world_size)
        self._epoch = 0
        labels = open_one_vocabulary(uri, storage, vocabulary)
        words = labels.vocabulary
        self._vocabulary = words.name
        self.classes = tuple(each.name for each in words.classes)
        self.class_ids = tuple(each.id for each in words.classes)
        self._value = np.full(words.ignore_id + 1, IGNORE_INDEX, np.int64)
        self._value[list(self.class_ids)] = np.arange(len(self.class_ids))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; call it before each pass. Loaders with `persistent_workers` keep their first one."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Sample]:
        # Opened by whoever reads: neither connections nor locks pass from a process to its workers.
        labels = open_one_vocabulary(self._uri, self._storage, self._vocabulary)
        pairs: Iterator[_Pair] = self._pairs(labels)
        if self._buffer:
            pairs = _shuffled(pairs, self._buffer, np.random.default_rng([self._seed, self._epoch, self._reader()[0]]))
        for found in _ahead(pairs, lambda pair: self._sample(pair, labels)):
            if found is not None:
                yield found if self._transform is None else self._transform(found)

    def _reader(self) -> tuple[int, int]:
        """Which of all readers this is, and how many there are: ranks, and the loader's workers in each."""
        worker = get_worker_info()
        number, n = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self._rank * n + number, self._world_size * n

    def _pairs(self, labels: LabelledOutput) -> Iterator[_Pair]:
        """This reader's part: whole shards where there are enough, else every n-th picture."""
        number, n_readers = self._reader()
        shards = list(labels.done)
        if self._buffer:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(
                len(shards)
            )  # the same for all readers
            shards = [shards[k] for k in order]
        by_shard, first = len(shards) >= n_readers, 0
        for shard in shards[number::n_readers] if by_shard else shards:
            rows = zip(labels.rows(shard, mask_columns(self._min_confidence)), labels.pictures(shard), strict=True)
            for position, (row, source) in enumerate(rows, start=first):
                is_mine = by_shard or position % n_readers == number
                if is_mine and row.status == LABELLED and self._split in (None, source.split):
                    yield row, source
            first += shard.n_rows

    def _sample(self, pair: _Pair, labels: LabelledOutput) -> Sample | None:
        row, source = pair
        try:
            max_pixels = labels.job.options.max_pixels
            picture = decode(fetch(source, self._storage, max_pixels=max_pixels), max_pixels=max_pixels)
        except PictureError as error:
            if self._skips:
                return None
            raise InputError(
                f"picture {row.image_id!r} cannot be read: {error.message}; mend it, or leave such ones out with "
                "skip_unreadable=True"
            ) from error
        mask = mask_of(row, labels, self._min_confidence)
        if picture.shape[:2] != mask.shape:
            raise InputError(
                f"picture {row.image_id!r} is {picture.shape[1]} x {picture.shape[0]}, but its labels are "
                f"{mask.shape[1]} x {mask.shape[0]}: it was replaced since; label it again"
            )
        return {
            "image_id": row.image_id,
            "image": torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))),
            "mask": torch.from_numpy(self._value[mask]),
        }


def open_labels(
    uri: str,
    *,
    vocabulary: str | None = None,
    split: str | None = None,
    min_confidence: float = 0.0,
    shuffle: bool = False,
    seed: int = 0,
    shuffle_buffer: int = 256,
    transform: Callable[[Sample], Sample] | None = None,
    skip_unreadable: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
) -> LabelStream:
    """Pictures and masks of an output as a dataset for `torch.utils.data.DataLoader`.

    Samples are dicts: `image_id`; `image`, (3, H, W) uint8 RGB as the picture is meant to be seen; `mask`, (H, W) int64
    positions in `classes`, and -100 where pixels are ignored. Corrections by people are in place, failed pictures are
    left out. Workers of a loader and processes of a distributed run each get a part; no picture is in two. Parts are
    not of one size: in distributed training let the ranks join (`torch.distributed.algorithms.Join`).

    Args:
        uri: what `escnet annotate` wrote, local or in object storage.
        vocabulary: name of one of the output's; may be left out if it has one.
        split: pictures of this `split` in the manifest alone.
        min_confidence: pixels that are less sure become ignored, in [0, 1]; from the evidence, a person's masks stay.
        shuffle: label files in an order that `seed` and epoch choose, pictures out of a buffer.
        shuffle_buffer: labels held to draw from, some tens of kilobytes each.
        transform: of a sample, in the worker: a crop or resize, so that pictures make batches.
        skip_unreadable: leave pictures out that cannot be read any more, in place of an error.
        rank, world_size: of this process; those of `torch.distributed` if left out.
        endpoint_url, profile: of S3, as on the command line.

    Raises:
        InputError: an output that cannot be used, or, while reading, a picture that is gone or was replaced.
    """
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence: found {min_confidence}, expected a number from 0 to 1")
    if shuffle_buffer < 1:
        raise InputError(f"shuffle_buffer: found {shuffle_buffer}, expected at least 1")
    return LabelStream(
        uri,
        StorageOptions(endpoint_url, profile),
        vocabulary=vocabulary,
        split=split,
        min_confidence=min_confidence,
        shuffle=shuffle,
        seed=seed,
        shuffle_buffer=shuffle_buffer,
        transform=transform,
        skip_unreadable=skip_unreadable,
        rank=rank,
        world_size=world_size,
    )


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise InputError(f"found rank {rank} and world_size {world_size}, expected both or neither")
    if rank is None or world_size is None:
        is_running = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if is_running else (0, 1)
    if not 0 <= rank < world_size:
        raise InputError(f"found rank {rank} of world_size {world_size}, expected 0 to {world_size - 1}")
    return rank, world_size


def _shuffled(pairs: Iterable[_Pair], n_held: int, rng: np.random.Generator) -> Iterator[_Pair]:
    """Each in place of a random one of those held."""
    held: list[_Pair] = []
    for pair in pairs:
        if len(held) < n_held:
            held.append(pair)
            continue
        k = int(rng.integers(n_held))
        yield held[k]
        held[k] = pair
    for k in rng.permutation(len(held)):
        yield held[k]


def _ahead(pairs: Iterator[_Pair], read: Callable[[_Pair], Sample | None]) -> Iterator[Sample | None]:
    """In order; the next few are read while one is used."""
    waiting: deque[Future[Sample | None]] = deque()
    with ThreadPoolExecutor(_READ_AHEAD) as pool:
        try:
            for pair in pairs:
                waiting.append(pool.submit(read, pair))
                if len(waiting) > _READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
