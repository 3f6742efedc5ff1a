"""The folder of a run: written as it goes, on disk and in object storage, and never in anybody's way."""

import json
import threading
import time

import pytest

import pipeline.output.run_log
from pipeline.output import sweep
from pipeline.output.run_log import RunLog, last_run, pass_on_unknown_words, read_events, unknown_words
from pipeline.storage import StorageOptions, write_replace

STORAGE = StorageOptions()


def opened(output, said=None, so_far=dict) -> RunLog:
    return RunLog(str(output), STORAGE, {"n_pictures": 3}, so_far, [].append if said is None else said.append)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=["local", "s3"])
def output(request, tmp_path) -> str:
    return str(tmp_path / "a #1") if request.param == "local" else request.getfixturevalue("s3").uri("a #1")


def test_events_and_summary_are_there_while_the_run_goes_on(output, monkeypatch):
    monkeypatch.setattr(pipeline.output.run_log, "FIRST_PAUSE_S", 0.05)
    log = opened(output, so_far=lambda: {"n_done": 1})
    log.event("shard", shard_id="one", seconds={"fetch": 0.5})
    wait_until(lambda: list(read_events(output, log.run_id, STORAGE)))
    assert last_run(output, STORAGE)["state"] == "running"
    log.event("note", said="tür")
    log.close("done")
    events = list(read_events(output, log.run_id, STORAGE))
    assert [event["event"] for event in events] == ["shard", "note", "end"]
    assert (events[0]["seconds"], events[1]["said"]) == ({"fetch": 0.5}, "tür")
    summary = last_run(output, STORAGE)
    assert (summary["state"], summary["n_pictures"], summary["n_done"]) == ("done", 3, 1)
    assert summary["started"] <= events[0]["at"] <= summary["ended"]


def test_of_several_runs_the_newest_counts(tmp_path):
    for name in ("20260102T000000Z-000000", "20260103T000000Z-000000", "20260101T000000Z-ffffff"):
        RunLog(str(tmp_path), STORAGE, {}, dict, [].append, run_id=name).close("failed", "why")
    assert last_run(str(tmp_path), STORAGE)["run_id"] == "20260103T000000Z-000000"
    assert last_run(str(tmp_path), STORAGE)["error"] == "why"
    assert last_run(str(tmp_path / "other"), STORAGE) is None


def test_unknown_words_are_those_of_the_newest_run_that_loaded_the_model(tmp_path):
    runs = [{"unknown_words": ["old"], "start_steps": {"model": 2.0}},
            {"unknown_words": ["new"], "start_steps": {"model": 2.0}},
            {"unknown_words": None, "start_steps": {"plan": 1.0}}]  # fmt: skip
    for day, about in enumerate(runs, start=1):
        RunLog(str(tmp_path), STORAGE, about, dict, [].append, run_id=f"2026010{day}T000000Z-0").close("done")
    (tmp_path / "runs" / "20260109T000000Z-0").mkdir()
    (tmp_path / "runs" / "20260109T000000Z-0" / "summary.json").write_text('{"unknown')
    assert unknown_words(str(tmp_path), STORAGE) == ["new"]
    assert unknown_words(str(tmp_path / "other"), STORAGE) is None


def test_unknown_words_are_passed_on_to_labels_of_the_same_words_unless_those_know(tmp_path):
    old, new, newest = (str(tmp_path / name) for name in ("old", "new", "newest"))
    pass_on_unknown_words(old, new, "relabel", STORAGE, [].append)
    assert not (tmp_path / "new").exists()
    RunLog(old, STORAGE, {"unknown_words": ["zebra"]}, dict, [].append).close("done")
    for _ in range(2):
        pass_on_unknown_words(old, new, "relabel", STORAGE, [].append)
        pass_on_unknown_words(new, newest, "annotate", STORAGE, [].append)
    assert unknown_words(newest, STORAGE) == ["zebra"]
    assert len(list((tmp_path / "newest" / "runs").iterdir())) == len(list((tmp_path / "new" / "runs").iterdir())) == 1
    assert (last_run(new, STORAGE)["command"], last_run(new, STORAGE)["state"]) == ("relabel", "done")


def test_what_cannot_be_written_is_told_of_once_and_harms_nothing(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    said = []
    log = opened(tmp_path, said)
    log.event("shard", shard_id="one")
    log.close("done")
    assert len(said) == 1
    assert said[0].startswith(f"the timings of this run are not all kept, its labels are: {tmp_path}/runs/{log.run_id}")


def test_storage_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    let_go, answered, said = threading.Event(), [], []
    monkeypatch.setattr(pipeline.output.run_log, "write_replace", lambda *_: answered.append(let_go.wait(60)))
    monkeypatch.setattr(pipeline.output.run_log, "CLOSE_WITHIN_S", 0.1)
    opened(tmp_path, said).close("done")
    assert (answered, len(said)) == ([], 1)
    let_go.set()


def test_a_summary_that_is_none_tells_nothing(tmp_path):
    write_replace(str(tmp_path / "runs/x/summary.json"), json.dumps([1]).encode(), STORAGE)
    assert last_run(str(tmp_path), STORAGE) is None


def test_what_a_killed_driver_left_is_swept(tmp_path):
    opened(tmp_path).close("done")
    (folder,) = (tmp_path / "runs").iterdir()
    before = {path.name for path in folder.iterdir()}
    with pipeline.storage.new_file(str(folder / "summary.json"), STORAGE, replace=True):
        (left,) = {path.name for path in folder.iterdir()} - before
        data = (folder / left).read_bytes()
    (folder / left).write_bytes(data)
    sweep(str(tmp_path), STORAGE)
    assert {path.name for path in folder.iterdir()} == before
