"""Labelled pictures to train and to measure on: those of a manifest with masks, and those of an `annotate` output.

Names and places are held as Arrow columns, some 200 bytes a picture, and pictures are read when they are asked for.
Masks of an `annotate` output lie 256 to a file, so they are unpacked once into a temporary file, to be read singly.
"""

import hashlib
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import IO, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.evaluation.ground_truth import read_truth
from pipeline.evaluation.scores import NO_CLASS
from pipeline.output import absolute_uri, storing
from pipeline.output.labelled import open_one_vocabulary
from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from pipeline.picture.mask_file import read_mask
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions
from pipeline.training.config import DataSource
from pipeline.training.samples import Sample
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError, PictureError
from schemas.fingerprint import fingerprint
from schemas.labels import LABELLED
from schemas.manifest import ManifestRow, public_uri
from schemas.spelling import did_you_mean
from schemas.vocabulary import Vocabulary

_NOWHERE = -1  # no byte range: the picture is the whole file


class Pictures(Protocol):
    """Pictures with masks of one vocabulary, by their place from 0."""

    vocabulary: Vocabulary

    def __len__(self) -> int: ...

    def read(self, place: int) -> Sample:
        """The whole picture and its mask, -1 where pixels take no part.

        Raises:
            InputError: one of the two is missing or damaged, or their sizes differ; names the picture.
        """

    @property
    def fingerprint(self) -> str:
        """Names the pictures, by their ids, and the vocabulary."""


class _Columns:
    """Manifest rows without what training does not need."""

    def __init__(self, rows: Iterable[ManifestRow]) -> None:
        values: list[tuple] = []
        parts: list[pa.Table] = []
        for row in rows:
            byte_range = (row.byte_offset, row.byte_length) if row.byte_offset is not None else (_NOWHERE, _NOWHERE)
            values.append((row.image_id, row.uri, row.mask_uri, *byte_range))
            if len(values) == 2**14:
                parts.append(_table(values))
                values = []
        parts.append(_table(values))
        self._table = pa.concat_tables(parts).combine_chunks()

    def __len__(self) -> int:
        return len(self._table)

    def row(self, place: int) -> ManifestRow:
        image_id, uri, mask_uri, offset, length = (column[place].as_py() for column in self._table.columns)
        at = {} if offset == _NOWHERE else {"byte_offset": offset, "byte_length": length}
        return ManifestRow(image_id, uri, mask_uri=mask_uri, **at)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for each in self._table["image_id"]:
            digest.update(each.as_py().encode() + b"\n")
        return digest.hexdigest()


def _table(values: list[tuple]) -> pa.Table:
    text, count = pa.large_string(), pa.int64()
    names = {"image_id": text, "uri": text, "mask_uri": text, "byte_offset": count, "byte_length": count}
    columns = list(zip(*values, strict=True)) or [()] * len(names)
    return pa.table([pa.array(c, t) for c, t in zip(columns, names.values(), strict=True)], names=list(names))


class ManifestPictures:
    """The rows of a manifest, each with its `mask_uri`.

    Args:
        data: with `manifest` and `vocabulary`. Rows of another `split` or another vocabulary are left out.

    Raises:
        InputError: the manifest or vocabulary cannot be read, a row has no mask, or no row is left.
    """

    def __init__(self, data: DataSource, storage: StorageOptions) -> None:
        assert data.manifest is not None
        assert data.vocabulary is not None
        self.vocabulary = load_vocabulary(data.vocabulary, storage)
        self._name, self._storage = public_uri(data.manifest), storage
        splits: Counter[str] = Counter()
        self._columns = _Columns(self._rows(data, splits))
        if not len(self._columns):
            raise _empty(self._name, data.split, splits)

    def _rows(self, data: DataSource, splits: Counter[str]) -> Iterable[ManifestRow]:
        for batch in read_manifest(str(data.manifest), self._storage):
            for row in batch:
                splits[row.split or ""] += 1
                if data.split not in (None, row.split) or row.vocabulary not in (None, self.vocabulary.name):
                    continue
                _refuse_bytes(self._name, row)
                if row.mask_uri is None:
                    raise InputError(
                        f"{self._name}: picture {row.image_id!r} has no mask_uri, expected one in every row; "
                        "fill it in, or leave such rows out with a `split`"
                    )
                yield row

    def __len__(self) -> int:
        return len(self._columns)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint([self._columns.digest(), self.vocabulary.fingerprint])

    def read(self, place: int) -> Sample:
        row = self._columns.row(place)
        assert row.mask_uri is not None
        picture = _read_picture(row, self._storage)
        mask = read_truth(row.mask_uri, self._storage, self.vocabulary)
        _check_size(row, picture, mask)
        return Sample(picture, np.where(mask == NO_CLASS, -1, mask.astype(np.int32)))


