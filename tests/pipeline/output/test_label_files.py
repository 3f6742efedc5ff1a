"""Label files as other programs read them, and footers that add up."""

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline.output.label_files
from pipeline.output.label_files import (
    LabelFileError,
    label_file_bytes,
    merge_totals,
    read_footer,
    read_rows,
    read_totals,
    totals_of,
)
from pipeline.storage import StorageOptions
from schemas.errors import OutputError
from schemas.labels import LABEL_SCHEMA, LabelRow, ShardTotals

OPTIONS = StorageOptions()
IDENTITY = {"shard_id": "0123abcd", "vocabulary": "pets", "model": "escnet-nano"}


def stats(class_id: int, name: str, pixels: int) -> dict:
    shares = ("confidence_mean", "confidence_p10", "confidence_p50", "confidence_p90", "margin_mean")
    return {"class_id": class_id, "name": name, "pixels": pixels, "fraction": pixels / 100} | dict.fromkeys(shares, 0.5)


def labelled(image_id: str, *classes: dict, seed: int = 0) -> LabelRow:
    """A row of a 10 x 10 picture."""
    noise = np.random.default_rng(seed).bytes(3000)
    pixels = sum(each["pixels"] for each in classes)
    mean = 0.5 if classes else None
    return LabelRow(
        image_id, f"/photos/{image_id}", "pets", "labelled", width=10, height=10, mask=noise[:1000],
        evidence=noise[1000:], classes=list(classes), confidence_mean=mean, margin_mean=mean,
        entropy_mean=0.1, ignored_fraction=1 - pixels / 100,
    )  # fmt: skip


def failed(image_id: str, stage: str, kind: str) -> LabelRow:
    return LabelRow(image_id, f"/photos/{image_id}", "pets", "failed", stage, kind, "why it failed")


ROWS = [
    labelled("b.jpg", stats(2, "dog", 30), stats(7, "cat", 50), seed=1),
    failed("a.jpg", "decode", "truncated"),
    labelled("ü/c.jpg", stats(7, "cat", 1), seed=2),
    failed("d.jpg", "fetch", "not_found"),
    labelled("e.jpg", seed=3),
    failed("f.jpg", "decode", "truncated"),
]
TOTALS = ShardTotals(
    rows=6,
    labelled=3,
    failed={"decode/truncated": 2, "fetch/not_found": 1},
    pixels=300,
    ignored_pixels=219,
    classes={2: {"name": "dog", "pixels": 30, "pictures": 1}, 7: {"name": "cat", "pixels": 51, "pictures": 2}},
)


@pytest.fixture
def path(tmp_path) -> str:
    file = tmp_path / "shard.parquet"
    file.write_bytes(label_file_bytes(ROWS, IDENTITY))
    return str(file)


def test_rows_come_back_as_they_were_and_in_order(path):
    assert read_rows(path, OPTIONS) == ROWS


def test_columns_are_the_schema_for_any_reader(path):
    assert pq.read_schema(path).remove_metadata().equals(LABEL_SCHEMA)
    question = """
        select c.name, sum(c.pixels)::bigint as pixels, count(*) as pictures
        from (select unnest(classes) as c from read_parquet(?)) group by all order by pixels
    """
    assert duckdb.execute(question, [path]).fetchall() == [("dog", 30, 1), ("cat", 51, 2)]
    question = "select image_id, status, error_kind, mask is null, octet_length(evidence) from read_parquet(?) limit 2"
    assert duckdb.execute(question, [path]).fetchall() == [
        ("b.jpg", "labelled", None, False, 2000),
        ("a.jpg", "failed", "truncated", True, None),
    ]


def test_equal_rows_and_identity_give_equal_bytes():
    reordered = dict(reversed(IDENTITY.items()))
    assert label_file_bytes([replace(row) for row in ROWS], reordered) == label_file_bytes(ROWS, IDENTITY)
    assert label_file_bytes(ROWS, {**IDENTITY, "model": "escnet-b16"}) != label_file_bytes(ROWS, IDENTITY)


def test_pictures_are_not_compressed_again_and_the_rest_is(path):
    group = pq.read_metadata(path).row_group(0)
    found = {group.column(k).path_in_schema: group.column(k).compression for k in range(group.num_columns)}
    assert {name for name, codec in found.items() if codec == "UNCOMPRESSED"} == {"mask", "evidence"}
    assert set(found.values()) == {"UNCOMPRESSED", "ZSTD"}


