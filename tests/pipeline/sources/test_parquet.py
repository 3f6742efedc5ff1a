"""Parquet files: manifests, and tables that hold the pictures themselves."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources import SourceSummary, list_source, list_sources
from pipeline.storage import StorageOptions
from schemas.errors import ManifestError
from schemas.manifest import ManifestRow

OPTIONS = StorageOptions()
PICTURES = [b"\xff\xd8one", b"\x89PNGtwo", None]
HUGGING_FACE = pa.array(
    [None if data is None else {"bytes": data, "path": "same.jpg"} for data in PICTURES],
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
)


def parquet_file(path, /, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


def rows_of(source):
    return list(list_source(source, OPTIONS, SourceSummary()))


@pytest.mark.parametrize(
    ("column", "pictures"),
    [
        ("image", HUGGING_FACE),
        ("image", pa.array(PICTURES, pa.binary())),
        ("bytes", pa.array(PICTURES, pa.large_binary())),
        ("webp", pa.array(PICTURES, pa.binary())),
    ],
)
def test_rows_hold_the_bytes_and_empty_ones_stay_rows(tmp_path, column, pictures):
    uri = parquet_file(tmp_path / "train-0.parquet", **{column: pictures, "label": [1, 2, 3]})
    assert rows_of(uri) == [
        ManifestRow("train-0/0", uri, size_bytes=5, image=b"\xff\xd8one"),
        ManifestRow("train-0/1", uri, size_bytes=7, image=b"\x89PNGtwo"),
        ManifestRow("train-0/2", uri, size_bytes=0, image=b""),
    ]


@pytest.mark.parametrize(
    ("column", "values", "ids"),
    [
        ("image_id", ["a", "b", "c"], ["a", "b", "c"]),
        ("id", [3, 2, 1], ["3", "2", "1"]),
        ("__key__", ["x/0", "x/1", "x/2"], ["x/0", "x/1", "x/2"]),
        ("path", ["p", "q", "r"], ["p", "q", "r"]),
    ],
)
def test_the_table_names_its_pictures(tmp_path, column, values, ids):
    uri = parquet_file(tmp_path / "t.parquet", jpg=pa.array(PICTURES, pa.binary()), **{column: values})
    assert [row.image_id for row in rows_of(uri)] == ids


def test_a_picture_without_a_name_where_the_table_has_names(tmp_path):
    uri = parquet_file(tmp_path / "t.parquet", jpg=pa.array(PICTURES, pa.binary()), id=["a", None, "c"])
    with pytest.raises(ManifestError, match=r"t\.parquet: row 2: id is None, expected the picture's id"):
        rows_of(uri)


def test_several_by_a_glob_from_object_storage(s3):
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": HUGGING_FACE}), buffer)
    for name in ("data/train-0.parquet", "data/train-1.parquet"):
        s3.put(name, buffer.getvalue().to_pybytes())
    rows = list(list_sources([s3.uri("data/*.parquet")], OPTIONS, SourceSummary(), limit=4))
    assert [row.image_id for row in rows] == ["train-0/0", "train-0/1", "train-0/2", "train-1/0"]
    assert rows[0].image == b"\xff\xd8one"


def test_a_table_with_uris_is_a_manifest(tmp_path):
    uri = parquet_file(tmp_path / "m.parquet", uri=["a.jpg", "/b.jpg"], score=[1.0, 2.0])
    summary = SourceSummary()
    assert list(list_source(uri, OPTIONS, summary)) == [
        ManifestRow("a.jpg", f"{tmp_path}/a.jpg"),
        ManifestRow("/b.jpg", "/b.jpg"),
    ]
    assert summary.ignored_columns == {"score"}


def test_a_table_with_neither(tmp_path):
    uri = parquet_file(tmp_path / "t.parquet", image=["a.jpg"], label=[1])
    with pytest.raises(ManifestError) as caught:
        rows_of(uri)
    assert str(caught.value) == (
        f"{uri}: neither a column 'uri' nor pictures in one of "
        "['image', 'bytes', 'jpg', 'jpeg', 'png', 'webp'], found ['image', 'label']"
    )


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ManifestError, match=r"t\.parquet: cannot be read as Parquet"):
        rows_of(f"{tmp_path}/t.parquet")


def test_pictures_pass_a_few_at_a_time(tmp_path, monkeypatch):
    """A file of pictures is larger than memory more often than not."""
    n_rows, seen = 100, []
    uri = parquet_file(tmp_path / "t.parquet", image=pa.array([bytes(1000)] * n_rows, pa.binary()))
    real = pq.ParquetFile.iter_batches

    def spy(self, batch_size, **kwargs):
        for batch in real(self, batch_size=batch_size, **kwargs):
            seen.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert len(rows_of(uri)) == n_rows
    assert max(seen) <= 32
