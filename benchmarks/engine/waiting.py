"""Waiting for a result without hanging when the stream has failed."""

from __future__ import annotations

import asyncio

import aiostream_engine as ase

__all__ = ["until"]


async def until(done: asyncio.Event, ssc: ase.StreamingContext) -> None:
    """Wait for ``done``; raises what made the stream fail, RuntimeError when it just ended."""
    waiting = asyncio.ensure_future(done.wait())
    ended = asyncio.ensure_future(ssc.await_termination())
    await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
    for task in (waiting, ended):
        if not task.done():
            task.cancel()
    if not done.is_set():
        ended.result()
        raise RuntimeError("the stream ended before all results were there")