@pytest.mark.parametrize("place", [0.05, 0.3, 0.5])
def test_flipped_bit_is_found_by_the_page_checksums(path, tmp_path, place):
    data = bytearray(Path(path).read_bytes())
    masks = data.index(ROWS[0].mask)
    data[masks + int(place * 1000)] ^= 4
    (tmp_path / "damaged.parquet").write_bytes(data)
    with pytest.raises(OutputError, match=r"damaged\.parquet: found Parquet that cannot be read"):
        read_rows(str(tmp_path / "damaged.parquet"), OPTIONS)


def test_footer_says_what_the_shard_is_and_holds(path):
    footer = read_footer(path, OPTIONS)
    assert {key: footer[key] for key in IDENTITY} == IDENTITY
    assert footer["schema_version"] == 1
    assert set(footer) == {*IDENTITY, "schema_version", "totals"}
    assert read_totals(path, OPTIONS) == TOTALS == totals_of(ROWS)
    assert json.loads(pq.read_metadata(path).metadata[b"escnet.shard"]) == footer


def test_empty_shard_has_a_file_too(tmp_path):
    (tmp_path / "empty.parquet").write_bytes(label_file_bytes([], IDENTITY))
    assert read_rows(str(tmp_path / "empty.parquet"), OPTIONS) == []
    assert read_totals(str(tmp_path / "empty.parquet"), OPTIONS) == ShardTotals()


def test_totals_of_shards_add_up_to_those_of_all_rows():
    parts = [totals_of(ROWS[:2]), totals_of(ROWS[2:4]), totals_of([]), totals_of(ROWS[4:])]
    assert merge_totals(parts) == TOTALS
    assert parts[0].classes[7] == {"name": "cat", "pixels": 50, "pictures": 1}  # left as they were


class WatchedFile(io.BytesIO):
    n_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.n_read += len(data)
        return data


def test_footer_is_read_without_the_rows(monkeypatch):
    rows = [replace(ROWS[0], image_id=str(k), mask=np.random.default_rng(k).bytes(100_000)) for k in range(20)]
    file = WatchedFile(label_file_bytes(rows, IDENTITY))
    monkeypatch.setattr(pipeline.output.label_files, "open_file", lambda *_, **__: file)
    assert read_totals("s3://bucket/labels/a.parquet", OPTIONS).rows == 20
    assert file.n_read <= 2**17


def test_label_files_are_read_from_object_storage(s3):
    uri = s3.put("labels/a.parquet", label_file_bytes(ROWS, IDENTITY))
    assert read_totals(uri, OPTIONS) == TOTALS
    assert read_rows(uri, OPTIONS) == ROWS


def test_footer_longer_than_the_first_read_is_read_whole(tmp_path):
    classes = [stats(k, f"a class with a name of some length, number {k}", 1) for k in range(4000)]
    file = tmp_path / "long.parquet"
    file.write_bytes(label_file_bytes([replace(ROWS[0], classes=classes)], IDENTITY))
    assert len(read_totals(str(file), OPTIONS).classes) == 4000


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "no readable Parquet footer"),
        (b"PAR1", "no readable Parquet footer"),
        (b"PAR1" + b"\xff" * 40 + b"PAR1", "no readable Parquet footer"),
        (label_file_bytes(ROWS, IDENTITY)[:-9], "no readable Parquet footer"),
        (None, "a Parquet file without escnet.shard in its footer"),
    ],
    ids=["empty", "short", "nonsense", "cut", "foreign"],
)
def test_file_that_is_no_label_file_is_named(tmp_path, content, found):
    file = tmp_path / "labels.parquet"
    if content is None:
        pq.write_table(pa.table({"a": [1]}), file)
    else:
        file.write_bytes(content)
    with pytest.raises(OutputError) as caught:
        read_footer(str(file), OPTIONS)
    assert str(caught.value).startswith(f"{file}: found {found}, expected a label file of schema version 1; ")
    with pytest.raises(OutputError, match=r"labels\.parquet: found"):
        read_rows(str(file), OPTIONS)


def test_newer_schema_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.output.label_files, "SCHEMA_VERSION", 2)
    file = tmp_path / "newer.parquet"
    file.write_bytes(label_file_bytes(ROWS, IDENTITY))
    monkeypatch.undo()
    with pytest.raises(OutputError, match="found schema version 2, expected a label file of schema version 1"):
        read_totals(str(file), OPTIONS)


def test_a_damaged_file_is_told_of_across_processes():
    error = LabelFileError("out/labels/a.parquet", "no Parquet")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
