"""A whole output is proven; one that is not says so on lines of its own."""

import os

import numpy as np
import pytest

import pipeline.output.verify
from pipeline.output.verification.labels import LabelChecker, LabelTask
from pipeline.output.verification.summary import verify_lines
from pipeline.output.verify import VerifyReport, verify
from schemas.errors import OutputError
from tests.pipeline.labelled_output import STORAGE, write_output
from tests.pipeline.output.verification.whole import (
    ANSWERS,
    MANY,
    N_FILES,
    N_ROWS,
    WORDS,
    edit_footer,
    faults,
    job_of,
    label_file,
    refs_of,
)


def test_an_output_as_it_was_written_is_proven(whole):
    n_bytes = sum(path.stat().st_size for path in whole.glob("labels/*"))
    report = verify(str(whole), STORAGE, workers=1)
    assert report == VerifyReport(
        str(whole), n_planned_rows=N_ROWS, n_planned_files=N_FILES, n_rows=N_ROWS, n_files=N_FILES, n_bytes=n_bytes
    )
    assert report.holds
    assert verify_lines(report) == [
        f"{whole}: proven, every manifest row is in one row of one label file",
        f"  proven: 7 of 7 rows in 4 label files, {n_bytes:,} bytes",
    ]


def test_an_output_in_object_storage_is_proven(s3):
    write_output(s3.uri("out"), ANSWERS, [WORDS, MANY])
    assert verify(s3.uri("out"), STORAGE, workers=1).holds
    victim = next(key for key in s3.keys() if key.startswith("out/labels/"))  # noqa: SIM118
    s3.client.delete_object(Bucket=s3.name, Key=victim)
    s3.put("out/labels/mine.txt", b"")
    report = verify(s3.uri("out"), STORAGE, workers=1)
    assert report.missing == [victim.removeprefix("out/")]
    assert [finding.file for finding in report.findings] == ["labels/mine.txt"]


def test_what_is_no_output_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(OutputError, match=r"found no job.json, expected the --output of `escnet annotate`"):
            verify(str(folder), STORAGE)


def test_a_job_that_is_not_finished_is_not_proven(output):
    lost = label_file(output, 1)
    lost.unlink()
    report = verify(str(output), STORAGE, workers=1)
    assert (report.missing, report.findings, report.holds) == ([f"labels/{lost.name}"], [], False)
    said = verify_lines(report)
    assert said[0] == f"{output}: not proven, 1 of 4 label files missing"
    assert said[1].startswith("  proven: 5 of 7 rows in 3 label files, ")
    assert said[2:] == [
        f"  labels/{lost.name}: found no file, not proven; go on with the same `escnet annotate` command",
        "  The job is not finished: go on with the same `escnet annotate` command.",
    ]


def test_a_sample_looks_into_so_many_files_and_at_all_footers(output):
    torn = bytearray(label_file(output, 2).read_bytes())
    torn[len(torn) // 4] ^= 1  # within the pages
    label_file(output, 2).write_bytes(torn)
    reports = [verify(str(output), STORAGE, sample=2, seed=seed, workers=1) for seed in range(8)]
    assert {report.holds for report in reports} == {True, False}
    assert {(report.n_files + report.n_findings, report.n_footers) for report in reports} == {(2, 2)}
    again = verify(str(output), STORAGE, sample=2, seed=3, workers=1)
    assert (again, verify(str(output), STORAGE, sample=4, workers=1).n_files) == (reports[3], 3)
    edit_footer(label_file(output, 3), lambda footer: footer.update(model="another"))
    for seed in range(8):
        found = "\n".join(faults(output, sample=2, seed=seed))
        assert "found model 'another' in the footer, expected '0123', as in the job" in found


def test_many_findings_are_counted_and_the_first_are_shown(output, monkeypatch):
    monkeypatch.setattr(pipeline.output.verify, "MAX_KEPT", 55)
    for k in range(60):
        (output / "labels" / f"{k:02}.txt").write_bytes(b"")
    report = verify(str(output), STORAGE, workers=1)
    assert (report.n_findings, len(report.findings)) == (60, 55)
    said = verify_lines(report)
    assert said[0].endswith("not proven, 60 faults")
    assert sum("a file of no shard" in line for line in said) == 50
    assert said[-1] == "  and 10 more; all of them with --json FILE"


def flips(data: bytes) -> list[tuple[int, int]]:
    """Places and what to change there: both ends, places in the footer, and anywhere."""
    draw = np.random.default_rng(0)
    n_footer = int.from_bytes(data[-8:-4], "little") + 8
    places = [*range(20), *range(len(data) - 20, len(data))]
    places += [*draw.integers(len(data) - n_footer, len(data), 150), *draw.integers(0, len(data), 150)]
    return [(int(place), int(draw.integers(1, 256))) for place in places]


def test_every_changed_byte_of_a_label_file_is_found(output):
    path, ref, job = label_file(output), refs_of(output)[0], job_of(output)
    checker = LabelChecker(str(output), STORAGE, job, {"words": WORDS, "many": MANY})
    data = path.read_bytes()
    for place, change in flips(data):
        damaged = bytearray(data)
        damaged[place] ^= change
        path.write_bytes(damaged)
        assert checker.check(LabelTask(ref, is_full=True)).findings, (place, change)
        checker.check(LabelTask(ref, is_full=False))  # raises nothing


def test_changed_bytes_of_plan_and_job_end_in_a_report(output):
    draw = np.random.default_rng(0)
    for path in (*output.glob("manifest/*"), output / "job.json", *output.glob("vocabularies/*")):
        data = path.read_bytes()
        for place in draw.integers(0, len(data), 15):
            damaged = bytearray(data)
            damaged[place] ^= int(draw.integers(1, 256))
            path.write_bytes(damaged)
            verify(str(output), STORAGE, workers=1)
        path.write_bytes(data)
    assert verify(str(output), STORAGE, workers=1).holds


def test_a_name_of_any_bytes_is_said_on_one_line(output):
    (output / "labels" / os.fsdecode(b"a\nb\xff.txt")).write_bytes(b"")
    assert faults(output)[0].startswith(r"labels/a\nb\udcff.txt: found a file of no shard")
