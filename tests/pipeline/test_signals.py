"""Wishes to stop, and their echoes."""

import os
import signal
from types import SimpleNamespace

import pytest

from pipeline.signals import StopSignals, Wishes, stop_error
from schemas.errors import JobFailedError, StoppedError


def test_a_wish_soon_after_another_is_its_echo(monkeypatch):
    now = iter([10.0, 10.1, 10.4, 11.0])
    monkeypatch.setattr("pipeline.signals.time", SimpleNamespace(monotonic=lambda: next(now)))
    wishes = Wishes()
    assert [wishes.is_new() for _ in range(4)] == [True, False, False, True]


def test_an_echo_does_not_interrupt_what_the_signal_began():
    stops = StopSignals()
    with stops.noted():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("the echo interrupted")
    assert stops.seen == {signal.SIGTERM, signal.SIGINT}


def test_a_closed_terminal_stops_unless_nohup_had_it_ignored():
    def unheard(*_):
        pytest.fail("the signal was not answered")

    found = signal.signal(signal.SIGHUP, unheard)
    try:
        with StopSignals().noted(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is unheard
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stops = StopSignals()
        with stops.noted():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stops.seen
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, found)


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ([signal.SIGINT], StoppedError),
        ([signal.SIGTERM], JobFailedError),
        ([signal.SIGHUP], JobFailedError),
        ([signal.SIGINT, signal.SIGTERM], JobFailedError),
    ],
)
def test_only_ctrl_c_ends_a_run_as_ctrl_c(numbers, error):
    assert type(stop_error(numbers, "stopped")) is error
