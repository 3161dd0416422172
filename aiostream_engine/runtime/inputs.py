"""The inputs of a running stream: started together, cut together, paced one by one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from ..blocks.directory import BlockDirectory
from ..clock import Clock
from ..config import BackpressureConfig, QueueLimits
from ..observe.events import (
    Event,
    InputInfo,
    RateUpdated,
    ReceiverError,
    ReceiverInfo,
    ReceiverStarted,
    ReceiverStopped,
)
from ..plan.graph import InputStream
from ..sources.base import BatchInput, ReplayableSource, Source, SourceContext
from ..types import BatchTime, BlockRef
from .rate import RateController

__all__ = ["Inputs"]

_log = logging.getLogger("aiostream_engine.inputs")

SOURCE_STOP_TIMEOUT_S = 10.0
CANCEL_TIMEOUT_S = 1.0


class Inputs:
    """All sources of one graph.

    Parameters
    ----------
    nodes: the inputs, in order of definition.
    notify: called when some source has data to cut.
    emit: gets receiver events.
    """

    def __init__(
        self,
        nodes: Sequence[InputStream],
        directory: BlockDirectory,
        clock: Clock,
        limits: QueueLimits,
        backpressure: BackpressureConfig,
        parallelism: int,
        interval_s: float,
        notify: Callable[[], None],
        emit: Callable[[Event], None],
    ) -> None:
        self.nodes = list(nodes)
        self._directory = directory
        self._clock = clock
        self._limits = limits
        self._parallelism = parallelism
        self._interval_s = interval_s
        self._notify = notify
        self._emit = emit
        self._started: list[Source] = []
        self._leftovers: dict[str, list[BlockRef]] = {}
        self._rates = {
            node.stream_id: RateController(backpressure, interval_s)
            for node in self.nodes
            if node.source.paced
        }

    async def start(self) -> None:
        """Start every source, in order; a failure is the caller's to clean up by :meth:`aclose`."""
        for node in self.nodes:
            rate = self._rates.get(node.stream_id)
            if rate is not None:
                node.source.set_rate(rate.rate)
            self._started.append(node.source)
            await node.source.start(self._context(node))

    def _context(self, node: InputStream) -> SourceContext:
        return SourceContext(
            stream_id=node.stream_id,
            directory=self._directory,
            limits=self._limits,
            clock=self._clock,
            parallelism=self._parallelism,
            interval_s=self._interval_s,
            random=random.Random(),
            notify=self._notify,
            on_started=lambda info: self._emit(ReceiverStarted(self._now(), info)),
            on_error=lambda info: self._emit(ReceiverError(self._now(), info)),
            on_stopped=lambda info: self._emit(ReceiverStopped(self._now(), info)),
        )

    def _now(self) -> int:
        return int(self._clock.time() * 1000)

    async def cut(self, time: BatchTime) -> tuple[list[BatchInput], tuple[InputInfo, ...]]:
        """The frozen content of each input for the batch, and its description."""
        contents: list[BatchInput] = []
        try:
            for node in self.nodes:
                contents.append(await node.source.cut(time))
        except BaseException:  # what the others gave is in no batch
            self.discard(contents)
            raise
        if self._leftovers:
            contents = [
                self._with_leftovers(node, item) for node, item in zip(self.nodes, contents, strict=True)
            ]
        return contents, self.describe(contents)

    async def recompute(self, contents: Sequence[BatchInput]) -> list[BatchInput]:
        """The contents of a batch of an earlier run, whose blocks some sources make again."""
        whole: list[BatchInput] = []
        try:
            for node, content in zip(self.nodes, contents, strict=True):
                if content.recipe is not None and isinstance(node.source, ReplayableSource):
                    content = await node.source.recompute(content.recipe)
                whole.append(content)
        except BaseException:
            self.discard(whole)
            raise
        return whole

    def discard(self, contents: Sequence[BatchInput]) -> None:
        """Let go of what was cut and is in no batch."""
        for content in contents:
            self._directory.ledger.release(content.blocks)

    def take_over(self, leftovers: dict[str, list[BlockRef]]) -> None:
        """Blocks of an earlier run that no batch held: the next cut gives them first."""
        self._leftovers = dict(leftovers)

    def _with_leftovers(self, node: InputStream, content: BatchInput) -> BatchInput:
        blocks = self._leftovers.pop(node.name, [])
        known = all(block.records >= 0 for block in blocks) and content.records >= 0
        return replace(
            content,
            blocks=(*blocks, *content.blocks),
            records=content.records + sum(block.records for block in blocks) if known else -1,
            bytes=content.bytes + sum(block.size for block in blocks),
        )

    def describe(self, contents: Sequence[BatchInput]) -> tuple[InputInfo, ...]:
        """What the contents are, for events."""
        return tuple(
            InputInfo(node.stream_id, node.name, content.records, content.bytes, content.metadata)
            for node, content in zip(self.nodes, contents, strict=True)
        )

    def learn(
        self, time_ms: int, infos: Sequence[InputInfo], processing_s: float, scheduling_s: float
    ) -> None:
        """Set the receivers' rates after a finished batch (row BP-5)."""
        for node, info in zip(self.nodes, infos, strict=True):
            controller = self._rates.get(node.stream_id)
            if controller is None:
                continue
            before = controller.rate
            rate = controller.update(time_ms, max(0, info.records), processing_s, scheduling_s)
            if rate != before:
                node.source.set_rate(rate)
                if rate is not None:
                    self._emit(RateUpdated(self._now(), node.stream_id, rate))

    async def committed(self, time: BatchTime) -> None:
        """Tell the sources that what the batch held is done."""
        for node in self.nodes:
            await node.source.on_commit(time)

    @property
    def pending(self) -> bool:
        """True when some source has data to cut."""
        return any(node.source.pending for node in self.nodes)

    @property
    def finished(self) -> bool:
        """True when no source will ever give data again."""
        return all(node.source.finished for node in self.nodes)

    def infos(self) -> list[ReceiverInfo]:
        """Statistics of each input."""
        return [node.source.info() for node in self.nodes]

    async def stop(self) -> None:
        """Take no new data; all sources at once, each within its bound."""
        await self._each("stop", [source.stop() for source in self._started])

    async def aclose(self) -> None:
        """Stop and free everything."""
        await self.stop()
        await self._each("close", [source.aclose() for source in self._started])

    async def _each(self, what: str, coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
        if not coroutines:
            return
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        try:
            _, late = await asyncio.wait(tasks, timeout=SOURCE_STOP_TIMEOUT_S)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)
        for source, task in zip(self._started, tasks, strict=False):
            if not task.done() or task.cancelled():
                _log.warning("source %s did not %s within %g s", source.name, what, SOURCE_STOP_TIMEOUT_S)
            elif (error := task.exception()) is not None:
                _log.warning("source %s did not %s well: %r", source.name, what, error)
