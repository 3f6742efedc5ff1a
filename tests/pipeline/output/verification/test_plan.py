"""Job, vocabularies, manifest files and names are compared with each other."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output.plan import Shard, read_shard_rows, write_plan
from pipeline.output.verify import verify
from schemas.manifest import MANIFEST_SCHEMA
from tests.pipeline.labelled_output import STORAGE
from tests.pipeline.output.verification.whole import N_FILES, RESTORE, faults, refs_of


def part(output):
    (path,) = output.glob("manifest/*")
    return path


def edit_job(output, change):
    job = json.loads((output / "job.json").read_text())
    change(job)
    (output / "job.json").write_text(json.dumps(job))


@pytest.mark.parametrize("name", ["labels/0123.parquet", "labels/notes.txt", "labels/deep/a.parquet", "labels/.mine"])
def test_a_file_of_no_shard_is_found(output, name):
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_bytes(b"")
    assert faults(output) == [
        f"{name}: found a file of no shard, expected only the files of shards that the plan names; "
        "remove it, or move it out of the output"
    ]


@pytest.mark.parametrize("name", ["part-00001-01234567.parquet", "notes.txt", "deep/part.parquet"])
def test_a_file_of_no_plan_is_found(output, name):
    (output / "manifest" / name).parent.mkdir(exist_ok=True)
    (output / "manifest" / name).write_bytes(b"")
    (said,) = faults(output)
    assert said.startswith(f"manifest/{name}: found a file of no plan, expected only the manifest files that job.json")


def test_what_killed_writers_left_is_a_note(output):
    for folder in ("labels", "manifest"):
        (output / folder / f".{'0' * 32}.partial").write_bytes(b"half")
        (output / folder / ".DS_Store").write_bytes(b"how a desktop shows the folder")
    report = verify(str(output), STORAGE, workers=1)
    assert report.holds
    assert [note.split(" of ")[0] for note in report.notes] == ["2 temporary files"]


@pytest.mark.parametrize("text", ["", "{}", '{"format": "escnet-job/9"}', "\x00"])
def test_a_damaged_job_is_a_finding(output, text):
    (output / "job.json").write_text(text)
    (said,) = faults(output)
    assert said.startswith("job.json: found no job record (")
    assert said.endswith(f"expected the record that `escnet annotate` wrote{RESTORE}")


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("n_rows", 8, "found rows: 7, expected 8, as in job.json"),
        ("n_shards", 5, "found shards: 4, expected 5, as in job.json"),
        ("digest", "0", "found digest of the shards: "),
    ],
)
def test_counts_that_are_not_the_jobs_are_found(output, key, value, found):
    edit_job(output, lambda job: job["manifest"].update({key: value}))
    (said,) = faults(output)
    assert said.startswith(f"manifest/: {found}")


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["model"].update(fingerprint="4567"),
        lambda job: job["options"].update(max_pixels=999_999),
        lambda job: job["vocabularies"].update(dict.fromkeys(job["vocabularies"], "0")),
    ],
    ids=["model", "options", "vocabularies"],
)
def test_a_job_that_its_shards_are_not_named_by_is_found(output, change):
    edit_job(output, change)
    said = faults(output)
    assert sum("found other rows of shard" in line for line in said) == N_FILES
    assert sum("in the footer" in line for line in said) == N_FILES


def test_changed_rows_of_the_manifest_are_found(output):
    refs = refs_of(output)
    shards = [Shard(ref.shard_id, ref.vocabulary, read_shard_rows(ref, str(output), STORAGE)) for ref in refs]
    shards[1].rows.reverse()
    assert write_plan(shards, str(output), STORAGE) == (part(output).name,)
    assert faults(output) == [
        f"manifest/{part(output).name}: found other rows of shard {refs[1].shard_id} (row group 1), expected the rows, "
        f"vocabulary, model and options of job.json that the shard is named by{RESTORE}"
    ]


def test_columns_of_another_type_are_found(output):
    path = part(output)
    groups, footer = pq.ParquetFile(path), pq.read_metadata(path).metadata
    schema = MANIFEST_SCHEMA.set(0, pa.field("image_id", pa.binary(), nullable=False))
    tables = [groups.read_row_group(k).cast(schema) for k in range(groups.num_row_groups)]
    with pq.ParquetWriter(path, schema, store_schema=False) as writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata(footer)
    said = faults(output)
    assert sum("that cannot be read, expected those that the plan wrote" in line for line in said) == N_FILES


def test_a_shard_planned_twice_is_found(output):
    refs = refs_of(output)
    shards = [Shard(ref.shard_id, ref.vocabulary, read_shard_rows(ref, str(output), STORAGE)) for ref in refs]
    part(output).unlink()
    (name,) = write_plan([shards[0], *shards], str(output), STORAGE)
    edit_job(output, lambda job: job["manifest"].update(files=[name]))
    assert f"manifest/: found shard {refs[0].shard_id} 2 times, expected every shard once{RESTORE}" in faults(output)


def test_a_torn_page_of_the_manifest_is_found(output):
    data = bytearray(part(output).read_bytes())
    data[60] ^= 1
    part(output).write_bytes(data)
    (said,) = faults(output)
    assert "that cannot be read, expected those that the plan wrote" in said


@pytest.mark.parametrize("content", [b"", b"PAR1", None], ids=["empty", "short", "gone"])
def test_a_manifest_file_that_cannot_be_read_leaves_its_labels_unknown(output, content):
    path = part(output)
    if content is None:
        path.unlink()
        found = "a file that cannot be read (not found)"
    else:
        path.write_bytes(content)
        found = "no readable list of shards in its footer"
    said = faults(output)
    assert said[0].startswith(f"manifest/{path.name}: found {found}, expected ")
    assert sum("found a file of unknown shard" in line for line in said) == N_FILES
    assert len(said) == 1 + N_FILES


def test_a_vocabulary_that_is_not_as_it_was_used_is_found(output):
    words, many = output / "vocabularies" / "words.yaml", output / "vocabularies" / "many.yaml"
    words.write_text(words.read_text().replace("land", "soil"))
    many.unlink()
    said = faults(output)
    assert len(said) == 2
    assert said[0].startswith("vocabularies/words.yaml: found fingerprint ")
    assert said[1].startswith("vocabularies/many.yaml: found no vocabulary that can be read (")
