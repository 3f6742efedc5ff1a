"""How far a job is, by its footers and the times of its files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import pipeline.output.footers
from pipeline.output.label_files import merge_totals, read_totals
from pipeline.output.status import StatusReport, status, status_lines
from pipeline.storage.lock import lock_output
from schemas.errors import OutputError, PictureError
from schemas.labels import ShardTotals
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import STORAGE, Answer, Failure, write_output
from tests.pipeline.output.verification.whole import refs_of

WORDS = Vocabulary(name="words", classes=["land", "water"])
LAND = Answer(np.zeros((2, 2)))
GONE = Failure(error=PictureError("fetch", "not_found", "not there"))
ANSWERS = {"words": {"a": LAND, "b": GONE, "c": LAND, "d": GONE, "e": Failure(), "f": LAND, "g": LAND}}
NEWEST = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def written(folder: Path, n_done: int, ages: list[float]) -> Path:
    """An output of four shards, the last of one picture; `ages` in seconds before NEWEST, by shard."""
    write_output(str(folder), ANSWERS, [WORDS], n_done=n_done)
    for ref, age in zip(refs_of(folder), ages, strict=False):
        os.utime(folder / "labels" / f"{ref.shard_id}.parquet", (NEWEST - age, NEWEST - age))
    return folder


def test_a_job_at_work_is_counted_from_its_footers(tmp_path):
    output = written(tmp_path, 3, [100, 60, 0])
    report = status(str(output), STORAGE)
    totals = ShardTotals(
        rows=6,
        labelled=3,
        failed={"fetch/not_found": 2, "decode/truncated": 1},
        pixels=12,
        ignored_pixels=0,
        classes={0: {"name": "land", "pixels": 12, "pictures": 3}},
    )
    assert report == StatusReport(
        str(output), "stand-in", 7, 6, 4, 3, totals=totals, pictures_per_s=4 / 100, last_published=NEWEST
    )
    assert status_lines(report, now=NEWEST + 3700) == [
        f"{output}: not finished, and no run is at work there, labelled by stand-in",
        "  shards:    3 of 4 done, 1 left",
        "  pictures:  6 of 7 done, 1 left",
        "  status:    3 labelled, 3 failed",
        "  by stage:  fetch 2, decode 1",
        "  by kind:   not_found 2, truncated 1",
        "  pace:      0.04 pictures a second when last at work",
        "  time left: 25 s at that pace",
        "  newest:    label file of 2027-01-15T08:00:00Z, 1 h 1 min ago",
    ]
    assert report.as_json() == {
        "output": str(output), "model": "stand-in", "is_running": False,
        "n_pictures": 7, "n_pictures_done": 6, "n_pictures_left": 1,
        "n_shards": 4, "n_shards_done": 3, "n_shards_left": 1,
        "by_status": {"labelled": 3, "failed": 3},
        "by_stage": {"fetch": 2, "decode": 1}, "by_kind": {"not_found": 2, "truncated": 1},
        "by_stage_and_kind": {"decode/truncated": 1, "fetch/not_found": 2},
        "pictures_per_s": 0.04, "seconds_left": 25.0, "last_published": "2027-01-15T08:00:00Z",
        "unread": [], "n_foreign": 0, "n_corrected": 0, "last_run": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ages", "pictures_per_s", "seconds_left"),
    [
        ([], None, None),
        ([5], None, None),
        ([9, 9], None, None),  # clocks of object storage tick once a second
        ([90_000, 10, 0], 2 / 10, 5),  # a pause is no work
        ([10, 4, 2, 0], 5 / 10, 0),
    ],
    ids=["nothing", "one file", "one moment", "a pause", "done"],
)
def test_the_pace_is_that_of_the_last_activity(tmp_path, ages, pictures_per_s, seconds_left):
    report = status(str(written(tmp_path, len(ages), ages)), STORAGE)
    assert (report.pictures_per_s, report.seconds_left) == (pictures_per_s, seconds_left)


def test_a_run_at_work_is_told_and_not_disturbed(tmp_path):
    output = written(tmp_path, 4, [3, 2, 1, 0])
    with lock_output(str(output), STORAGE):
        report = status(str(output), STORAGE)
        assert report.is_running
        assert status_lines(report)[0] == f"{output}: a run is at work there, labelled by stand-in"
    assert not status(str(output), STORAGE).is_running


def test_a_job_that_did_not_begin_and_one_that_is_done_say_so(tmp_path):
    assert status_lines(status(str(written(tmp_path / "new", 0, [])), STORAGE))[-1] == "  pace:      no label file yet"
    done = status_lines(status(str(written(tmp_path / "done", 4, [9, 6, 3, 0])), STORAGE), now=NEWEST)
    assert done[0] == f"{tmp_path}/done: done, labelled by stand-in"
    assert not any("time left" in line for line in done)


def test_files_that_do_not_belong_or_cannot_be_read_are_told(tmp_path):
    output = written(tmp_path, 3, [2, 1, 0])
    (output / "labels" / "0123.parquet").write_bytes(b"")
    (output / "labels" / f".{'0' * 32}.partial").write_bytes(b"half")
    damaged = f"labels/{refs_of(output)[1].shard_id}.parquet"
    (output / damaged).write_bytes(b"torn")
    report = status(str(output), STORAGE)
    assert (report.unread, report.n_foreign, report.n_shards_done, report.n_pictures_done) == ([damaged], 1, 2, 4)
    assert status_lines(report)[-2:] == [
        f"  1 label files cannot be read, the first {damaged}; run `escnet verify`, which says what to do",
        "  1 label files belong to no shard of the plan; run `escnet verify`, which says what to do",
    ]


def test_more_shards_than_are_read_ahead_are_all_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.output.footers, "FOOTER_THREADS", 1)
    monkeypatch.setattr(pipeline.output.footers, "_READS_AHEAD", 1)
    output = written(tmp_path, 4, [3, 2, 1, 0])
    files = [str(path) for path in output.glob("labels/*")]
    assert status(str(output), STORAGE).totals == merge_totals(read_totals(file, STORAGE) for file in files)


def test_an_output_in_object_storage_is_counted(s3):
    write_output(s3.uri("out"), ANSWERS, [WORDS], n_done=2)
    report = status(s3.uri("out"), STORAGE)
    assert (report.n_pictures_done, report.n_shards_done, report.totals.labelled) == (4, 2, 2)
    key = next(key for key in s3.keys() if "/labels/" in key)  # noqa: SIM118
    written_at = s3.client.head_object(Bucket=s3.name, Key=key)["LastModified"].timestamp()
    assert abs((report.last_published or 0) - written_at) < 60


def test_what_is_no_output_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(OutputError, match=r"found no job.json, expected the --output of `escnet annotate`"):
            status(str(folder), STORAGE)


def test_a_run_that_was_killed_is_told_from_one_at_work(tmp_path):
    output = written(tmp_path, 3, [2, 1, 0])
    run = {
        "run_id": "20270115T080000Z-abcdef",
        "state": "running",
        "timings": {"reached": 0.77, "stages": {"seconds": {}}},
    }
    (tmp_path / "runs" / run["run_id"]).mkdir(parents=True)
    (tmp_path / "runs" / run["run_id"] / "summary.json").write_text(json.dumps(run))
    lost = "cut off: it was killed, or its machine stopped, 77% of the model's own speed"
    assert f"  last run:  20270115T080000Z-abcdef, {lost}" in status_lines(status(str(output), STORAGE))
    with lock_output(str(output), STORAGE):
        at_work = status_lines(status(str(output), STORAGE))
    assert "  last run:  20270115T080000Z-abcdef, running, 77% of the model's own speed" in at_work


def test_the_newest_run_tells_where_its_time_went_and_a_damaged_one_nothing(tmp_path):
    output = written(tmp_path, 4, [3, 2, 1, 0])
    stages = {"seconds": {"fetch": 1.5, "memory": 0.25, "segment": 20}}
    run = {"run_id": "20270115T080000Z-abcdef", "state": "done", "timings": {"reached": 0.97, "stages": stages}}
    for name, summary in (("20270115T080000Z-abcdef", run), ("20260101T000000Z-012345", {"run_id": "old"})):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "summary.json").write_text(json.dumps(summary))
    report = status(str(output), STORAGE)
    assert report.last_run == run
    assert status_lines(report, now=NEWEST)[-2:] == [
        "  last run:  20270115T080000Z-abcdef, done, 97% of the model's own speed",
        "  seconds:   fetch 1.5, waiting for memory 0.2, segment 20.0",
    ]
    (tmp_path / "runs/20270115T080000Z-abcdef/summary.json").write_text('{"run_id": 1, "state": "done", "timings": []}')
    assert "newest" in status_lines(status(str(output), STORAGE), now=NEWEST)[-1]
    (tmp_path / "runs/20270115T080000Z-abcdef/summary.json").write_text("{")
    assert status(str(output), STORAGE).last_run is None
