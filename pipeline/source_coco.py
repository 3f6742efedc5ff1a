"""A COCO file as a source: `images`, with pictures below a folder or at their `coco_url`."""

import json
import posixpath
from collections.abc import Iterator
from typing import Any

from pipeline.storage import StorageOptions, exists, join, locate, read_bytes
from schemas.errors import SourceError
from schemas.manifest import ManifestRow, public_uri

_PICTURES_TRIED = 5


def list_coco(
    uri: str,
    options: StorageOptions,
    image_root: str | None = None,
) -> Iterator[ManifestRow]:
    """Yield a row for every entry of `images`, in its order; `image_id` is the `file_name`.

    Pictures lie below `image_root` if given, else below the JSON's folder or an `images/` folder beside it,
    whichever holds one of the first few, else at each entry's `coco_url`.

    Raises:
        SourceError: no COCO file, or pictures in none of these places.
    """
    name = public_uri(uri)
    images = _read_images(uri, options)
    for number, image in enumerate(images, start=1):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise SourceError(f"{name}: images[{number - 1}] has no file_name, expected the name of a picture")
    if not images:
        return
    root = _find_root(uri, options, images, image_root)
    for number, image in enumerate(images):
        yield ManifestRow(
            image_id=image["file_name"],
            uri=image["coco_url"] if root is None else _below(root, image["file_name"]),
            width=_side(image, "width", f"{name}: images[{number}]"),
            height=_side(image, "height", f"{name}: images[{number}]"),
        )


def _read_images(uri: str, options: StorageOptions) -> list[dict[str, Any]]:
    try:
        found = json.loads(read_bytes(uri, options))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{public_uri(uri)}: no valid JSON ({error})") from error
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list):
        raise SourceError(f"{public_uri(uri)}: no COCO file: it has no list `images`; a manifest ends in .jsonl")
    return images


def _find_root(uri: str, options: StorageOptions, images: list[dict[str, Any]], image_root: str | None) -> str | None:
    """The folder of the pictures; None if they are at their `coco_url`."""
    place = locate(uri, options)
    folder = posixpath.dirname(place.path if place.is_local else uri)
    candidates = [_absolute(image_root, options)] if image_root else [folder, join(folder, "images")]
    for root in candidates:
        if any(exists(_below(root, image["file_name"]), options) for image in images[:_PICTURES_TRIED]):
            return root
    if not image_root and all(isinstance(image.get("coco_url"), str) for image in images):
        return None
    first = images[0]["file_name"]
    raise SourceError(
        f"{public_uri(uri)}: {first} is neither in {' nor in '.join(public_uri(root) for root in candidates)}"
        + ("; correct --image-root" if image_root else ", and there is no coco_url; give --image-root FOLDER")
    )


def _absolute(root: str, options: StorageOptions) -> str:
    place = locate(root, options)
    return place.path if place.is_local else root


def _below(root: str, file_name: str) -> str:
    return file_name if file_name.startswith("/") or "://" in file_name else join(root, file_name)


def _side(image: dict[str, Any], key: str, where: str) -> int | None:
    side = image.get(key)
    if side is not None and (not isinstance(side, int) or isinstance(side, bool) or not 0 <= side < 2**31):
        raise SourceError(f"{where}: {key} is {side!r}, expected a whole number of pixels")
    return side
