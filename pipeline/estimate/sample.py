"""A sample spread evenly over a listing of unknown length, and how many pictures the listing has."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pyarrow.compute as pc

from schemas.manifest import ManifestRow
from schemas.manifest_table import ManifestTable


class ListingSample:
    """Looks at a listing as it passes, and keeps every so-manieth picture of it, so that each folder has its share.

    Args:
        n_wanted: pictures to have in the end, if the listing has so many.
    """

    def __init__(self, n_wanted: int) -> None:
        self.n_rows = 0
        self._n_wanted = n_wanted
        self._step = 1  # doubled whenever twice as many are kept as are wanted
        self._kept: list[ManifestRow] = []
        self._vocabularies: Counter[str | None] = Counter()

    def watch(self, batches: Iterable[Sequence[ManifestRow]]) -> Iterator[Sequence[ManifestRow]]:
        """The batches, looked at."""
        for batch in batches:
            self._kept += [batch[place] for place in range(-self.n_rows % self._step, len(batch), self._step)]
            while len(self._kept) > 2 * self._n_wanted:
                self._kept, self._step = self._kept[::2], 2 * self._step
            self.n_rows += len(batch)
            self._vocabularies.update(_vocabularies(batch))
            yield batch

    def rows(self) -> list[ManifestRow]:
        """The sample, in the order of the listing."""
        n = len(self._kept)
        wanted = min(n, self._n_wanted)
        return [self._kept[(2 * k + 1) * n // (2 * wanted)] for k in range(wanted)]

    def n_shards(self, shard_size: int, default: str) -> int:
        """Into how many shards the listing is cut; rows that name no vocabulary take the default."""
        counts: Counter[str] = Counter()
        for name, count in self._vocabularies.items():
            counts[name or default] += count
        return sum(-(-count // shard_size) for count in counts.values())


def _vocabularies(batch: Sequence[ManifestRow]) -> Counter[str | None]:
    if isinstance(batch, ManifestTable):
        counts = pc.value_counts(batch.batch.column("vocabulary")).to_pylist()
        return Counter({each["values"]: each["counts"] for each in counts})
    return Counter(row.vocabulary for row in batch)
