"""Configuration as a few small frozen values, checked when they are made."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal

from .errors import OptionError

__all__ = [
    "BackpressureConfig",
    "CheckpointConfig",
    "CircuitBreakerConfig",
    "Master",
    "PoolConfig",
    "QueueLimits",
    "RetryPolicy",
    "SchedulerConfig",
    "StateConfig",
]

KIB = 1024
MIB = 1024 * KIB


def _at_least(option: str, value: float, least: float) -> None:
    if not value >= least:
        raise OptionError(f"{option} is {value!r}: it must be at least {least}")


@dataclass(frozen=True, slots=True)
class Master:
    """Where operators run: ``local`` in this process, ``local[k]`` or ``local[*]`` in k workers."""

    text: str
    workers: int

    @classmethod
    def parse(cls, text: str) -> Master:
        """Read a master string; raises OptionError naming the accepted forms."""
        if text == "local":
            return cls(text, 0)
        match = re.fullmatch(r"local\[(\d+|\*)\]", text)
        if match is None:
            raise OptionError(f"master {text!r} is not understood: use 'local', 'local[4]' or 'local[*]'")
        workers = available_cores() if match[1] == "*" else int(match[1])
        if not 1 <= workers <= 1024:
            raise OptionError(f"master {text!r} asks for {workers} workers: use 1 to 1024")
        return cls(text, workers)

    @property
    def parallelism(self) -> int:
        """Default number of partitions."""
        return max(1, self.workers)


def available_cores() -> int:
    """Cores that this process may use, which a container or taskset may have cut down."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently something is tried again.

    attempts_max counts the first try; None means for ever. The wait before try n+1 is
    ``min(wait_s * 2**(n-1), wait_max_s)``, spread by ±``jitter`` (a share, 0 to 1).
    """

    attempts_max: int | None = 5
    wait_s: float = 0.1
    wait_max_s: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.attempts_max is not None:
            _at_least("attempts_max", self.attempts_max, 1)
        _at_least("wait_s", self.wait_s, 0)
        _at_least("wait_max_s", self.wait_max_s, self.wait_s)
        if not 0 <= self.jitter <= 1:
            raise OptionError(f"jitter is {self.jitter!r}: it is a share between 0 and 1")

    def wait_before(self, attempt: int, random: float = 0.5) -> float:
        """Seconds to wait after failed try ``attempt`` (from 1); ``random`` is in [0, 1)."""
        wait = min(self.wait_s * 2.0 ** min(attempt - 1, 60), self.wait_max_s)
        return wait * (1 + self.jitter * (2 * random - 1))

    def exhausted(self, attempts: int) -> bool:
        """True when no try is left after ``attempts`` tries."""
        return self.attempts_max is not None and attempts >= self.attempts_max


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of the queue of one source; at either bound the source is not read."""

    bytes_max: int = 256 * MIB
    records_max: int = 50_000_000
    record_bytes_max: int = 16 * MIB
    block_bytes: int = 4 * MIB

    def __post_init__(self) -> None:
        _at_least("bytes_max", self.bytes_max, 1)
        _at_least("records_max", self.records_max, 1)
        _at_least("record_bytes_max", self.record_bytes_max, 1)
        _at_least("block_bytes", self.block_bytes, 1)


