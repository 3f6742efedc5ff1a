import hashlib
from dataclasses import replace
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output import plan
from pipeline.output.plan import PlanDigest, cut_shards, read_plan, read_shard_rows, sweep_parts, write_plan
from pipeline.storage import StorageOptions
from schemas.errors import ManifestError, OutputError
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow
from schemas.manifest_table import ManifestTable, identity_lines

STORAGE = StorageOptions()


def rows(n, **fields):
    return [ManifestRow(f"{i}.jpg", f"/photos/{i}.jpg", **fields) for i in range(n)]


def first_id(shard_rows, vocabulary):
    return f"{vocabulary}-{shard_rows[0].image_id}"


def test_shards_are_runs_of_rows_in_manifest_order():
    shards = list(cut_shards([rows(5)], ("v",), 2, first_id))
    assert [shard.rows for shard in shards] == [rows(5)[0:2], rows(5)[2:4], rows(5)[4:5]]
    assert [shard.shard_id for shard in shards] == ["v-0.jpg", "v-2.jpg", "v-4.jpg"]


def test_a_shard_holds_one_vocabulary_however_rows_are_mixed():
    mixed = [replace(row, vocabulary=name) for row, name in zip(rows(6), [None, "w", "v", "w", "w", None], strict=True)]
    shards = list(cut_shards([mixed], ("v", "w"), 2, first_id))
    found = [(shard.vocabulary, [row.image_id for row in shard.rows]) for shard in shards]
    assert found == [("v", ["0.jpg", "2.jpg"]), ("w", ["1.jpg", "3.jpg"]), ("v", ["5.jpg"]), ("w", ["4.jpg"])]


def test_a_vocabulary_the_job_does_not_have_is_an_error_that_names_the_row():
    with pytest.raises(ManifestError, match=r"'0\.jpg' asks for vocabulary 'x'.*--vocabulary x"):
        list(cut_shards([rows(1, vocabulary="x")], ("v",), 2, first_id))


def test_rows_as_columns_are_cut_into_the_same_shards(tmp_path):
    some = [ManifestRow(f"{i}", f"/{i}", size_bytes=i, vocabulary="w" if i > 20 and i % 3 else None) for i in range(30)]
    columns = {name: [getattr(row, name) for row in some] for name in MANIFEST_SCHEMA.names}
    table = ManifestTable.of(pa.RecordBatch.from_pydict(columns, schema=MANIFEST_SCHEMA))
    batches = [table[start : start + 7] for start in range(0, 30, 7)]

    def identify(found, name):
        return f"{name}-{hashlib.sha256(identity_lines(found)).hexdigest()}"

    by_row = list(cut_shards([some], ("v", "w"), 4, identify))
    by_column = list(cut_shards(batches, ("v", "w"), 4, identify))
    assert [(shard.shard_id, shard.vocabulary, list(shard.rows)) for shard in by_column] == [
        (shard.shard_id, shard.vocabulary, shard.rows) for shard in by_row
    ]
    assert isinstance(by_column[1].rows, ManifestTable)  # of two batches
    refs = read_plan(write_plan(by_column, str(tmp_path), STORAGE), str(tmp_path), STORAGE)
    assert [read_shard_rows(ref, str(tmp_path), STORAGE) for ref in refs] == [shard.rows for shard in by_row]


def test_shards_are_cut_as_rows_arrive():
    endless = ([ManifestRow(str(i), str(i))] for i in count())
    assert next(iter(cut_shards(endless, ("v",), 3, first_id))).shard_id == "v-0"


def test_a_plan_is_read_back_shard_by_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MAX_ROWS_PER_FILE", 4)
    written = rows(11, image=b"\x00bytes", size_bytes=6, etag="e", split="train")
    files = write_plan(cut_shards([written], ("v",), 3, first_id), str(tmp_path), STORAGE)
    refs = read_plan(files, str(tmp_path), STORAGE)
    assert [name[:10] for name in files] == ["part-00000", "part-00001"]
    assert [(ref.shard_id, ref.n_rows) for ref in refs] == [
        ("v-0.jpg", 3),
        ("v-3.jpg", 3),
        ("v-6.jpg", 3),
        ("v-9.jpg", 2),
    ]
    assert [row for ref in refs for row in read_shard_rows(ref, str(tmp_path), STORAGE)] == written


def test_a_manifest_file_without_shards_is_an_error(tmp_path):
    (tmp_path / "manifest").mkdir()
    pq.write_table(plan.MANIFEST_SCHEMA.empty_table(), tmp_path / "manifest" / "part-00000.parquet")
    with pytest.raises(OutputError, match="names no shards"):
        read_plan(["part-00000.parquet"], str(tmp_path), STORAGE)


def test_the_digest_names_the_shards_in_their_order():
    def digest(shards):
        watched = PlanDigest()
        list(watched.watch(shards))
        return watched.record(("f",), 2)

    shards = list(cut_shards([rows(5)], ("v",), 2, first_id))
    assert (digest(shards).n_rows, digest(shards).n_shards) == (5, 3)
    assert digest(shards) == digest(shards)
    assert digest(shards).digest != digest(shards[::-1]).digest


def test_two_plans_overwrite_nothing_of_each_other_and_strays_are_swept(tmp_path):
    first = write_plan(cut_shards([rows(3)], ("v",), 3, first_id), str(tmp_path), STORAGE)
    second = write_plan(cut_shards([rows(3)], ("w",), 3, first_id), str(tmp_path), STORAGE)
    assert [ref.vocabulary for ref in read_plan([*first, *second], str(tmp_path), STORAGE)] == ["v", "w"]
    assert write_plan(cut_shards([rows(3)], ("v",), 3, first_id), str(tmp_path), STORAGE) == first
    sweep_parts(first, str(tmp_path), STORAGE)
    assert [path.name for path in (tmp_path / "manifest").iterdir()] == list(first)


@pytest.mark.parametrize(("content", "said"), [(None, "not found"), (b"no Parquet", "the output is damaged")])
def test_a_manifest_file_that_is_gone_or_damaged_is_one_line(tmp_path, content, said):
    (tmp_path / "manifest").mkdir()
    if content is not None:
        (tmp_path / "manifest" / "part.parquet").write_bytes(content)
    with pytest.raises(OutputError, match=rf"part\.parquet: .*{said}"):
        read_plan(["part.parquet"], str(tmp_path), STORAGE)
