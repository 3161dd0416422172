"""Health answers truthfully in every phase of a stream's life (scenario I11)."""

from __future__ import annotations

from dataclasses import replace

from aiostream_engine.observe.events import ReceiverInfo
from aiostream_engine.observe.health import Health, HealthState, health_of
from aiostream_engine.observe.statistics import DelayStatistics, StatisticsSnapshot, StreamStatistics
from aiostream_engine.types import ContextState


def quiet() -> StatisticsSnapshot:
    return StreamStatistics().snapshot()


def active(statistics: StatisticsSnapshot) -> Health:
    return health_of(
        ContextState.ACTIVE, running=True, stopping=False, failure=None, statistics=statistics, interval_s=0.1
    )


def test_a_quiet_active_stream_is_ready() -> None:
    """I11"""
    health = active(quiet())
    assert health == Health(HealthState.READY)
    assert health.live
    assert health.ready


def test_a_stream_that_has_not_started_is_live_but_not_ready() -> None:
    """I11"""
    health = health_of(
        ContextState.INITIALIZED,
        running=False,
        stopping=False,
        failure=None,
        statistics=quiet(),
        interval_s=1,
    )
    assert (health.state, health.live, health.ready) == (HealthState.STARTING, True, False)


def test_a_receiver_that_is_down_degrades_and_is_named() -> None:
    """I11"""
    down = ReceiverInfo(0, "socket", active=False, last_error="connection refused")
    health = active(replace(quiet(), receivers=(down,)))
    assert health.state is HealthState.DEGRADED
    assert health.ready
    assert "socket" in health.reasons[0]
    assert "refused" in health.reasons[0]


def test_a_full_queue_and_late_batches_are_each_a_reason() -> None:
    """I11"""
    full = ReceiverInfo(0, "socket", active=True, queue_fill=0.97)
    late = DelayStatistics.of([0.9])
    health = active(replace(quiet(), receivers=(full,), scheduling_delay=late))
    assert len(health.reasons) == 2


def test_a_failed_stream_is_neither_live_nor_ready_and_says_why() -> None:
    """I11"""
    health = health_of(
        ContextState.STOPPED,
        running=True,
        stopping=True,
        failure=ValueError("bad"),
        statistics=quiet(),
        interval_s=1,
    )
    assert (health.live, health.ready, health.reasons) == (False, False, ("ValueError: bad",))
