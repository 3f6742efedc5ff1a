"""Ground truth: which mask belongs to which picture, and what its pixels say.

Masks are PNG or TIFF with one channel of class ids: gray of up to 16 bits, or a palette, whose index is the id.
255 is ignored in masks of up to 8 bits, 65535 in those of 16, and the vocabulary's `ignore_id` in both.
"""

import posixpath
from collections.abc import Collection

import numpy as np

from pipeline.evaluation.panoptic import PanopticFile, class_of_category, read_panoptic, read_segments
from pipeline.evaluation.scores import NO_CLASS
from pipeline.picture.fetch import fetch
from pipeline.picture.mask_file import check_size, read_mask
from pipeline.sources.listing import SourceSummary, find_files, suffix_of, suffix_of_uri
from pipeline.sources.manifest import read_manifest
from pipeline.storage import STORAGE_ERRORS, StorageOptions, find_info, locate, storage_error
from schemas.errors import InputError, PictureError
from schemas.manifest import IMAGE_SUFFIXES, ManifestRow, public_uri
from schemas.quantities import few
from schemas.vocabulary import IGNORE_ID_8_BIT, Vocabulary

_MANIFEST_SUFFIXES = (".parquet", ".csv", ".jsonl")
_MASK_SUFFIXES = (".png", ".tif", ".tiff")
_IDS_SHOWN = 5


