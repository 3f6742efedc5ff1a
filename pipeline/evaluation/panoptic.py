"""COCO panoptic annotations (Kirillov et al. 2019, arXiv:1801.00868): a JSON file, and PNGs of segments."""

import json
import posixpath
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from pipeline.storage import STORAGE_ERRORS, StorageOptions, exists, join, read_bytes, storage_error
from schemas.errors import InputError, PictureError
from schemas.manifest import ManifestRow, public_uri
from schemas.vocabulary import Vocabulary

_EXPECTED = "expected COCO panoptic annotations: images, categories, and annotations with file_name and segments_info"


@dataclass(frozen=True)
class PanopticFile:
    """What the JSON file says.

    Args:
        masks: URI of the PNG by the picture's name: `image_id` where the file has one, else `file_name`.
        segments: (n, 2) segment and category ids by URI of the PNG.
        names: of the categories, by id.
    """

    uri: str
    masks: dict[str, str]
    segments: dict[str, np.ndarray]
    names: dict[int, str]


def read_panoptic(uri: str, options: StorageOptions) -> PanopticFile:
    """Read the JSON file. Its PNGs lie in the folder of its own name without `.json`, in `panoptic/`, or beside it.

    Raises:
        InputError: it cannot be read, or is no such file.
    """
    found = read_json(uri, options)
    try:
        folder = _folder_of_masks(uri, options)
        names = {int(each["id"]): str(each["name"]) for each in found["categories"]}
        images = {each["id"]: str(each.get("image_id") or each["file_name"]) for each in found["images"]}
        masks, segments = {}, {}
        for each in found["annotations"]:
            mask = join(folder, str(each["file_name"]))
            pairs = [(s["id"], s["category_id"]) for s in each["segments_info"]]
            masks[images[each["image_id"]]] = mask
            segments[mask] = np.array(pairs, np.int64).reshape(-1, 2)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{public_uri(uri)}: is none ({type(error).__name__}: {error}), {_EXPECTED}") from error
    if not masks:
        raise InputError(f"{public_uri(uri)}: has no annotations, {_EXPECTED}")
    return PanopticFile(public_uri(uri), masks, segments, names)


def read_json(uri: str, options: StorageOptions) -> Any:
    """A JSON file of the user's.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_bytes(uri, options))
    except STORAGE_ERRORS as error:
        if isinstance(error, ValueError):
            raise InputError(f"{public_uri(uri)}: is no JSON ({error})") from error
        raise storage_error(error, uri, InputError) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{public_uri(uri)}: is no JSON ({error})") from error


def _folder_of_masks(uri: str, options: StorageOptions) -> str:
    above, name = posixpath.split(uri)
    above = above or "."
    for folder in (join(above, posixpath.splitext(name)[0]), join(above, "panoptic")):
        if exists(folder, options):
            return folder
    return above


def class_of_category(names: dict[int, str], vocabulary: Vocabulary, uri: str) -> dict[int, int]:
    """Class ids by category id: a category is the class of its name. Those without one are left out.

    Raises:
        InputError: no category has the name of a class.
    """
    ids = {each.name.casefold(): each.id for each in vocabulary.classes}
    found = {category: ids[name.casefold()] for category, name in names.items() if name.casefold() in ids}
    if not found:
        some = ", ".join(sorted(names.values())[:5])
        raise InputError(
            f"{uri}: none of its {len(names):,} categories ({some}, ...) has the name of a class of vocabulary "
            f"{vocabulary.name!r}; rename them"
        )
    return found


def read_segments(uri: str, segments: np.ndarray, options: StorageOptions) -> np.ndarray:
    """A PNG of segments as categories.

    Args:
        segments: (n, 2) segment and category ids.

    Returns:
        (H, W) int64 category ids, -1 where a pixel is of none of the segments.

    Raises:
        InputError: it is not there, or no picture.
    """
    try:
        colors = decode(fetch(ManifestRow(uri, uri), options)).astype(np.int64)
    except PictureError as error:
        raise InputError(f"{error.message}; expected the PNG that the panoptic annotations name") from error
    ids = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
    order = np.argsort(segments[:, 0])
    known, categories = segments[order, 0], segments[order, 1]
    if not len(known):
        return np.full(ids.shape, -1)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, categories[place], -1)
