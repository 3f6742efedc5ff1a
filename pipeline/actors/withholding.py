"""Shards whose file is kept back: their pictures failed for a cause that has nothing to do with the pictures."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from pipeline.actors.orders import ShardOrder
from pipeline.picture.fetch import fetch
from pipeline.storage import StorageOptions
from schemas.errors import PictureError
from schemas.labels import LabelRow, ShardTotals
from schemas.manifest import ManifestRow, is_web_address

UNREADABLE = frozenset(("fetch/forbidden", "fetch/storage"))
_PLACES_HELD = 1000  # the web has many servers


def is_withheld(order: ShardOrder, now: ShardTotals) -> bool:
    """Has every picture worked on now failed as the order says?"""
    if now.labelled or not now.rows or order.withhold not in ("failed", "unreadable"):
        return False
    return order.withhold == "failed" or now.failed.keys() <= UNREADABLE


class ReadBefore:
    """Remembers the last picture that each place gave: a web server, or any other kind of storage.

    Where a place refuses pictures, that one is asked for again: if it is refused as well, credentials have run out;
    otherwise these pictures are forbidden, and others are not.
    """

    def __init__(self, storage: StorageOptions) -> None:
        self._storage = storage
        self._given: OrderedDict[str, ManifestRow] = OrderedDict()
        self._lock = threading.Lock()  # two shards may be at hand

    def is_refused_now(self, done: Iterable[tuple[ManifestRow, LabelRow]]) -> bool:
        """Of pictures worked on now: does a place refuse some, and by now also the last one that it gave?"""
        refused: set[str] = set()
        for row, label in done:
            if is_forbidden(label):
                refused.add(_place(row))
            elif label.error_stage != "fetch" and row.image is None:
                self._remember(row)
        with self._lock:
            before = [self._given[place] for place in sorted(refused & self._given.keys())]
        return any(map(self._is_refused, before))

    def _remember(self, row: ManifestRow) -> None:
        with self._lock:
            self._given[_place(row)] = row
            self._given.move_to_end(_place(row))
            if len(self._given) > _PLACES_HELD:
                self._given.popitem(last=False)

    def _is_refused(self, row: ManifestRow) -> bool:
        try:
            fetch(row, self._storage)
        except PictureError as error:
            return error.kind == "forbidden"
        return False


def is_forbidden(label: LabelRow) -> bool:
    return (label.error_stage, label.error_kind) == ("fetch", "forbidden")


def _place(row: ManifestRow) -> str:
    """What refuses for all of its pictures at once: one of many web servers, or all that has a scheme."""
    scheme, is_uri, rest = row.uri.partition("://")
    if is_web_address(row.uri):
        return f"{scheme}://{rest.partition('/')[0]}".lower()
    return scheme.lower() if is_uri else ""
