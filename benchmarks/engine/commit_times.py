"""How long batches take until they are true, which no listener's delay holds."""

from __future__ import annotations

from typing import Any

from common.program import stopwatch

__all__ = ["CommitTimes"]


class CommitTimes:
    """Seconds of each batch from the end of its cut until its source is told that it is committed.

    stream: the stream of the source, of a context that was not started.
    """

    def __init__(self, stream: Any) -> None:
        self.seconds: list[float] = []
        self._cut_at: dict[int, float] = {}
        source = stream.node.source
        self._cut, self._on_commit = source.cut, source.on_commit
        source.cut, source.on_commit = self.cut, self.on_commit

    async def cut(self, time: int) -> Any:
        content = await self._cut(time)
        self._cut_at[time] = stopwatch()
        return content

    async def on_commit(self, time: int) -> None:
        self.seconds.append(stopwatch() - self._cut_at.pop(time))
        await self._on_commit(time)
