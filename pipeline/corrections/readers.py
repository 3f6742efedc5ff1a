"""Corrected masks as other tools export them: PNG folders, COCO panoptic and run lengths, Label Studio, CVAT."""

import json
import posixpath
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle

from pipeline.evaluation.ground_truth import masks_of_folder, read_truth
from pipeline.evaluation.panoptic import read_json, read_panoptic, read_segments
from pipeline.evaluation.scores import NO_CLASS
from pipeline.export.brush import decode_brush
from pipeline.export.cvat import BACKGROUND, CLASS_FOLDER, LABELMAP
from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from pipeline.picture.mask_file import read_mask
from pipeline.storage import STORAGE_ERRORS, StorageOptions, exists, join, locate, read_bytes
from schemas.errors import InputError, PictureError
from schemas.manifest import ManifestRow, public_uri
from schemas.spelling import did_you_mean
from schemas.vocabulary import Vocabulary

_EXPECTED = "expected a folder of PNG masks, one of CVAT, or a JSON file of COCO or Label Studio"
_MISFITS = (LookupError, TypeError, ValueError, AttributeError)  # what comes of a file that is built otherwise


@dataclass(frozen=True)
class Corrections:
    """Masks by picture.

    Args:
        name: of the file or folder, for people.
        keys: image ids, or names of files without suffix as exports have them.
        read: the mask of a key: (H, W) class ids, and the vocabulary's `ignore_id`; raises InputError.
    """

    name: str
    keys: frozenset[str]
    read: Callable[[str], np.ndarray]


def open_corrections(uri: str, words: Vocabulary, options: StorageOptions) -> Corrections:
    """Find out what a file or folder of corrections is.

    Raises:
        InputError: it cannot be read, or is none of these.
    """
    if uri.lower().endswith(".json"):
        return _of_json(uri, words, options)
    place = locate(uri, options)
    uri = place.path if place.is_local else uri
    try:
        is_there = not place.is_local or exists(uri, options)
        if exists(join(uri, LABELMAP), options):
            return _of_cvat(uri, words, options)
        for name in ("panoptic.json", "annotations.json"):
            if exists(join(uri, name), options):
                return _of_json(join(uri, name), words, options)
    except STORAGE_ERRORS as error:
        raise InputError(f"{public_uri(uri)}: cannot be read ({error}), {_EXPECTED}") from error
    if not is_there:
        raise InputError(f"{public_uri(uri)}: not found, {_EXPECTED}")
    return _of_folder(uri, words, options)


def _of_json(uri: str, words: Vocabulary, options: StorageOptions) -> Corrections:
    document = read_json(uri, options)
    name = public_uri(uri)
    try:
        if isinstance(document, list):
            return _of_label_studio(name, document, words)
        if any("segments_info" in each for each in document["annotations"]):
            return _of_panoptic(uri, words, options)
        return _of_run_lengths(name, document, words)
    except _MISFITS as error:
        raise InputError(f"{name}: is no such file ({type(error).__name__}: {error}), {_EXPECTED}") from error


def _class_ids(names: Iterable[str], words: Vocabulary, uri: str) -> dict[str, int]:
    """Ids by name; every name has to be a class."""
    ids = {each.name.casefold(): each.id for each in words.classes}
    found = {}
    for name in names:
        if name.casefold() not in ids:
            hint = did_you_mean(name, [each.name for each in words.classes])
            raise InputError(f"{uri}: {name!r} is no class of vocabulary {words.name!r}{hint}; rename it")
        found[name] = ids[name.casefold()]
    return found


def _of_folder(uri: str, words: Vocabulary, options: StorageOptions) -> Corrections:
    """Class ids as they are, or, as `classes.json` of an export says, one higher."""
    shifted = False
    for folder, table in ((uri, "classes.json"), (posixpath.dirname(uri.rstrip("/")) or ".", "classes.json")):
        with suppress(*STORAGE_ERRORS, *_MISFITS):
            shifted = bool(json.loads(read_bytes(join(folder, table), options))["reduce_zero_label"])
            break
    below = next((join(uri, name) for name in ("annotations", "labels") if exists(join(uri, name), options)), uri)
    masks = masks_of_folder(below, options)

    def read(key: str) -> np.ndarray:
        if not shifted:
            return _with_ignore(read_truth(masks[key], options, words), words)
        try:
            found = read_mask(fetch(ManifestRow(key, masks[key]), options)).astype(np.int64) - 1
        except (PictureError, ValueError) as error:
            raise InputError(f"{public_uri(masks[key])}: {error}; expected a mask of class ids") from error
        unknown = sorted(set(np.unique(found).tolist()) - {-1, *(each.id for each in words.classes)})
        if unknown:
            raise InputError(f"{public_uri(masks[key])}: holds {unknown[0] + 1}, no class id and one; correct it")
        return np.where(found < 0, words.ignore_id, found)

    return Corrections(public_uri(uri), frozenset(masks), read)


def _with_ignore(mask: np.ndarray, words: Vocabulary) -> np.ndarray:
    return np.where(mask == NO_CLASS, words.ignore_id, mask)


