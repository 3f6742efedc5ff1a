"""Wishes to stop, and their echoes."""

import os
import signal
from types import SimpleNamespace

import pytest

from pipeline.signals import StopSignals, Wishes


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
