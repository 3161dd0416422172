"""What killed the workers of one job, and what is to be done about it. Pure, like the machine that asks."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ..probe import Convict, InHand, Probe

__all__ = ["Suspicion", "Verdict"]


class Verdict(enum.Enum):
    """After a death: try again, try again without the record that is at fault, or fail the job."""

    RETRY = "retry"
    CONVICT = "convict"
    FAIL = "fail"


@dataclass(slots=True)
class Suspicion:
    """The deaths of one job.

    attempts_max: workers that the job, and each single record, may kill.
    records_max: records that may be given up for it.

    A record is given up when it was in hand in ``attempts_max - 1`` deaths (a first one is not watched),
    so that a worker killed from outside convicts nobody; after ``2 * attempts_max`` deaths without a
    verdict the job fails all the same.
    """

    attempts_max: int
    records_max: int
    died: int = 0
    reasons: list[str] = field(default_factory=list)  # since the last verdict
    convicts: list[Convict] = field(default_factory=list)
    last: InHand | None = None
    _hits: dict[int, int] = field(default_factory=dict)
    _suspect: int = 0
    _hung: bool = False

    def add(self, reason: str, hand: InHand | None, *, hung: bool) -> Verdict:
        """A worker died with ``hand`` in its hand, as far as one knows; ``hung``: at a deadline."""
        self.died += 1
        self.reasons.append(reason)
        self._hung = self._hung or hung
        self.last = hand
        if hand is None or not hand.tolerant:
            return Verdict.RETRY if len(self.reasons) < self.attempts_max else Verdict.FAIL
        hits = self._hits[hand.call] = self._hits.get(hand.call, 0) + 1
        if hits >= max(1, self.attempts_max - 1):
            return self._convict(hand, hits, reason, hung=hung)
        self._suspect = hand.call
        return Verdict.RETRY if len(self.reasons) < 2 * self.attempts_max else Verdict.FAIL

    def _convict(self, hand: InHand, hits: int, reason: str, *, hung: bool) -> Verdict:
        if len(self.convicts) >= self.records_max:
            return Verdict.FAIL
        what = "ran past the deadline" if hung else "killed its worker"
        message = f"the record {what} in each of {hits} attempts; the last: {reason}"
        self.convicts.append(Convict(hand.call, hand.checksum, hung, message))
        self.reasons.clear()
        self._hits.clear()
        self._suspect, self._hung = 0, False
        return Verdict.CONVICT

    def probe(self) -> Probe | None:
        """How to watch the next attempt; a first one is not watched, for that would cost time."""
        if self.died == 0:
            return None
        # Writing all down is slow: not where time was short already.
        full = len(self.reasons) == self.attempts_max - 1 and not self._hung
        return Probe(self._suspect, full, tuple(self.convicts))

    def account(self, step: str, *, hung: bool) -> str:
        """Why the job fails, in words."""
        what = "ran past its deadline" if hung else "killed its worker"
        text = f"step {step!r} {what} in each of {len(self.reasons)} attempts: " + "; ".join(self.reasons)
        if self.convicts:
            text += (
                f". Records given up before: {len(self.convicts)} (poison_records_max = {self.records_max})"
            )
        return text
