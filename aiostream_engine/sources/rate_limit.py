"""A token bucket: how long to wait so that records come at most at a rate (rows BP-1, RCV-14)."""

from __future__ import annotations

from ..errors import OptionError

__all__ = ["TokenBucket"]

# Less than one token may be missing by rounding alone; waiting for it would be waiting for nothing.
_ROUNDING = 1e-6


class TokenBucket:
    """One token a record; a reader that cannot count beforehand may go into debt and then waits.

    Parameters
    ----------
    rate: records a second, None for no limit.
    now: monotonic seconds.
    burst_s: how much of the rate may be saved up while nothing comes.
    """

    def __init__(self, rate: float | None = None, now: float = 0.0, *, burst_s: float = 0.1) -> None:
        self._burst_s = burst_s
        self._at = now
        self._tokens = 0.0
        self.rate: float | None = None
        self.set_rate(rate, now)

    def set_rate(self, rate: float | None, now: float) -> None:
        """Change the rate from now on; a debt stays, counted in records. Raises OptionError."""
        if rate is not None and not rate > 0:
            raise OptionError(f"rate is {rate!r}: use records a second above 0, or None for no limit")
        self._refill(now)
        if self.rate is None and rate is not None:
            self._tokens = self._capacity(rate)
        elif rate is not None:
            self._tokens = min(self._tokens, self._capacity(rate))
        self.rate = rate

    def available(self, now: float) -> float:
        """Records that may be taken now; infinite without a limit."""
        if self.rate is None:
            return float("inf")
        self._refill(now)
        return self._tokens

    def spend(self, records: int, now: float) -> None:
        """Take note of ``records`` taken."""
        if self.rate is not None:
            self._refill(now)
            self._tokens -= records

    def wait_s(self, now: float) -> float:
        """Seconds until a record may be taken, 0 for now."""
        if self.rate is None:
            return 0.0
        self._refill(now)
        missing = 1.0 - self._tokens
        return missing / self.rate if missing > _ROUNDING else 0.0

    def _capacity(self, rate: float) -> float:
        return max(1.0, rate * self._burst_s)

    def _refill(self, now: float) -> None:
        if self.rate is not None:
            passed = max(0.0, now - self._at)
            self._tokens = min(self._capacity(self.rate), self._tokens + passed * self.rate)
        self._at = now
