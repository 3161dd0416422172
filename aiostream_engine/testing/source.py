"""Sources that play a script, one item a batch."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..blocks.formats import encode_records
from ..errors import LifecycleError, SourceError
from ..observe.events import ReceiverInfo
from ..sources.base import BatchInput, EphemeralSource, ReplayableSource, SourceContext
from ..types import INLINE_BYTES_MAX, BatchTime, BlockRef

__all__ = [
    "ABORT",
    "EOF",
    "PAUSE",
    "RAISE",
    "ScriptItem",
    "ScriptedReplayableSource",
    "ScriptedSource",
    "Sentinel",
]


class Sentinel(enum.Enum):
    """Script items that are not records."""

    PAUSE = "pause"
    EOF = "eof"
    ABORT = "abort"


PAUSE = Sentinel.PAUSE
"""One batch without data."""
EOF = Sentinel.EOF
"""The source is finished; what stands after it is not played."""
ABORT = Sentinel.ABORT
"""The source dies: this cut and all later ones raise SourceError. A replay goes on behind it."""


@dataclass(frozen=True, slots=True)
class RAISE:
    """This cut raises ``error``; the next one goes on with the item behind."""

    error: BaseException


ScriptItem = Sequence[Any] | Sentinel | RAISE


class _Script:
    """The behaviour that both kinds of scripted source share; not a source by itself."""

    name: str
    format = "pickle"

    def __init__(self, script: Iterable[ScriptItem], name: str, partitions: int) -> None:
        self.name = name
        self._items: deque[ScriptItem] = deque(script)
        self._partitions = partitions
        self._context: SourceContext | None = None
        self._stopped = False
        self._dead = False
        self._played = 0
        self._records_total = 0
        self.rates: list[float | None] = []
        self.cuts: list[BatchTime] = []
        self.commits: list[BatchTime] = []
        self.closed = False

    def append(self, *items: ScriptItem) -> None:
        """Add items behind the others; may be called while the source runs."""
        self._items.extend(items)
        if self._context is not None and self.pending:
            self._context.notify()

    async def start(self, context: SourceContext) -> None:
        """Begin to play."""
        self._context = context
        context.on_started(self.info())
        if self.pending:
            context.notify()

    async def cut(self, time: BatchTime) -> BatchInput:
        """Play one item. Raises what the script says."""
        if self._context is None:
            raise LifecycleError(f"{self.name} was not started")
        self.cuts.append(time)
        if self._dead:
            raise SourceError(f"{self.name} was aborted by its script")
        if not self._items or self._items[0] is EOF:
            return self._input(())
        item = self._items.popleft()
        self._played += 1
        if isinstance(item, RAISE):
            raise item.error
        if item is ABORT:
            self._dead = True
            raise SourceError(f"{self.name} was aborted by its script")
        if self.pending:
            self._context.notify()
        return self._input(() if isinstance(item, Sentinel) else item)

    def _input(self, records: Sequence[Any]) -> BatchInput:
        blocks = [self._block(part) for part in _split(records, self._partitions)]
        self._records_total += len(records)
        return BatchInput(
            blocks=tuple(blocks),
            records=len(records),
            bytes=sum(block.size for block in blocks),
            position=self._played,
        )

    def _block(self, records: Sequence[Any]) -> BlockRef:
        assert self._context is not None
        data = encode_records(list(records))
        if len(data) <= INLINE_BYTES_MAX:
            return BlockRef("pickle", data=data, records=len(records))
        directory = self._context.directory
        path, (offset,) = directory.writer.write([data])
        ref = BlockRef("pickle", path=path, offset=offset, length=len(data), records=len(records))
        directory.ledger.retain([ref])
        return ref

    async def stop(self) -> None:
        """Take no new items; those in the script can still be cut."""
        if not self._stopped and self._context is not None:
            self._stopped = True
            self._context.on_stopped(self.info())

    async def aclose(self) -> None:
        """Note that the engine has freed the source: see ``closed``."""
        self.closed = True

    @property
    def finished(self) -> bool:
        """True at EOF, and when the script of a stopped source is at its end."""
        return bool(self._items and self._items[0] is EOF) or (self._stopped and not self._items)

    @property
    def pending(self) -> bool:
        """True when the next cut would play records or raise."""
        return bool(self._items) and not isinstance(self._items[0], Sentinel)

    def info(self) -> ReceiverInfo:
        """Statistics of this moment."""
        return ReceiverInfo(
            stream_id=-1 if self._context is None else self._context.stream_id,
            name=self.name,
            active=self._context is not None and not self._stopped and not self._dead,
            queue_records=sum(len(item) for item in self._items if isinstance(item, Sequence)),
            rate_limit=self.rates[-1] if self.rates else None,
            records_total=self._records_total,
        )

    def set_rate(self, rate: float | None) -> None:
        """Note the rate in ``rates``; the script keeps its own pace."""
        self.rates.append(rate)

    async def on_commit(self, time: BatchTime) -> None:
        """Note the label in ``commits``."""
        self.commits.append(time)


class ScriptedSource(_Script, EphemeralSource):
    """Plays a script, one item for each cut; with nothing left, cuts are empty.

    Parameters
    ----------
    script: items: a sequence of records for one batch, or PAUSE, EOF, ABORT, RAISE(error).
    name: shown everywhere.
    partitions: blocks that the records of a batch are spread over, in order.

    What the engine did to it can be read from ``cuts`` and ``commits`` (labels), ``rates`` and
    ``closed``.
    """

    def __init__(
        self, script: Iterable[ScriptItem] = (), *, name: str = "script", partitions: int = 1
    ) -> None:
        super().__init__(script, name, partitions)


class ScriptedReplayableSource(_Script, ReplayableSource):
    """As :class:`ScriptedSource`, and can begin at the position that a batch input gave.

    Parameters
    ----------
    position: items of the script to leave out, as given by ``BatchInput.position``.
    """

    def __init__(
        self,
        script: Iterable[ScriptItem] = (),
        *,
        position: int = 0,
        name: str = "script",
        partitions: int = 1,
    ) -> None:
        items = list(script)
        super().__init__(items[position:], name, partitions)
        self._played = position

    def restore(self, position: Any) -> None:
        """Leave out the items before ``position``; those played count on from it."""
        for _ in range(position - self._played):
            self._items.popleft()
        self._played = position


def _split(records: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    """Up to ``parts`` runs of nearly equal length, none of them empty."""
    parts = min(parts, len(records))
    return [records[len(records) * i // parts : len(records) * (i + 1) // parts] for i in range(parts)]
