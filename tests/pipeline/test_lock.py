import os
import subprocess
import sys

import pytest

from pipeline.lock import lock_output
from pipeline.storage import StorageOptions
from schemas.errors import OutputError

STORAGE = StorageOptions()
HOLD = """
import sys
from pipeline.lock import lock_output
from pipeline.storage import StorageOptions
with lock_output(sys.argv[1], StorageOptions()):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_a_dead_one_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(OutputError, match="another run is at work there"),
            lock_output(str(tmp_path / "out"), STORAGE),
        ):
            pass
        other.kill()
        other.wait()
    with lock_output(str(tmp_path / "out"), STORAGE):
        pass


def test_a_start_that_fails_leaves_nothing_new(tmp_path):
    def fail(output):
        with lock_output(str(output), STORAGE):
            assert (output / ".lock").exists()
            raise OutputError("no pictures there")

    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        with pytest.raises(OutputError, match="no pictures"):
            fail(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_an_output_that_holds_something_stays_with_its_lock(tmp_path):
    with lock_output(str(tmp_path / "out"), STORAGE):
        (tmp_path / "out" / "job.json").write_text("{}")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "job.json"]


@pytest.mark.parametrize("has_successor", [True, False])
def test_a_lock_whose_file_was_removed_before_it_was_taken_is_none(tmp_path, monkeypatch, has_successor):
    real = os.open

    def open_late(path, *arguments):
        descriptor = real(path, *arguments)
        os.unlink(path)
        if has_successor:
            os.close(real(path, *arguments))
        return descriptor

    monkeypatch.setattr("pipeline.lock.os.open", open_late)
    with pytest.raises(OutputError, match="another run is at work there"), lock_output(str(tmp_path), STORAGE):
        pass
