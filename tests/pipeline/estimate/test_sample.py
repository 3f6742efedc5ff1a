"""A sample has its share of every part of a listing, whatever its length and however it comes."""

import pyarrow as pa
import pytest

from pipeline.estimate.sample import ListingSample
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow
from schemas.manifest_table import ManifestTable


def rows(n, **fields):
    return [ManifestRow(f"{i}", f"/{i}", **fields) for i in range(n)]


def watched(batches, n_wanted):
    sample = ListingSample(n_wanted)
    assert sum(map(len, sample.watch(batches))) == sample.n_rows
    return sample


@pytest.mark.parametrize("n", [1, 7, 8, 16, 17, 100, 1001])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_sample_is_spread_evenly(n, batch):
    listed = rows(n)
    sample = watched([listed[i : i + batch] for i in range(0, n, batch)], 8)
    places = [int(row.image_id) for row in sample.rows()]
    assert len(set(places)) == len(places) == min(n, 8)
    quarter = -(-n // 4)
    for start in range(0, n, quarter):  # two of eight in every quarter, give or take one
        assert n < 32 or 1 <= sum(start <= place < start + quarter for place in places) <= 3


def test_the_batches_are_of_no_account():
    listed = rows(500)
    by_row = watched(([row] for row in listed), 8).rows()
    assert watched([listed], 8).rows() == watched([listed[:123], listed[123:]], 8).rows() == by_row


def test_shards_are_counted_as_they_will_be_cut():
    mixed = [*rows(5), *rows(4, vocabulary="w"), *rows(2, vocabulary="v")]
    assert watched([mixed], 8).n_shards(3, "v") == 3 + 2  # seven of v, four of w
    columns = {name: [getattr(row, name) for row in mixed] for name in MANIFEST_SCHEMA.names}
    table = ManifestTable.of(pa.RecordBatch.from_pydict(columns, schema=MANIFEST_SCHEMA))
    assert watched([table], 8).n_shards(3, "v") == 5
    assert watched([table], 8).rows() == watched([mixed], 8).rows()
