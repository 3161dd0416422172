"""Which record a worker had in its hand when it died: written by the worker, read by the driver.

A worker that died in C code cannot say what killed it. So a task that is tried again notes each record
before it hands it to a step that can give records up, in a small file that outlives the process. That finds
the record that kills with one death for each look, where halving the partition would need many.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import PoisonTaskError, TaskDeadlineError
from ..operators.structure import RecordOp
from ..types import OnError

__all__ = ["Convict", "InHand", "NotRepeatable", "Probe", "Watch", "read_in_hand"]

_BYTES = 4096
_HEAD = struct.Struct("<BxxxxxxxQ")  # whose hand, number of the call
_DETAIL = struct.Struct("<BxxxIH")  # is there any, checksum, length of the text that follows
_STEP_AT, _STEP_BYTES_MAX = 64, 512
_DETAIL_AT = 1024
_TEXT_AT = _DETAIL_AT + _DETAIL.size
_TEXT_BYTES_MAX = _BYTES - _TEXT_AT

_NOBODY, _TOLERANT, _STRICT = 0, 1, 2


class Convict(NamedTuple):
    """A record that is given up because it kills its worker.

    call: it was the call of this number, from 1, among those of steps that can give records up.
    checksum: of the record, None when it was not seen. hung: it ran past the deadline.
    message: what became of the workers.
    """

    call: int
    checksum: int | None
    hung: bool
    message: str


class Probe(NamedTuple):
    """How an attempt is watched.

    suspect: the call whose record is written down in full, 0 for none.
    full: watch steps that cannot give records up as well, and write down every record.
    convicts: records to give up, each at its call.
    """

    suspect: int = 0
    full: bool = False
    convicts: tuple[Convict, ...] = ()


class InHand(NamedTuple):
    """What a dead worker was doing.

    tolerant: the step may skip records or send them to its dead letters.
    call: see :class:`Convict`. checksum, record: None when they were not written down.
    """

    step: str
    tolerant: bool
    call: int
    checksum: int | None
    record: str | None


class NotRepeatable(Exception):
    """Another record came where the one was that killed the worker."""


class Watch:
    """Notes in a file what the task that runs has in hand.

    Parameters
    ----------
    path: of the file, which must not exist.
    probe: what to note.

    Raises OSError when there is no room for the file.
    """

    def __init__(self, path: str, probe: Probe) -> None:
        self.probe = probe
        self._path = path
        self._verdict: Exception | None = None  # of the convict that came last
        self._convicts = {convict.call: convict for convict in probe.convicts}
        self._calls = 0
        self._op: RecordOp | None = None
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, bytes(_BYTES))  # a hole would be a bus error later on, on a full file system
            self._memory = mmap.mmap(fd, _BYTES)
        finally:
            os.close(fd)

    def takes(self, op: RecordOp, record: Any, show: Callable[[Any], str]) -> None:
        """The step is about to get the record; ``show`` gives a bounded text of it.

        Raises PoisonTaskError or TaskDeadlineError for a convict, NotRepeatable for another in its place.
        """
        tolerant = op.policy is not None and op.policy.on_error is not OnError.FAIL
        if tolerant:
            self._calls += 1
            convict = self._convicts.get(self._calls)
            if convict is not None:
                self._give_up(convict, op, record)
        if op is not self._op:
            self._note_step(op.step)
            self._op = op
        if self.probe.full or (tolerant and self._calls == self.probe.suspect):
            self._note_record(show(record), _checksum(record))
        _HEAD.pack_into(self._memory, 0, _TOLERANT if tolerant else _STRICT, self._calls)

    def notes(self, step: str, shown: str) -> None:
        """A step that cannot give records up is at work on what ``shown`` says."""
        self._op = None
        self._note_step(step)
        self._note_record(shown, None)
        _HEAD.pack_into(self._memory, 0, _STRICT, self._calls)

    def lets_go(self) -> None:
        """The step is done with the record."""
        self._memory[0] = _NOBODY

    def is_verdict(self, error: Exception) -> bool:
        """True when ``error`` says that the record kills its worker, so that it must not be tried again."""
        return error is self._verdict

    def close(self) -> None:
        """Remove the file: the worker has survived."""
        self._memory.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _give_up(self, convict: Convict, op: RecordOp, record: Any) -> None:
        if convict.checksum is not None and convict.checksum != _checksum(record):
            raise NotRepeatable(
                f"call {convict.call} of step {op.step!r} has another record than when it killed the worker: "
                "the steps before are not deterministic, so the record cannot be found again"
            )
        self._verdict = (TaskDeadlineError if convict.hung else PoisonTaskError)(convict.message)
        raise self._verdict

    def _note_step(self, step: str) -> None:
        name = step.encode("utf-8", "replace")[: _STEP_BYTES_MAX - 2]
        struct.pack_into(f"<H{len(name)}s", self._memory, _STEP_AT, len(name), name)

    def _note_record(self, shown: str, checksum: int | None) -> None:
        text = shown.encode("utf-8", "replace")[:_TEXT_BYTES_MAX]
        self._memory[_DETAIL_AT] = 0
        self._memory[_TEXT_AT : _TEXT_AT + len(text)] = text
        _DETAIL.pack_into(self._memory, _DETAIL_AT, 1 + (checksum is not None), checksum or 0, len(text))


def _checksum(record: Any) -> int | None:
    """Of what the record looks like: its pickle would also tell equal strings from the same string."""
    try:
        text = repr(record)
    except Exception:
        return None
    return None if " at 0x" in text else zlib.crc32(text.encode("utf-8", "replace"))


def read_in_hand(path: str) -> InHand | None:
    """What the worker that wrote the file had in hand; None when there is no file, or nothing was in hand."""
    try:
        with open(path, "rb") as file:
            content = file.read(_BYTES)
    except OSError:
        return None
    if len(content) < _BYTES:
        return None
    hand, call = _HEAD.unpack_from(content, 0)
    if hand not in (_TOLERANT, _STRICT):
        return None
    (length,) = struct.unpack_from("<H", content, _STEP_AT)
    step = content[_STEP_AT + 2 : _STEP_AT + 2 + min(length, _STEP_BYTES_MAX)].decode("utf-8", "replace")
    noted, checksum, length = _DETAIL.unpack_from(content, _DETAIL_AT)
    record = content[_TEXT_AT : _TEXT_AT + length].decode("utf-8", "replace") if noted else None
    return InHand(step, hand == _TOLERANT, call, checksum if noted == 2 else None, record)
