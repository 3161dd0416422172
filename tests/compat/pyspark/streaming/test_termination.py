"""What awaitTermination waits for."""

from __future__ import annotations

import threading

import pytest

from aiostream_engine.compat.pyspark.streaming.termination import Termination


def test_waiting_gives_false_when_the_time_is_over():
    assert Termination().wait(0) is False
    assert Termination().wait(0.01) is False


def test_waiting_gives_true_after_the_end():
    termination = Termination()
    threading.Timer(0.01, termination.stop).start()
    assert termination.wait() is True
    assert termination.wait(0) is True


def test_an_error_wakes_the_waiter_and_stays():
    """Row CTX-15: an error has precedence over the end, and is raised at each call."""
    termination = Termination()
    threading.Timer(0.01, termination.report, [ValueError("first")]).start()
    with pytest.raises(ValueError, match="first"):
        termination.wait(-1)
    termination.stop()
    with pytest.raises(ValueError, match="first"):
        termination.wait(0)
    termination.report(KeyError("second"))
    with pytest.raises(KeyError, match="second"):
        termination.wait(0)
