"""A TCP proxy that lets the answers of a server through slowly."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["SlowProxy"]

_PIECE_BYTES = 16 * 1024


class SlowProxy:
    """Listens on ``port`` and passes on to ``upstream_port``, both on loopback.

    bytes_per_s: how much comes back, on all connections together; may be changed meanwhile.
    """

    def __init__(self, port: int, upstream_port: int, bytes_per_s: float) -> None:
        self._port, self._upstream_port = port, upstream_port
        self.bytes_per_s = bytes_per_s
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> SlowProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            requests = asyncio.ensure_future(self._pass_on(reader, upstream, slowly=False))
            try:
                await self._pass_on(answers, writer, slowly=True)
            finally:
                requests.cancel()
                await asyncio.wait({requests})
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_PIECE_BYTES):
                if slowly:
                    async with self._turn:
                        await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()
            writer.close()