def _of_panoptic(uri: str, words: Vocabulary, options: StorageOptions) -> Corrections:
    file = read_panoptic(uri, options)
    used = {c for pairs in file.segments.values() for c in pairs[:, 1].tolist()}
    names = {c: file.names.get(c, f"category {c}") for c in used}
    ids = _class_ids(names.values(), words, file.uri)
    class_of = {c: ids[name] for c, name in names.items()}
    masks = file.masks

    def read(key: str) -> np.ndarray:
        pairs = [(segment, class_of[category]) for segment, category in file.segments[masks[key]].tolist()]
        found = read_segments(masks[key], np.array(pairs, np.int64).reshape(-1, 2), options)
        return np.where(found < 0, words.ignore_id, found)

    return Corrections(file.uri, frozenset(masks), read)


def _of_run_lengths(name: str, document: dict[str, Any], words: Vocabulary) -> Corrections:
    images = {each["id"]: each for each in document["images"]}
    keys = {str(each.get("image_id") or each["file_name"]): each["id"] for each in images.values()}
    categories = {each["id"]: str(each["name"]) for each in document["categories"]}
    used = {each["category_id"] for each in document["annotations"]}
    ids = _class_ids({categories[c] for c in used}, words, name)
    of_image: dict[Any, list[dict[str, Any]]] = {}
    for each in document["annotations"]:
        of_image.setdefault(each["image_id"], []).append(each)

    def read(key: str) -> np.ndarray:
        image = images[keys[key]]
        size_hw = (int(image["height"]), int(image["width"]))
        mask = np.full(size_hw, words.ignore_id)
        try:
            for each in of_image.get(keys[key], []):
                mask[_region(each["segmentation"], size_hw)] = ids[categories[each["category_id"]]]
        except (*_MISFITS, IndexError) as error:
            raise InputError(
                f"{name}: the annotations of {key!r} cannot be read ({error}); export them again"
            ) from error
        return mask

    return Corrections(name, frozenset(keys), read)


def _region(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, from run lengths of either kind or polygons."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        encoded: Any = {**segmentation, "counts": segmentation["counts"].encode()}
    elif isinstance(segmentation, dict):
        encoded = rle.frPyObjects(segmentation, *size_hw)
    else:
        encoded = rle.merge(rle.frPyObjects(segmentation, *size_hw))
    if tuple(encoded["size"]) != size_hw:
        raise ValueError(f"run lengths of {encoded['size'][1]} x {encoded['size'][0]} pixels")
    return rle.decode(encoded).astype(bool)


def _of_label_studio(name: str, tasks: list[dict[str, Any]], words: Vocabulary) -> Corrections:
    """The last annotation of each task that was not cancelled; tasks with predictions alone were not corrected."""
    found: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        done = [each for each in task.get("annotations", ()) if not each.get("was_cancelled")]
        if done:
            data = task["data"]
            last = max(done, key=lambda each: str(each.get("updated_at", "")))
            found[str(data.get("image_id") or posixpath.basename(data["image"]))] = [
                each for each in last["result"] if each["type"] == "brushlabels"
            ]
    if not found:
        raise InputError(f"{name}: none of its {len(tasks):,} tasks has an annotation; export them after correcting")
    ids = _class_ids({n for some in found.values() for each in some for n in each["value"]["brushlabels"]}, words, name)

    def read(key: str) -> np.ndarray:
        if not found[key]:
            raise InputError(f"{name}: the annotation of {key!r} has no region, so no size; take it out")
        size_hw = (int(found[key][0]["original_height"]), int(found[key][0]["original_width"]))
        mask = np.full(size_hw, words.ignore_id)
        try:
            for each in found[key]:
                mask[decode_brush(each["value"]["rle"], size_hw)] = ids[each["value"]["brushlabels"][0]]
        except _MISFITS as error:
            raise InputError(f"{name}: a region of {key!r} cannot be read ({error}); export it again") from error
        return mask

    return Corrections(name, frozenset(found), read)


def _of_cvat(uri: str, words: Vocabulary, options: StorageOptions) -> Corrections:
    name = public_uri(join(uri, LABELMAP))
    lines = read_bytes(join(uri, LABELMAP), options).decode("utf-8", "replace").splitlines()
    parts = [line.split(":") for line in lines if line.strip() and not line.startswith("#")]
    try:
        colors = {part[0]: [int(value) for value in part[1].split(",")] for part in parts}
        codes = {label: r << 16 | g << 8 | b for label, (r, g, b) in colors.items()}
    except (ValueError, IndexError) as error:
        raise InputError(f"{name}: found no lines `label:r,g,b::`, {_EXPECTED}") from error
    known = {each.name.replace(":", ";"): each.name for each in words.classes}
    ids = _class_ids([known.get(label, label) for label in codes if label != BACKGROUND], words, name)
    class_of = {code: ids[known.get(label, label)] for label, code in codes.items() if label != BACKGROUND}
    class_of[codes.get(BACKGROUND, 0)] = words.ignore_id
    masks = masks_of_folder(join(uri, CLASS_FOLDER), options)

    def read(key: str) -> np.ndarray:
        try:
            rgb = decode(fetch(ManifestRow(key, masks[key]), options)).astype(np.int64)
        except PictureError as error:
            raise InputError(f"{error.message}; expected a mask of colours") from error
        code, place = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], return_inverse=True)
        unknown = [each for each in code.tolist() if each not in class_of]
        if unknown:
            color = tuple(unknown[0].to_bytes(3, "big"))
            raise InputError(
                f"{public_uri(masks[key])}: holds the colour {color}, which {LABELMAP} lacks; add it there"
            )
        return np.array([class_of[each] for each in code.tolist()])[place].reshape(rgb.shape[:2])

    return Corrections(public_uri(uri), frozenset(masks), read)