class GroundTruth:
    """The masks of a manifest, by `image_id`, or of a folder, by path without suffix. Some 300 bytes of memory a mask.

    Args:
        uri: the manifest or folder.
        masks: URIs by image id, or by path below the folder without suffix.
        is_folder: which of the two.
    """

    def __init__(self, uri: str, masks: dict[str, str], *, is_folder: bool) -> None:
        self.name = public_uri(uri)
        self._masks = masks
        self._is_folder = is_folder
        self._used: dict[str, str] = {}  # by key: the picture that has the mask

    def mask_uri(self, image_id: str) -> str | None:
        """Where the mask of a picture lies; None if there is none.

        Raises:
            InputError: two pictures whose names differ in the suffix alone, and one mask for both.
        """
        key = _without_image_suffix(image_id) if self._is_folder else image_id
        if key not in self._masks:
            return None
        other = self._used.setdefault(key, image_id)
        if other != image_id:
            raise InputError(
                f"{public_uri(self._masks[key])}: may be the mask of {other!r} or of {image_id!r}; "
                "give a manifest with columns image_id, uri and mask_uri that says which"
            )
        return self._masks[key]

    def missing(self, image_id: str) -> str:
        """One line that says what was looked for in vain."""
        if self._is_folder:
            looked_for = f"expected {_without_image_suffix(image_id)} with {', '.join(_MASK_SUFFIXES[:-1])} or .tiff"
        else:
            looked_for = "expected a row with this image_id and a mask_uri"
        return (
            f"{self.name}: no mask for picture {image_id!r}, {looked_for}; "
            "add it, or leave such pictures out with --allow-missing"
        )

    def read(
        self,
        uri: str,
        options: StorageOptions,
        vocabulary: Vocabulary,
        *,
        left_out_ids: Collection[int] = (),
        size_hw: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """The mask at one of the URIs; see `read_truth`."""
        return read_truth(uri, options, vocabulary, left_out_ids=left_out_ids, size_hw=size_hw)

    @property
    def n_unused(self) -> int:
        """Masks that no picture has asked for."""
        return len(self._masks) - len(self._used)


class PanopticTruth(GroundTruth):
    """The masks of COCO panoptic annotations, by the pictures' names without suffix.

    A category is the class of its name. Pixels without a segment, and those of categories without a class, are ignored.
    """

    def __init__(self, file: PanopticFile) -> None:
        super().__init__(
            file.uri, {_without_image_suffix(name): mask for name, mask in file.masks.items()}, is_folder=True
        )
        self._file = file

    def read(
        self,
        uri: str,
        options: StorageOptions,
        vocabulary: Vocabulary,
        *,
        left_out_ids: Collection[int] = (),
        size_hw: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Class ids of the vocabulary, and NO_CLASS; raises as `read_truth` does."""
        classes = class_of_category(self._file.names, vocabulary, self.name)
        segments = self._file.segments[uri]
        known = [(s, classes[c]) for s, c in segments.tolist() if c in classes and classes[c] not in left_out_ids]
        found = read_segments(uri, np.array(known, np.int64).reshape(-1, 2), options)
        try:
            check_size(found.shape, size_hw)
        except ValueError as error:
            raise InputError(f"{public_uri(uri)}: {error}") from error
        return np.where(found < 0, NO_CLASS, found).astype(np.uint16)


def open_ground_truth(uri: str, options: StorageOptions) -> GroundTruth:
    """List the masks of a manifest (.parquet, .csv, .jsonl) with a column `mask_uri`, of a folder or prefix, or of COCO
    panoptic annotations (.json).

    Raises:
        InputError: nothing there, no masks in it, or two masks for one picture.
    """
    if suffix_of_uri(uri) in _MANIFEST_SUFFIXES:
        return GroundTruth(uri, _masks_of_manifest(uri, options), is_folder=False)
    if suffix_of_uri(uri) == ".json":
        return PanopticTruth(read_panoptic(uri, options))
    place = locate(uri, options)
    try:
        info = None if place.is_http else find_info(uri, options)
    except STORAGE_ERRORS as error:
        raise storage_error(error, uri, InputError) from error
    if place.is_http or (info is not None and info["type"] != "directory") or (info is None and place.is_local):
        found = "not found" if info is None and place.is_local else "cannot be listed"
        expected = (
            "a folder of masks, or a manifest (.parquet, .csv, .jsonl) with a column mask_uri, or COCO panoptic .json"
        )
        raise InputError(f"{public_uri(uri)}: {found}, expected {expected}")
    return GroundTruth(uri, masks_of_folder(place.path if place.is_local else uri, options), is_folder=True)


def _masks_of_manifest(uri: str, options: StorageOptions) -> dict[str, str]:
    masks: dict[str, str] = {}
    n_rows = 0
    for batch in read_manifest(uri, options):
        n_rows += len(batch)
        for row in batch:
            if row.mask_uri is None:
                continue
            if row.image_id in masks:
                raise InputError(f"{public_uri(uri)}: image_id {row.image_id!r} has two masks; leave one out")
            masks[row.image_id] = row.mask_uri
    if not masks:
        raise InputError(f"{public_uri(uri)}: none of its {n_rows:,} rows has a mask_uri; fill in that column")
    return masks


def masks_of_folder(uri: str, options: StorageOptions) -> dict[str, str]:
    """URIs of the masks below a folder or prefix, by path without suffix.

    Raises:
        InputError: no masks there, or two of one name.
    """
    masks: dict[str, str] = {}
    summary = SourceSummary()
    for found in find_files(uri, options, summary):
        suffix = suffix_of(found.path)
        if suffix not in _MASK_SUFFIXES:
            summary.other_files[suffix or "without suffix"] += 1
            continue
        key = posixpath.splitext(found.path)[0]
        if key in masks:
            raise InputError(f"{found.uri}: a second mask beside {masks[key]}; remove one of them")
        masks[key] = found.uri
    if not masks:
        others = f"found {summary.other_files_text()}" if summary.other_files else "found nothing"
        raise InputError(f"{public_uri(uri)}: no masks there, {others}; expected {', '.join(_MASK_SUFFIXES)}")
    return masks


def _without_image_suffix(image_id: str) -> str:
    return posixpath.splitext(image_id)[0] if suffix_of(image_id) in IMAGE_SUFFIXES else image_id


def read_truth(
    uri: str,
    options: StorageOptions,
    vocabulary: Vocabulary,
    *,
    left_out_ids: Collection[int] = (),
    size_hw: tuple[int, int] | None = None,
) -> np.ndarray:
    """A mask of ground truth: (H, W) uint16, class ids of the vocabulary and NO_CLASS where it is ignored.

    Args:
        left_out_ids: further values that are ignored.
        size_hw: the size it must have; any if None.

    Raises:
        InputError: not there, no mask, another size, or ids outside the vocabulary; names the file.
    """
    try:
        mask = read_mask(fetch(ManifestRow(uri, uri), options), size_hw)
    except PictureError as error:
        raise InputError(f"{error.message}; expected the mask that the ground truth names") from error
    except ValueError as error:
        raise InputError(f"{public_uri(uri)}: {error}") from error
    own_ignore = IGNORE_ID_8_BIT if mask.dtype == np.uint8 else NO_CLASS
    becomes = np.full(NO_CLASS + 1, NO_CLASS, np.uint16)
    is_known = np.zeros(NO_CLASS + 1, bool)
    ids = [each.id for each in vocabulary.classes]
    becomes[ids] = ids
    ignored = [own_ignore, vocabulary.ignore_id, *left_out_ids]
    becomes[ignored] = NO_CLASS
    is_known[ids + ignored] = True
    is_unknown = ~is_known[mask]
    if is_unknown.any():
        raise InputError(f"{public_uri(uri)}: {_unknown_ids(mask[is_unknown], vocabulary, own_ignore)}")
    return becomes[mask]


def _unknown_ids(values: np.ndarray, vocabulary: Vocabulary, ignore_id: int) -> str:
    shown = few(list(map(str, np.unique(values).tolist())), _IDS_SHOWN)
    ids = [each.id for each in vocabulary.classes]
    return (
        f"holds {shown} ({values.size:,} pixels), no ids of vocabulary {vocabulary.name!r}; expected its ids, "
        f"between {min(ids)} and {max(ids)}, and {ignore_id} for ignore; convert the mask to these"
    )
