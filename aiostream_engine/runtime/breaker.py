"""The circuit breaker: a stream whose steps give up nearly all of their records stops instead.

Skipping or dead-lettering a bad record is a decision about an exception to the rule. When it has become
the rule (a producer that changed its format, a bug in a parser), the input would go record by record
into the dead letters, and be committed as done (scenario F15).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..config import CircuitBreakerConfig
from ..errors import CircuitBreakerError

__all__ = ["CircuitBreaker", "Outcomes", "Verdict", "outcomes_of_batch"]

_GIVEN_UP = ("skipped:", "dead_lettered:")


@dataclass(slots=True)
class Outcomes:
    """What became of the records of one batch in steps that may give them up, by step."""

    tried: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)

    def add(self, tried: Mapping[str, int], counters: Mapping[str, int]) -> None:
        """Take over what a task counted."""
        self.tried.update(tried)
        for name, count in counters.items():
            kind, _, step = name.partition(":")
            if f"{kind}:" in _GIVEN_UP:
                self.given_up[step] += count


# Those of the batch for which the code that runs now works; tasks are told apart by their context.
outcomes_of_batch: ContextVar[Outcomes | None] = ContextVar("aiostream_engine_outcomes", default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The step that gives up the largest share of its records over the window.

    share: from 0 to 1. given_up, tried: records. batches: in the window. broken: the stream shall stop.
    """

    step: str = ""
    given_up: int = 0
    tried: int = 0
    batches: int = 0
    broken: bool = False

    @property
    def share(self) -> float:
        """Given up, as a share of all."""
        return self.given_up / self.tried if self.tried else 0.0


@dataclass(slots=True)
class _Window:
    """The last batches in which a step had records: (tried, given up), and their sums."""

    batches: deque[tuple[int, int]] = field(default_factory=deque)
    tried: int = 0
    given_up: int = 0

    def add(self, tried: int, given_up: int, config: CircuitBreakerConfig) -> None:
        self.batches.append((tried, given_up))
        self.tried += tried
        self.given_up += given_up
        while len(self.batches) > config.window_batches:
            oldest, bad = self.batches[0]
            if self.tried - oldest < config.records_min:
                return  # a slow stream is looked back on for longer
            self.batches.popleft()
            self.tried -= oldest
            self.given_up -= bad


class CircuitBreaker:
    """Looks back on the last batches of a stream; pure, and only in memory."""

    def __init__(self, config: CircuitBreakerConfig) -> None:
        self._config = config
        self._windows: dict[str, _Window] = {}

    def judge(self, outcomes: Outcomes) -> Verdict:
        """Take the outcomes of one more batch into the windows and judge these."""
        for step in outcomes.tried.keys() | outcomes.given_up.keys():
            window = self._windows.setdefault(step, _Window())
            given_up = outcomes.given_up[step]
            window.add(max(outcomes.tried[step], given_up), given_up, self._config)
        verdicts = [self._verdict(step, window) for step, window in self._windows.items()]
        return max(verdicts, key=lambda verdict: (verdict.broken, verdict.share), default=Verdict())

    def _verdict(self, step: str, window: _Window) -> Verdict:
        config, tried, given_up = self._config, window.tried, window.given_up
        broken = config.enabled and tried >= config.records_min and given_up > config.share_max * tried
        return Verdict(step, given_up, tried, len(window.batches), broken)

    def error(self, verdict: Verdict) -> CircuitBreakerError:
        """What to stop with."""
        return CircuitBreakerError(
            f"step {verdict.step!r} gave up {verdict.given_up} of {verdict.tried} records "
            f"({verdict.share:.0%}) in its last {verdict.batches} batches, more than "
            f"CircuitBreakerConfig.share_max = {self._config.share_max:g}: that is the rule, no exception. "
            "This batch is not committed. Repair the step or what it is fed with, or raise the bound"
        )
