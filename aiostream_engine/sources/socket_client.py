"""A TCP client that connects, reads, and connects again; the base of the text and frame sources."""

from __future__ import annotations

import asyncio
import ssl

from ..config import QueueLimits, RetryPolicy
from ..errors import OptionError
from .receiver import cancel_and_wait
from .socket_connection import Connection, SocketReceiver, check_seconds

__all__ = ["SocketClient"]


class SocketClient(SocketReceiver):
    """Connects to ``host:port`` and reads until the end; see the subclasses for the parameters."""

    announces_start = True

    def __init__(
        self,
        kind: str,
        host: str,
        port: int,
        *,
        retry: RetryPolicy | None,
        limits: QueueLimits | None,
        connect_timeout_s: float,
        idle_timeout_s: float | None,
        keepalive_s: float,
        finish_at_eof: bool,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        if not host or not isinstance(host, str):
            raise OptionError(f"host is {host!r}: give a host name or an address")
        if not isinstance(port, int) or not 1 <= port <= 65535:
            raise OptionError(f"port is {port!r}: use 1 to 65535")
        check_seconds("connect_timeout_s", connect_timeout_s)
        # A stream that anybody may restart is waited for; only its owner knows when to give up.
        super().__init__(
            f"{kind} {host}:{port}",
            retry=retry or RetryPolicy(attempts_max=None),
            limits=limits,
            keepalive_s=keepalive_s,
            idle_timeout_s=idle_timeout_s,
        )
        self.host = host
        self.port = port
        self._connect_timeout_s = connect_timeout_s
        self._finish_at_eof = finish_at_eof
        self._ssl_context = ssl_context

    async def receive(self) -> None:
        connection = await self._connect()
        self._started()
        idle = asyncio.create_task(self._watch_idle(connection)) if self._idle_timeout_s else None
        try:
            error = await connection.closed
        finally:
            connection.abort()
            if idle is not None:
                await cancel_and_wait(idle)
        if error is not None:
            raise error
        if not self._finish_at_eof:
            raise ConnectionResetError(f"{self.host}:{self.port} ended the stream")

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    self._make_connection, self.host, self.port, ssl=self._ssl_context
                )
        except TimeoutError:
            raise TimeoutError(
                f"no connection to {self.host}:{self.port} within {self._connect_timeout_s} s"
            ) from None
        return connection

    async def _watch_idle(self, connection: Connection) -> None:
        """Break a connection on which nothing comes, such as one whose peer vanished (scenario E8)."""
        timeout = self._idle_timeout_s
        assert timeout is not None
        while True:
            since = self.now() if connection.paused else connection.received_at
            await self._sleep_until(since + timeout)
            if not connection.paused and self.now() - connection.received_at >= timeout:
                connection.abort(TimeoutError(f"nothing came for {timeout} s"))
                return
