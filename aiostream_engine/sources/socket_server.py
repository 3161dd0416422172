"""Lines of text from many TCP senders: the source listens, they connect."""

from __future__ import annotations

import asyncio

from ..config import QueueLimits, RetryPolicy
from ..errors import OptionError, SourceError
from .framing import LineFramer
from .socket_connection import Connection, SocketReceiver, check_line_bytes
from .text_encoding import text_format

__all__ = ["SocketServerSource"]

_BACKLOG = 256


class SocketServerSource(SocketReceiver):
    """Listens on ``host:port``; one record is one line of any sender.

    Lines of one sender keep their order; those of different senders are interleaved, never
    glued. Decoding, line ends and lost lines are as for
    :class:`~aiostream_engine.sources.socket_text.SocketTextSource`. When the queue is full no
    sender is read.

    It listens on loopback unless a host is given: whoever reaches the port can send records.

    Parameters
    ----------
    host, port: where to listen; port 0 takes a free one, which ``port`` tells after start.
    connections_max: senders at the same time; one more is closed at once and counted in
        ``connections_refused``.
    idle_timeout_s: a sender that completed no line for so long is closed, also when it trickles
        bytes (scenario E7); None for never.
    encoding, errors, line_bytes_max, keepalive_s, limits: as for the client.

    Raises OptionError for bad values; :meth:`start` raises SourceError when it cannot listen.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        encoding: str = "utf-8",
        errors: str = "replace",
        line_bytes_max: int | None = None,
        connections_max: int = 1000,
        idle_timeout_s: float | None = 300.0,
        keepalive_s: float = 30.0,
        limits: QueueLimits | None = None,
    ) -> None:
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise OptionError(f"port is {port!r}: use 0 to 65535")
        if connections_max < 1:
            raise OptionError(f"connections_max is {connections_max!r}: it must be at least 1")
        super().__init__(
            f"socket server {host}:{port}",
            retry=RetryPolicy(),
            limits=limits,
            keepalive_s=keepalive_s,
            idle_timeout_s=idle_timeout_s,
        )
        self._text = text_format(encoding, errors)
        self.format, self.format_args = self._text.format, self._text.args
        self.decode_strictly = self._text.decode_strictly
        self._line_bytes_max = check_line_bytes(line_bytes_max)
        self.host = host
        self.port = port
        self.connections_max = connections_max
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """Senders that are connected now."""
        return len(self._connections)

    async def _prepare(self) -> None:
        await self._listen()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._make_connection, self.host or "127.0.0.1", self.port, backlog=_BACKLOG
            )
        except OSError as error:
            raise SourceError(f"cannot listen on {self.host}:{self.port}: {error}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def receive(self) -> None:
        if self._server is None:
            await self._listen()
        try:
            await self._close_idle_senders()
        finally:
            self._stop_listening()

    async def _close_idle_senders(self) -> None:
        timeout = self._idle_timeout_s
        if timeout is None:
            await asyncio.get_running_loop().create_future()
            return
        while True:
            await self._sleep_until(self.now() + timeout / 4)
            for connection in list(self._connections):
                if not connection.paused and self.now() - connection.progress_at >= timeout:
                    self.counters["connections_idle"] += 1
                    connection.abort(TimeoutError(f"no line was completed for {timeout} s"))

    def _make_framer(self) -> LineFramer:
        bound = self._line_bytes_max or self.limits.record_bytes_max
        return LineFramer(self.append, self.drop, bound, skip_bom=self._text.has_bom)

    def joined(self, connection: Connection) -> None:
        super().joined(connection)
        self.counters["connections_total"] += 1
        if len(self._connections) > self.connections_max:
            self.counters["connections_refused"] += 1
            connection.abort(ConnectionRefusedError(f"over connections_max={self.connections_max}"))

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _release(self) -> None:
        self._stop_listening()
        super()._release()
