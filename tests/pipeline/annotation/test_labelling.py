"""A run is stopped by a signal, even by one whose exception was lost on the way."""

import os
import signal
from contextlib import nullcontext, suppress

import pytest

import pipeline.annotation.labelling
from pipeline.output.run_log import last_run
from pipeline.storage import StorageOptions
from schemas.errors import JobFailedError, StoppedError
from tests.pipeline.small_jobs import small_world


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, StoppedError), (signal.SIGTERM, JobFailedError), (signal.SIGHUP, JobFailedError)],
)
def test_a_signal_whose_exception_is_lost_stops_the_run_all_the_same(tmp_path, monkeypatch, number, error):
    def run_shards(*_, check, **__):
        with suppress(KeyboardInterrupt):  # as Python does while it finalises an object
            os.kill(os.getpid(), number)
        check()
        yield from ()

    monkeypatch.setattr(pipeline.annotation.labelling, "run_shards", run_shards)
    monkeypatch.setattr(pipeline.annotation.labelling, "ray_cluster", lambda _: nullcontext())
    before = signal.getsignal(number)
    with pytest.raises(error, match="0 of 3 shards are done and kept, the same command goes on with the rest"):
        small_world(tmp_path).annotate(tmp_path / "out")
    assert signal.getsignal(number) is before


def test_a_run_that_ends_before_a_model_is_loaded_does_not_say_that_every_word_is_known(tmp_path, monkeypatch):
    def run_shards(*_, **__):
        raise JobFailedError("no actor came up")

    monkeypatch.setattr(pipeline.annotation.labelling, "run_shards", run_shards)
    monkeypatch.setattr(pipeline.annotation.labelling, "ray_cluster", lambda _: nullcontext())
    with pytest.raises(JobFailedError, match="no actor came up"):
        small_world(tmp_path).annotate(tmp_path / "out")
    run = last_run(str(tmp_path / "out"), StorageOptions())
    assert (run["state"], run["unknown_words"]) == ("failed", None)
