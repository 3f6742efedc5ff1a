"""One run at a time: by the kernel on a local disk, by a lease in object storage."""

import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from pipeline.storage import StorageOptions, lease
from pipeline.storage.lock import is_locked, lock_output
from schemas.errors import JobFailedError, OutputError

STORAGE = StorageOptions()
HOLD = """
import sys
from contextlib import ExitStack
from pipeline.storage.lock import lock_output
from pipeline.storage import StorageOptions
with ExitStack() as held:
    for output in sys.argv[1:]:
        held.enter_context(lock_output(output, StorageOptions()))
    print("held", flush=True)
    sys.stdin.read()
"""


TIMES = {"LEASE_S": 2.0, "RENEW_S": 0.2, "POLL_S": 0.1, "SAY_AFTER_S": 0.3, "LOOK_S": 1.5, "OUTAGE_S": 60.0}


@pytest.fixture
def quick(monkeypatch):
    """A lease that lasts two seconds, so that nobody waits for long after a dead run."""
    for name, value in TIMES.items():
        monkeypatch.setattr(lease, name, value)


@pytest.fixture
def patient(quick, monkeypatch):  # noqa: ARG001
    """A lease that is renewed as often and lasts a minute, for runs that live: a slow machine lets none of them die."""
    for name in ("LEASE_S", "LOOK_S"):
        monkeypatch.setattr(lease, name, 60.0)


@pytest.mark.usefixtures("quick")
def test_a_second_run_is_refused_and_one_that_was_killed_is_not_waited_for_long(tmp_path, s3):
    local, remote = str(tmp_path / "out"), s3.uri("out")
    command = [sys.executable, "-c", HOLD, local, remote]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run is at work there"), lock_output(local, STORAGE):
            pass
        other.kill()
        other.wait()
    with lock_output(local, STORAGE):
        pass
    started = time.monotonic()
    with lock_output(remote, STORAGE):
        assert time.monotonic() - started >= lease.LEASE_S


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

    monkeypatch.setattr("pipeline.storage.lock.os.open", open_late)
    with pytest.raises(OutputError, match="another run is at work there"), lock_output(str(tmp_path), STORAGE):
        pass


