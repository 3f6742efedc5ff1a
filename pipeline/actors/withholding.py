"""Shards whose file is kept back: their pictures failed for a cause that has nothing to do with the pictures."""

from collections.abc import Sequence

from pipeline.actors.orders import ShardOrder
from pipeline.picture.fetch import fetch
from pipeline.storage import StorageOptions
from schemas.errors import PictureError
from schemas.labels import LabelRow, ShardTotals
from schemas.manifest import ManifestRow

UNREADABLE = frozenset(("fetch/forbidden", "fetch/storage"))


def is_withheld(order: ShardOrder, now: ShardTotals) -> bool:
    """Has every picture worked on now failed as the order says?"""
    if now.labelled or not now.rows or order.withhold not in ("failed", "unreadable"):
        return False
    return order.withhold == "failed" or now.failed.keys() <= UNREADABLE


class ReadBefore:
    """Remembers the last picture that each kind of storage gave.

    Where storage refuses pictures, that one is asked for again: if it is refused as well, credentials have run out;
    otherwise these pictures are forbidden, and others are not.
    """

    def __init__(self, storage: StorageOptions) -> None:
        self._storage = storage
        self._given: dict[str, ManifestRow] = {}

    def is_refused_now(self, rows: Sequence[ManifestRow], labels: Sequence[LabelRow]) -> bool:
        """Does storage refuse pictures of a shard, and by now also the last one that it gave?"""
        refused: set[str] = set()
        for row, label in zip(rows, labels, strict=True):
            if is_forbidden(label):
                refused.add(_scheme(row))
            elif label.error_stage != "fetch" and row.image is None:
                self._given[_scheme(row)] = row
        return any(self._is_refused(self._given[scheme]) for scheme in refused & self._given.keys())

    def _is_refused(self, row: ManifestRow) -> bool:
        try:
            fetch(row, self._storage)
        except PictureError as error:
            return error.kind == "forbidden"
        return False


def is_forbidden(label: LabelRow) -> bool:
    return (label.error_stage, label.error_kind) == ("fetch", "forbidden")


def _scheme(row: ManifestRow) -> str:
    return row.uri.partition("://")[0].lower() if "://" in row.uri else ""