class LabelPictures:
    """What `escnet annotate` labelled: pseudo-labels. Failed pictures are left out, ignored pixels take no part.

    Args:
        data: with `labels`; `vocabulary` is the name of one of the output's, needed where it has several.
        unpacks: make the temporary file with the masks; without it pictures can be counted and not read.

    Raises:
        InputError: no output, no such vocabulary in it, no labelled picture, or one without a file of its own.
    """

    def __init__(self, data: DataSource, storage: StorageOptions, *, unpacks: bool = True) -> None:
        assert data.labels is not None
        self._storage, self._output = storage, absolute_uri(data.labels, storage)
        self._name = public_uri(data.labels)
        self._spool: IO[bytes] | None = None
        if unpacks:
            with storing(tempfile.gettempdir()):
                self._spool = tempfile.TemporaryFile(prefix="escnet-masks-")  # noqa: SIM115 (closed with the object)
        self._ends = array("q", [0])
        splits: Counter[str] = Counter()
        self._columns = _Columns(self._rows(data, splits))
        if not len(self._columns):
            raise _empty(self._name, data.split, splits)
        if self._spool is not None:
            with storing(tempfile.gettempdir()):
                self._spool.flush()  # before loader processes inherit it, each with what is not yet written

    def _rows(self, data: DataSource, splits: Counter[str]) -> Iterable[ManifestRow]:
        labels = open_one_vocabulary(str(data.labels), self._storage, data.vocabulary)
        self.vocabulary = labels.vocabulary
        for shard in labels.done:
            rows = labels.rows(shard, ["mask"])
            for row, label in zip(labels.pictures(shard), rows, strict=True):
                splits[row.split or ""] += 1
                if label.status == LABELLED and data.split in (None, row.split):
                    _refuse_bytes(self._name, row)
                    self._unpack(label.mask or b"")
                    yield row

    def _unpack(self, mask: bytes) -> None:
        self._ends.append(self._ends[-1] + len(mask))
        if self._spool is not None:
            with storing(tempfile.gettempdir()):
                self._spool.write(mask)

    def __len__(self) -> int:
        return len(self._columns)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint([self._columns.digest(), self._ends[-1], self.vocabulary.fingerprint])

    def read(self, place: int) -> Sample:
        assert self._spool is not None, "was opened without unpacking"
        row = self._columns.row(place)
        start, end = self._ends[place : place + 2]
        try:
            mask = read_mask(os.pread(self._spool.fileno(), end - start, start))
        except ValueError as error:
            raise InputError(f"{self._name}: the labels of {row.image_id!r} cannot be used: {error}") from error
        picture = _read_picture(row, self._storage)
        _check_size(row, picture, mask)
        return Sample(picture, np.where(mask == self.vocabulary.ignore_id, -1, mask.astype(np.int32)))


def open_pictures(data: DataSource, storage: StorageOptions, *, unpacks: bool = True) -> Pictures:
    """The pictures of a source that is no demo world. `unpacks`: see `LabelPictures`."""
    if data.manifest is not None:
        return ManifestPictures(data, storage)
    return LabelPictures(data, storage, unpacks=unpacks)


def _read_picture(row: ManifestRow, storage: StorageOptions) -> NDArray[np.uint8]:
    try:
        return decode(fetch(row, storage))
    except PictureError as error:
        raise InputError(
            f"picture {row.image_id!r} cannot be read: {error.message}; mend it, or leave its row out"
        ) from error


def _refuse_bytes(name: str, row: ManifestRow) -> None:
    if row.image is not None:
        raise InputError(
            f"{name}: picture {row.image_id!r} lies in the manifest itself, expected files to read again and again; "
            "write the pictures out"
        )


def _check_size(row: ManifestRow, picture: np.ndarray, mask: np.ndarray) -> None:
    if mask.shape != picture.shape[:2]:
        named = public_uri(row.mask_uri) if row.mask_uri else f"the labels of {row.image_id!r}"
        raise InputError(
            f"{named}: the mask is {mask.shape[1]} x {mask.shape[0]}, but picture {row.image_id!r} is "
            f"{picture.shape[1]} x {picture.shape[0]}; make them the same size"
        )


def _empty(name: str, split: str | None, splits: Counter[str]) -> InputError:
    if split is not None and splits:
        named = {each or "none": n for each, n in sorted(splits.items())}
        found = ", ".join(f"{each} ({n:,} pictures)" for each, n in named.items())
        return InputError(f"{name}: no labelled picture of split {split!r}{did_you_mean(split, named)}; found {found}")
    return InputError(f"{name}: no labelled pictures in its {sum(splits.values()):,} rows; nothing to train on")