@dataclass(frozen=True, slots=True)
class BackpressureConfig:
    """Rate control of the receivers: Spark's PID estimator (rows BP-1 … BP-6), with slow start.

    Rates are records per second and source; None means no limit.
    """

    enabled: bool = True
    initial_rate: float | None = None
    rate_max: float | None = None
    rate_min: float = 1.0
    proportional: float = 1.0
    integral: float = 0.2
    derivative: float = 0.0

    def __post_init__(self) -> None:
        _at_least("rate_min", self.rate_min, 0.001)
        for option in ("initial_rate", "rate_max"):
            value = getattr(self, option)
            if value is not None:
                _at_least(option, value, self.rate_min)
        for option in ("proportional", "integral", "derivative"):
            _at_least(option, getattr(self, option), 0)


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The process pool: deadlines, budgets and limits of its workers.

    task_attempts_max: workers that one task may kill; then it fails, or gives up the record at fault.
    poison_records_max: records of one task that may be given up for that, by steps whose ``on_error``
        says so.
    """

    start_timeout_s: float = 30.0
    task_timeout_s: float | None = None
    term_grace_s: float = 1.0
    task_attempts_max: int = 3
    poison_records_max: int = 10
    worker_restarts_max: int = 30
    worker_restarts_window_s: float = 60.0
    worker_rss_bytes_max: int | None = None
    worker_tasks_max: int | None = None
    message_bytes_max: int = 1024 * MIB
    programs_cached_max: int = 512
    output_lines_per_s_max: int = 1000

    def __post_init__(self) -> None:
        _at_least("start_timeout_s", self.start_timeout_s, 0.001)
        _at_least("poison_records_max", self.poison_records_max, 0)
        if self.task_timeout_s is not None:
            _at_least("task_timeout_s", self.task_timeout_s, 0.001)
        for option in (
            "task_attempts_max",
            "worker_restarts_max",
            "message_bytes_max",
            "programs_cached_max",
        ):
            _at_least(option, getattr(self, option), 1)


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """Where and how a stream survives the loss of its driver.

    directory: private to one stream; made when it is missing.
    key: secret that seals user data; by default from AIOSTREAM_CHECKPOINT_KEY or the user's own file.
    drop_unknown_state: start although the directory holds state of steps or inputs that the program no
        longer has, and **lose that state**.
    disk_full_wait_s: how long a full disk is waited for, while batches stand still and senders are held
        back, before the stream fails.
    segment_bytes: size of one file of the journal; what is no longer needed is removed by files.
    """

    directory: str
    key: bytes | None = field(default=None, repr=False)
    drop_unknown_state: bool = False
    disk_full_wait_s: float = 300.0
    segment_bytes: int = 64 * MIB

    def __post_init__(self) -> None:
        _at_least("disk_full_wait_s", self.disk_full_wait_s, 0)
        _at_least("segment_bytes", self.segment_bytes, 1)


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Where the state of ``map_with_state``, ``update_state_by_key`` and windows with an inverse lies.

    backend: ``memory`` of the workers, or ``disk``: a scratch file for each partition, below the spill
        directory, with a cache in memory. Either way it is rebuilt from its changelog after a crash.
    memory_bytes_max: what the caches of one worker take together, about; with ``disk`` only.
    snapshot_slice_bytes: how much of a snapshot of one partition a batch writes to the changelog while one
        is made; more where more was changed, and with very large partitions: at least a 512th of all.
    """

    backend: Literal["memory", "disk"] = "memory"
    memory_bytes_max: int = 256 * MIB
    snapshot_slice_bytes: int = MIB

    def __post_init__(self) -> None:
        if self.backend not in ("memory", "disk"):
            raise OptionError(f"backend {self.backend!r} is not known: use 'memory' or 'disk'")
        _at_least("memory_bytes_max", self.memory_bytes_max, 64 * KIB)
        _at_least("snapshot_slice_bytes", self.snapshot_slice_bytes, 1)

    @property
    def on_disk(self) -> bool:
        """True when state may be more than fits in memory."""
        return self.backend == "disk"


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """When a stream stops because a step gives up too many of its records (``skip``, ``dead-letter``).

    enabled: else it is only counted.
    share_max: the largest share of the records of one step that may be given up, from 0 to 1.
    window_batches: over so many batches, the last in which the step had records.
    records_min: or over more batches, as many as hold so many records: with fewer, a share says nothing.
    """

    enabled: bool = True
    share_max: float = 0.9
    window_batches: int = 10
    records_min: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.share_max <= 1:
            raise OptionError(f"share_max is {self.share_max!r}: it is a share between 0 and 1")
        _at_least("window_batches", self.window_batches, 1)
        _at_least("records_min", self.records_min, 1)


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """When batches are cut and how many may be under way.

    trigger: ``interval`` cuts at each epoch multiple of the interval; ``data`` cuts as soon as
        a block is there and the previous batch is done, at least ``gap_min_s`` apart.
    missed_ticks: ``coalesce`` cuts one batch for all ticks missed; ``every`` gives each missed tick a
        batch, also those missed while a stream with a checkpoint was down (Spark's way, row CTX-24).
    batches_in_flight_max: batches cut and not yet committed; beyond it ticks coalesce.
    concurrent_batches: batches that may run at the same time; commits stay in order.
    """

    trigger: Literal["interval", "data"] = "interval"
    gap_min_s: float = 0.0005
    missed_ticks: Literal["coalesce", "every"] = "coalesce"
    batches_in_flight_max: int = 2
    concurrent_batches: int = 1
    stop_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.trigger not in ("interval", "data"):
            raise OptionError(f"trigger {self.trigger!r} is not known: use 'interval' or 'data'")
        if self.missed_ticks not in ("coalesce", "every"):
            raise OptionError(f"missed_ticks {self.missed_ticks!r} is not known: use 'coalesce' or 'every'")
        _at_least("gap_min_s", self.gap_min_s, 0)
        _at_least("batches_in_flight_max", self.batches_in_flight_max, 1)
        _at_least("concurrent_batches", self.concurrent_batches, 1)
        _at_least("stop_timeout_s", self.stop_timeout_s, 0)
