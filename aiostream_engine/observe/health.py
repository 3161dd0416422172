"""Is the stream well? One answer for probes, computed from the statistics of the moment."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..types import ContextState
from .statistics import StatisticsSnapshot

__all__ = ["Health", "HealthState", "health_of"]

# A queue this full is about to hold its sender back.
QUEUE_FILL_DEGRADED = 0.9
# Batches that wait for longer than so many intervals mean that the stream does not keep up.
INTERVALS_BEHIND_DEGRADED = 5


class HealthState(enum.Enum):
    """``starting`` and ``stopped`` are not ready; ``degraded`` works but not as it should."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Health:
    """The answer for a probe (scenario I11).

    live: the process is worth keeping: False only after a failure.
    ready: data is taken and processed.
    reasons: a sentence for everything that is not as it should be.
    """

    state: HealthState
    reasons: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        return self.state is not HealthState.FAILED

    @property
    def ready(self) -> bool:
        return self.state in (HealthState.READY, HealthState.DEGRADED)


def health_of(
    state: ContextState,
    *,
    running: bool,
    stopping: bool,
    failure: BaseException | None,
    statistics: StatisticsSnapshot,
    interval_s: float,
    problem: str | None = None,
) -> Health:
    """Health from the state of a context and its statistics.

    running: batches are being cut. stopping: a stop is under way. problem: something that holds the
    stream up and may pass, such as a full disk.
    """
    if failure is not None:
        return Health(HealthState.FAILED, (f"{type(failure).__name__}: {failure}",))
    if state is ContextState.STOPPED:
        return Health(HealthState.STOPPED)
    if stopping:
        return Health(HealthState.STOPPING)
    if not running:
        return Health(HealthState.STARTING)
    reasons = (*(() if problem is None else (problem,)), *_reasons(statistics, interval_s))
    return Health(HealthState.DEGRADED if reasons else HealthState.READY, reasons)


def _reasons(statistics: StatisticsSnapshot, interval_s: float) -> list[str]:
    reasons = []
    for receiver in statistics.receivers:
        if not receiver.active and receiver.last_error is not None:
            reasons.append(f"receiver {receiver.name} is down: {receiver.last_error}")
        if receiver.queue_fill >= QUEUE_FILL_DEGRADED:
            reasons.append(f"the queue of receiver {receiver.name} is {receiver.queue_fill:.0%} full")
    delay = statistics.scheduling_delay.last_s
    if delay is not None and delay > INTERVALS_BEHIND_DEGRADED * interval_s:
        reasons.append(f"batches wait {delay:.3g} s, more than {INTERVALS_BEHIND_DEGRADED} intervals")
    return reasons
