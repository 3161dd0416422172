"""Sending messages to an actor source from another process."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ..errors import OptionError
from .actor_wire import Codec, FrameKind, WireError, codec, read_frame, write_frame

__all__ = ["ActorClient", "parse_address"]


def parse_address(address: str) -> tuple[str, int] | str:
    """``tcp://host:port`` as (host, port), ``unix:///path`` as the path. Raises OptionError."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "unix" and rest:
        return rest
    host, colon, port = rest.rpartition(":")
    if separator and scheme == "tcp" and colon and host and port.isdigit() and 0 <= int(port) <= 65535:
        return host.strip("[]"), int(port)
    raise OptionError(f"address {address!r} is not understood: use 'tcp://127.0.0.1:9000' or 'unix:///path'")


class ActorClient:
    """A connection to an :class:`~aiostream_engine.sources.actor.ActorSource`; an async context manager.

    Messages arrive in the order of their sending. A full mailbox makes :meth:`send` wait.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, codec: Codec) -> None:
        self._reader = reader
        self._writer = writer
        self._codec = codec
        self._syncing = asyncio.Lock()

    @classmethod
    async def connect(
        cls, address: str, *, token: str | None = None, codec_name: str = "msgpack", timeout_s: float = 10.0
    ) -> ActorClient:
        """Connect and introduce oneself.

        address: ``tcp://host:port`` or ``unix:///path``, as ``ActorSource.address`` tells.
        token: must be that of the source.
        codec_name: ``msgpack`` or ``json``.

        Raises OptionError for a bad address, PermissionError when refused, OSError or TimeoutError
        when there is no connection.
        """
        wire, place = codec(codec_name), parse_address(address)
        async with asyncio.timeout(timeout_s):
            if isinstance(place, str):
                reader, writer = await asyncio.open_unix_connection(place)
            else:
                reader, writer = await asyncio.open_connection(*place)
            client = cls(reader, writer, wire)
            try:
                await client._introduce(token, codec_name)
            except BaseException:
                writer.transport.abort()
                raise
        return client

    async def _introduce(self, token: str | None, codec_name: str) -> None:
        body = codec("json").encode({"token": token, "codec": codec_name})
        write_frame(self._writer, FrameKind.HELLO, body)
        await self._writer.drain()
        await self._expect_ok()

    async def send(self, message: Any) -> None:
        """Send one message of plain values; returns when it is on its way, waits under back-pressure.

        Raises TypeError for a value that the codec does not know, ConnectionError when the
        connection is gone. Use :meth:`flush` to know that it arrived.
        """
        write_frame(self._writer, FrameKind.MESSAGE, self._codec.encode(message))
        await self._writer.drain()

    async def flush(self) -> None:
        """Return when all messages sent before are in the mailbox. Raises ConnectionError."""
        async with self._syncing:
            write_frame(self._writer, FrameKind.SYNC)
            await self._writer.drain()
            await self._expect_ok()

    async def aclose(self) -> None:
        """Close; what was sent is still delivered if the other side lives."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _expect_ok(self) -> None:
        frame = await read_frame(self._reader, 64 * 1024)
        if frame is None:
            raise WireError("the actor closed the connection")
        if frame.kind is FrameKind.REFUSED:
            raise PermissionError(f"the actor refused: {frame.body.decode('utf-8', 'replace')}")
        if frame.kind is not FrameKind.OK:
            raise WireError(f"the actor answered {frame.kind.name}")

    async def __aenter__(self) -> ActorClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
