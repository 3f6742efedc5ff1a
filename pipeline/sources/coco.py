"""A COCO file as a source: `images`, with pictures below a folder or at their `coco_url`."""

import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from pipeline.storage import StorageOptions, exists, join, locate, read_bytes
from schemas.errors import SourceError
from schemas.manifest import ManifestRow, public_uri

_PICTURES_TRIED = 5
_UNNAMEABLE = re.compile("[\0\ud800-\udfff]")


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
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise SourceError(f"{name}: images[{number}] has no file_name, expected the name of a picture")
        _check_name(image["file_name"], "file_name", f"{name}: images[{number}]")
    if not images:
        return
    root = _find_root(uri, options, images, image_root)
    for number, image in enumerate(images):
        where = f"{name}: images[{number}]"
        yield ManifestRow(
            image_id=image["file_name"],
            uri=_coco_url(image, where) if root is None else _below(root, image["file_name"]),
            width=_side(image, "width", where),
            height=_side(image, "height", where),
        )


def _read_images(uri: str, options: StorageOptions) -> list[dict[str, Any]]:
    data = read_bytes(uri, options)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
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


def _coco_url(image: dict[str, Any], where: str) -> str:
    url = str(image["coco_url"])
    _check_name(url, "coco_url", where)
    try:
        is_address = bool(urlsplit(url).scheme)
    except ValueError:
        is_address = False
    if not is_address:
        raise SourceError(f"{where}: coco_url is {public_uri(url)[:200]!r}, expected an address such as https://...")
    return url


def _check_name(name: str, key: str, where: str) -> None:
    """JSON can spell what no file and no address has: a NUL byte, half a surrogate pair."""
    if _UNNAMEABLE.search(name):
        raise SourceError(f"{where}: {key} is {public_uri(name)[:200]!r}, which no file can be named; mend it")


def _side(image: dict[str, Any], key: str, where: str) -> int | None:
    side = image.get(key)
    if side is not None and (not isinstance(side, int) or isinstance(side, bool) or not 0 <= side < 2**31):
        raise SourceError(f"{where}: {key} is {repr(side)[:200]}, expected a whole number of pixels")
    return side
