"""A label file is compared with its plan, its job and its own encoding."""

import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output.verification.labels import this_writer
from pipeline.output.verify import verify
from tests.pipeline.labelled_output import STORAGE
from tests.pipeline.output.verification.whole import REDO, edit_footer, faults, label_file, rewrite

VERSION = pa.cpp_version.encode()
OTHER_VERSION = b"9" * (len(VERSION) - 4) + b".8.7"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda _: b"", "no readable Parquet footer"),
        (lambda _: b"PAR1" + b"\xff" * 40 + b"PAR1", "no readable Parquet footer"),
        (lambda data: data[: len(data) // 2], "no readable Parquet footer"),
        (lambda data: data + b"\0", "no readable Parquet footer"),
        (lambda data: b"\0" + data, "Parquet that cannot be read"),
    ],
    ids=["empty", "nonsense", "torn", "longer", "shifted"],
)
def test_a_damaged_file_is_named(output, damage, found):
    path = label_file(output)
    path.write_bytes(damage(path.read_bytes()))
    assert faults(output) == [
        f"labels/{path.name}: found {found}, expected a label file of schema version 1 with 2 rows{REDO}"
    ]


def test_a_foreign_parquet_file_is_named(output):
    pq.write_table(pa.table({"a": [1]}), label_file(output))
    assert "found a Parquet file without escnet.shard in its footer" in faults(output)[0]


def test_the_file_of_another_shard_is_found(output):
    shutil.copy(label_file(output, 1), label_file(output, 0))
    said = "\n".join(faults(output))
    assert "found shard_id " in said
    assert "picture 'a.jpg': found image_id 'ü/c.jpg', expected 'a.jpg', as in the manifest" in said


def test_bytes_that_the_rows_do_not_make_are_found_where_all_checksums_hold(output):
    edit_footer(label_file(output), lambda _: None)
    (said,) = faults(output)
    assert "found bytes that its rows do not make (the first at offset " in said


@pytest.mark.parametrize(
    ("identity", "found"),
    [
        ({"model": "f"}, "model 'f' in the footer, expected '0123', as in the job"),
        ({"options": {}}, "options {} in the footer, expected {"),
        ({"vocabulary": "other"}, "vocabulary 'other' in the footer, expected 'words'"),
        ({"vocabulary_fingerprint": "0"}, "vocabulary_fingerprint '0' in the footer"),
        ({"host": "here"}, "host 'here' in the footer, expected None"),
    ],
)
def test_a_file_of_another_job_is_found(output, identity, found):
    rewrite(label_file(output), lambda rows: rows, **identity)
    (said,) = faults(output)
    assert found in said


def test_totals_that_are_not_those_of_the_rows_are_found(output):
    edit_footer(label_file(output), lambda footer: footer["totals"].update(pixels=1))
    (said,) = faults(output)
    assert "found totals in the footer, expected those of its rows" in said


@pytest.mark.parametrize("totals", [{}, {"rows": "x"}, {"classes": {"a": {}}}, {"classes": {"1": {"name": 3}}}, [], 1])
def test_totals_that_are_none_are_found(output, totals):
    edit_footer(label_file(output), lambda footer: footer.update(totals=totals))
    assert len(faults(output)) >= 1
    assert len(faults(output, sample=1)) <= len(faults(output))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:1],
        lambda rows: [*rows, rows[-1]],
        lambda rows: rows[::-1],
        lambda rows: [rows[0], replace(rows[1], image_id="a.jpg")],
    ],
    ids=["lost", "doubled", "out of order", "named twice"],
)
def test_rows_that_are_not_those_of_the_manifest_are_found(output, change):
    rewrite(label_file(output), change)
    assert not verify(str(output), STORAGE, workers=1).holds


def test_a_file_of_the_version_that_the_job_began_with_is_checked_but_for_its_bytes(output):
    path, job = label_file(output), output / "job.json"
    path.write_bytes(path.read_bytes().replace(b"version " + VERSION, b"version " + OTHER_VERSION))
    (said,) = faults(output)
    assert f"found Parquet writer 'parquet-cpp-arrow version {OTHER_VERSION.decode()}'" in said
    assert f"verify with pyarrow=={OTHER_VERSION.decode()}, which compares every byte" in said
    job.write_text(job.read_text().replace(pa.__version__, OTHER_VERSION.decode()))
    report = verify(str(output), STORAGE, workers=1)
    assert (report.holds, report.n_files) == (True, 4)
    (note,) = report.notes
    assert note.startswith(f"1 label files were written by parquet-cpp-arrow version {OTHER_VERSION.decode()}")


def test_a_writer_that_is_none_is_found(output):
    path = label_file(output)
    path.write_bytes(path.read_bytes().replace(b"parquet-cpp-arrow", b"parquet-cpp-sparr"))
    (said,) = faults(output)
    assert "found Parquet writer 'parquet-cpp-sparr version" in said
    assert this_writer() == f"parquet-cpp-arrow version {pa.cpp_version}"
