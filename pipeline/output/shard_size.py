"""How many pictures a shard has where nobody chose: few in a small job, so that all actors have work to the end."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from pipeline.output.plan import Rows
from schemas.manifest_table import ManifestTable

LARGEST = 256
LEAST = 8  # fewer than these are labelled sooner than another actor has started
SMALL_JOB_SHARDS = 32
MAX_BYTES_AHEAD = 256 * 2**20  # of pictures that stand in the rows themselves


def choose_shard_size(
    batches: Iterable[Rows], asked: int | None, batch_size: int, max_bytes: int = MAX_BYTES_AHEAD
) -> tuple[int, Iterator[Rows]]:
    """The shard size for a listing, for which its first 8,192 rows are looked at ahead; and the whole listing.

    Args:
        asked: what the user chose, if anything; then nothing is looked at.
        batch_size: pictures a pass of the network; a batch holds pictures of one shard, so shards hold whole ones.
        max_bytes: most bytes of pictures in rows that are kept in memory for looking ahead. Where there are more,
            the job is taken for a large one.
    """
    if asked is not None:
        return asked, iter(batches)
    ahead: deque[Rows] = deque()
    n_rows = n_bytes = 0
    rest = iter(batches)
    for batch in rest:
        ahead.append(batch)
        n_rows += len(batch)
        n_bytes += _bytes_in(batch)
        if n_rows >= SMALL_JOB_SHARDS * LARGEST or n_bytes > max_bytes:
            return LARGEST, chain(_drained(ahead), rest)
    return _spread(n_rows, LEAST, batch_size), _drained(ahead)


def shard_size_of_update(kept: int, n_added: int, batch_size: int) -> int:
    """The shard size of an update where nobody chose: that of what it updates, unless many rows are added.

    A million pictures that come to a hundred are no small job: they would be a hundred thousand label files.

    Args:
        kept: the shard size of the output that is updated.
        n_added: rows that go into new shards.
    """
    return max(kept, _spread(n_added, 1, batch_size))


def _spread(n_rows: int, least: int, batch_size: int) -> int:
    """The shard size, up to `LARGEST`, with which rows are 32 shards of whole batches, of `least` rows each."""
    wanted = max(least, -(-n_rows // SMALL_JOB_SHARDS))
    return min(LARGEST, -(-wanted // batch_size) * batch_size)


def _drained(ahead: deque[Rows]) -> Iterator[Rows]:
    """Each is let go when it is taken: they may hold pictures."""
    while ahead:
        yield ahead.popleft()


def _bytes_in(batch: Rows) -> int:
    if isinstance(batch, ManifestTable):  # has none inside
        return 0
    return sum(len(row.image) for row in batch if row.image is not None)