def test_a_look_sees_who_is_there_and_keeps_nobody_from_starting(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.storage.lock._TAKE_S", 60.0)
    output = str(tmp_path / "out")
    assert not is_locked(output, STORAGE)
    with lock_output(output, STORAGE):
        (tmp_path / "out" / "job.json").write_text("{}")
        assert is_locked(output, STORAGE)
    assert not is_locked(output, STORAGE)
    descriptor = os.open(tmp_path / "out" / ".lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # a look at its longest
    threading.Timer(0.3, os.close, (descriptor,)).start()
    with lock_output(output, STORAGE) as held:
        held.check()


@pytest.fixture
def output(s3):
    return s3.uri("out put#1")


def leave_stale_lock(s3):
    """What a run that was killed leaves."""
    s3.put("out put#1/.lock", b"{}")


def answers_get_lost(monkeypatch, method):
    """From now on storage does what it is asked, and its answers do not arrive; returns how to mend it."""
    real = lease.call

    def lose(place, asked, **request):
        answer = real(place, asked, **request)
        if asked == method:
            raise TimeoutError
        return answer

    monkeypatch.setattr(lease, "call", lose)
    return lambda: monkeypatch.setattr(lease, "call", real)


@pytest.mark.usefixtures("patient")
def test_a_second_run_on_s3_is_refused_until_the_first_ends(s3, output):
    with lock_output(output, STORAGE) as held:
        with pytest.raises(OutputError) as caught, lock_output(output, STORAGE):
            pass
        assert str(caught.value) == f"{output}: another run is at work there; wait until it ends, or stop it"
        held.check()
    assert s3.keys() == []
    with lock_output(output, STORAGE):
        assert s3.keys() == ["out put#1/.lock"]


@pytest.mark.usefixtures("quick")
def test_what_a_dead_run_left_on_s3_is_watched_and_then_taken_over(s3, output, capsys):
    leave_stale_lock(s3)
    started = time.monotonic()
    with lock_output(output, STORAGE) as held:
        assert time.monotonic() - started >= lease.LEASE_S
        held.check()
    said = f"{output}: another run was at work there; waiting up to 2 seconds to see whether it still is\n"
    assert capsys.readouterr().err == said
    assert s3.keys() == []


@pytest.mark.usefixtures("quick")
def test_of_many_that_wait_for_a_dead_run_one_takes_over(s3, output):
    leave_stale_lock(s3)
    held, refused, may_end = [], [], threading.Event()

    def run():
        try:
            with lock_output(output, STORAGE) as lock:
                held.append(lock)
                may_end.wait(120)
                lock.check()
        except OutputError:
            refused.append(1)

    runs = [threading.Thread(target=run) for _ in range(4)]
    for each in runs:
        each.start()
    deadline = time.monotonic() + 120
    while len(held) + len(refused) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    may_end.set()
    for each in runs:
        each.join()
    assert (len(held), len(refused)) == (1, 3)


@pytest.mark.usefixtures("patient")
def test_a_run_whose_lease_was_taken_stops_and_leaves_it_alone(s3, output):
    with lock_output(output, STORAGE) as held:
        leave_stale_lock(s3)
        with pytest.raises(JobFailedError, match="another run has taken this output over"):
            check_for(held, 120)
    assert s3.get("out put#1/.lock") == b"{}"


def check_for(held, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        held.check()
        time.sleep(0.1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", ["put_object", "head_object"])
def test_a_lease_survives_answers_that_get_lost(s3, output, monkeypatch, method):
    with lock_output(output, STORAGE) as held:
        mend = answers_get_lost(monkeypatch, method)
        time.sleep(1.2)
        mend()
        check_for(held, 2.5)
    assert s3.keys() == []


@pytest.mark.usefixtures("patient")
def test_a_lease_whose_first_answer_got_lost_is_known_as_ones_own(s3, output, monkeypatch):
    mend = answers_get_lost(monkeypatch, "put_object")
    threading.Timer(0.2, mend).start()
    started = time.monotonic()
    with lock_output(output, STORAGE):
        assert time.monotonic() - started < lease.LEASE_S
    assert s3.keys() == []


def storage_is_away(monkeypatch):
    """No request about the lease is answered from now on; returns how to mend it."""
    real = lease.call

    def fail(*_args, **_kwargs):
        raise TimeoutError

    monkeypatch.setattr(lease, "call", fail)
    return lambda: monkeypatch.setattr(lease, "call", real)


@pytest.mark.usefixtures("quick")
def test_without_storage_a_run_begins_nothing_new_and_goes_on_when_it_is_back(output, monkeypatch):
    with lock_output(output, STORAGE) as held:
        mend = storage_is_away(monkeypatch)
        time.sleep(lease.LEASE_S + 0.3)
        started = time.monotonic()
        threading.Timer(0.7, mend).start()
        held.check()
        assert time.monotonic() - started >= 0.7


@pytest.mark.usefixtures("quick")
def test_a_run_whose_storage_stays_away_stops(output, monkeypatch):
    monkeypatch.setattr(lease, "OUTAGE_S", 4.0)
    with lock_output(output, STORAGE) as held:
        mend = storage_is_away(monkeypatch)
        with pytest.raises(JobFailedError) as caught:
            check_for(held, 120)
        mend()
    said = "the run's lock could not be renewed for 4 seconds: storage cannot be reached"
    assert str(caught.value).startswith(f"{output}: {said}")


@pytest.mark.usefixtures("quick")
def test_a_look_at_s3_changes_nothing(s3, output, monkeypatch):
    assert not is_locked(output, STORAGE)
    leave_stale_lock(s3)
    before = s3.client.head_object(Bucket=s3.name, Key="out put#1/.lock")["LastModified"]
    assert not is_locked(output, STORAGE)
    assert s3.client.head_object(Bucket=s3.name, Key="out put#1/.lock")["LastModified"] == before
    monkeypatch.setattr(lease, "LOOK_S", 60.0)
    with lock_output(output, STORAGE) as held:
        assert is_locked(output, STORAGE)
        held.check()
    assert not is_locked(output, STORAGE)
