"""The footers of many label files, read side by side: what a whole dataset adds up to, without a row of it."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from pipeline.output import FOOTER_THREADS
from pipeline.output.label_files import read_totals
from pipeline.storage import STORAGE_ERRORS, StorageOptions, join
from schemas.errors import OutputError
from schemas.labels import ShardTotals
from schemas.layout import LABELS_FOLDER

_READS_AHEAD = 4  # footers a thread, read before they are asked for


def each_totals(
    shard_ids: Iterable[str], output: str, storage: StorageOptions, unread: list[str]
) -> Iterator[tuple[str, ShardTotals]]:
    """The totals of each shard, in order, as they come; `unread` gets the ids of those without a readable footer."""

    def read(shard_id: str) -> ShardTotals | None:
        try:
            return read_totals(join(output, f"{LABELS_FOLDER}/{shard_id}.parquet"), storage)
        except (OutputError, *STORAGE_ERRORS):
            return None

    source = iter(shard_ids)
    waiting: deque[tuple[str, Future[ShardTotals | None]]] = deque()
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        while True:
            for shard_id in islice(source, FOOTER_THREADS * _READS_AHEAD - len(waiting)):
                waiting.append((shard_id, pool.submit(read, shard_id)))
            if not waiting:
                return
            shard_id, future = waiting.popleft()
            found = future.result()
            if found is None:
                unread.append(shard_id)
            else:
                yield shard_id, found
