"""Names of files made from image ids, which are other people's words: always below the export's folder, never twice."""

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable

import numpy as np

from schemas.errors import InputError
from schemas.manifest import IMAGE_SUFFIXES

_UNSAFE = re.compile('[\x00-\x1f\x7f<>:"|?*\\\\\ud800-\udfff]')  # no file name on Windows, or no name in UTF-8
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_MAX_PART_BYTES = 200  # file systems take 255, and suffixes come on top


def safe_path(image_id: str) -> str:
    """An image id as a relative path that stays below its folder on every system.

    `..`, `.` and empty parts, device names of Windows, trailing dots and spaces, and characters that some system takes
    for something else are spelled `%XX`; a part that is too long is cut and gets a hash.
    """
    return "/".join(map(_safe_part, image_id.split("/")))


def _safe_part(part: str) -> str:
    if not part.strip(". "):
        return "".join(f"%{ord(c):02X}" for c in part) or "%"
    part = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", part)
    if part[-1] in ". ":
        part = f"{part[:-1]}%{ord(part[-1]):02X}"
    if part[0] == "." or _DEVICES.fullmatch(part):  # hidden files are left out by many tools
        part = f"%{ord(part[0]):02X}{part[1:]}"
    if len(part.encode()) > _MAX_PART_BYTES:
        kept = part.encode()[: _MAX_PART_BYTES - 20].decode(errors="ignore")
        part = f"{kept}~{hashlib.sha256(part.encode()).hexdigest()[:16]}"
    return part


def stem(image_id: str) -> str:
    """The image id without its image suffix."""
    root, suffix = posixpath.splitext(image_id)
    return root if suffix.lower() in IMAGE_SUFFIXES and posixpath.basename(root) else image_id


class Names:
    """The path, without suffix, of each picture's files: `a/b.jpg` has `a/b`.

    Where two pictures would have the same path, also on a disk that knows no capitals, both keep their suffix: `a.jpg`
    and `a.png` have `a.jpg` and `a.png`. Eight bytes of memory a picture.

    Args:
        ids: gives all image ids, each time it is called.

    Raises:
        InputError: two pictures that have the same path even so.
    """

    def __init__(self, ids: Callable[[], Iterable[str]]) -> None:
        hashes, counts = np.unique(
            np.fromiter((_hash(safe_path(stem(each))) for each in ids()), np.uint64), return_counts=True
        )
        self._shared = set(hashes[counts > 1].tolist())
        if self._shared:
            self._refuse_doubles(ids, set(hashes[counts == 1].tolist()))

    def __getitem__(self, image_id: str) -> str:
        path = safe_path(stem(image_id))
        return safe_path(image_id) if _hash(path) in self._shared else path

    def _refuse_doubles(self, ids: Callable[[], Iterable[str]], taken: set[int]) -> None:
        found: dict[int, str] = {}
        for image_id in ids():
            if _hash(safe_path(stem(image_id))) in self._shared:
                key = _hash(safe_path(image_id))
                if key in taken or key in found:
                    other = repr(found[key]) if key in found else "another one"
                    raise InputError(
                        f"pictures {image_id!r} and {other} would have files of the same name; rename one of them"
                    )
                found[key] = image_id


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.casefold().encode(), digest_size=8).digest(), "little")
