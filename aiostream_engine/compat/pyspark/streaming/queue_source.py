"""The source of queueStream: RDDs that are known when the stream is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ....observe.events import ReceiverInfo
from ....sources.base import BatchInput, EphemeralSource, SourceContext
from ....types import BatchTime

__all__ = ["RddQueueSource"]


class RddQueueSource(EphemeralSource):
    """Gives one RDD a batch, or all that are left; then ``default`` (row SRC-16).

    rdds, default: RDDs of the engine. What is left in the queue when the stream is stopped stays there.
    """

    name = "queue"

    def __init__(self, rdds: Sequence[Any], one_at_a_time: bool, default: Any) -> None:
        self._rdds = deque(rdds)
        self._one_at_a_time = one_at_a_time
        self._default = default
        self._context: SourceContext | None = None
        self._stopped = False

    async def start(self, context: SourceContext) -> None:
        self._context = context
        self.name = f"{self.name}[{context.stream_id}]"

    async def cut(self, time: BatchTime) -> BatchInput:
        if not self._rdds:
            return BatchInput(datasets=(self._default,))
        if self._one_at_a_time:
            return BatchInput(datasets=(self._rdds.popleft(),))
        taken = tuple(self._rdds)
        self._rdds.clear()
        return BatchInput(datasets=taken)

    async def stop(self) -> None:
        self._stopped = True

    @property
    def finished(self) -> bool:
        return self._stopped

    @property
    def pending(self) -> bool:
        return False

    def info(self) -> ReceiverInfo:
        number = -1 if self._context is None else self._context.stream_id
        return ReceiverInfo(stream_id=number, name=self.name, active=not self._stopped)
