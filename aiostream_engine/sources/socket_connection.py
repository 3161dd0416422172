"""One TCP connection that is read into the blocks of a source, and what clients and servers share.

All connections of a source read into one scratch buffer that stays in the processor's cache;
whole records go from there to shared memory by one copy. Reading into shared memory directly
was measured: it saves no copy, since lines must be found and counted in process memory anyway,
and the page faults of fresh memory cost more than the copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Protocol, cast

from ..blocks.arena import Arena
from ..config import QueueLimits, RetryPolicy
from ..errors import OptionError, StorageError
from .base import ReceiverSource
from .framing import Framer
from .open_block import BytesBlock
from .receiver import SupervisedSource

__all__ = ["Connection", "SocketReceiver", "check_line_bytes", "check_seconds"]

# uvloop reads up to 32 times before it looks at anything else: this bounds how long that takes.
READ_BYTES = 64 * 1024
_READ_BYTES_MIN = 512


class _Owner(Protocol):
    """What a connection needs of its source."""

    scratch: bytearray

    @property
    def is_full(self) -> bool: ...
    def read_size(self) -> int: ...
    def joined(self, connection: Connection) -> None: ...
    def left(self, connection: Connection) -> None: ...
    def now(self) -> float: ...


class Connection(asyncio.BufferedProtocol):
    """Feeds a framer from a socket; ``closed`` resolves to None after an orderly end, else to the error.

    An unfinished record of a broken connection is dropped and counted (scenario E9).
    """

    def __init__(self, owner: _Owner, framer: Framer, keepalive_s: float) -> None:
        self._owner = owner
        self._keepalive_s = keepalive_s
        self._transport: asyncio.Transport | None = None
        self._at_end = False
        self.error: BaseException | None = None
        self._paused = False
        self.framer = framer
        self.closed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.received_bytes = 0
        self.broken = False
        self.progress_at = owner.now()
        self.received_at = self.progress_at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        _keep_alive(self._transport, self._keepalive_s)
        self._owner.joined(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._owner.scratch)[: self._owner.read_size()]

    def buffer_updated(self, nbytes: int) -> None:
        unfinished = self.framer.unfinished_bytes
        self.received_bytes += nbytes
        self.received_at = self._owner.now()
        try:
            self.framer.feed(self._owner.scratch, nbytes)
        except Exception as error:
            self.abort(error)
            return
        if self._owner.is_full:
            self.pause()  # it began to read when the others had been paused already
        # Something was completed unless all that came was added to what is unfinished.
        if self.framer.unfinished_bytes != unfinished + nbytes:
            self.progress_at = self.received_at

    def eof_received(self) -> bool:
        self._at_end = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        in_order = self.error is None and self._at_end
        if self.framer.unfinished_bytes:
            self.broken = not (in_order and self._end_framer())
        self._owner.left(self)
        if not self.closed.done():
            self.closed.set_result(self.error)

    def _end_framer(self) -> bool:
        try:
            return self.framer.end()
        except Exception as error:
            self.error = error
            return False

    def pause(self) -> None:
        """Do not read until :meth:`resume`; the kernel's buffers fill and push the sender back."""
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again; the time of the pause is not held against the peer."""
        if self._transport is not None and self._paused:
            self._paused = False
            self.progress_at = self.received_at = self._owner.now()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    @property
    def paused(self) -> bool:
        """True between :meth:`pause` and :meth:`resume`."""
        return self._paused

    def abort(self, error: BaseException | None = None) -> None:
        """Close at once, for the reason ``error``."""
        if self.error is None:
            self.error = error
        if self._transport is not None:
            self._transport.abort()


class SocketReceiver(SupervisedSource, ReceiverSource):
    """Reads TCP connections into blocks of bytes; subclasses make the connections and the framers."""

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy | None,
        limits: QueueLimits | None,
        keepalive_s: float,
        idle_timeout_s: float | None,
    ) -> None:
        super().__init__(name, retry=retry, limits=limits)
        check_seconds("keepalive_s", keepalive_s)
        check_seconds("idle_timeout_s", idle_timeout_s)
        self._keepalive_s = keepalive_s
        self._idle_timeout_s = idle_timeout_s
        self._connections: set[Connection] = set()
        self.scratch = bytearray()

    def _make_framer(self) -> Framer:
        raise NotImplementedError

    def _make_connection(self) -> Connection:
        return Connection(self, self._make_framer(), self._keepalive_s)

    def _open_block(self, arena: Arena) -> BytesBlock:
        self.scratch = bytearray(READ_BYTES)
        self._bytes_block = BytesBlock(arena, self.format, self.format_args)
        return self._bytes_block

    # -- what a connection calls -------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds of the context's clock."""
        return self.context.clock.monotonic()

    @property
    def is_full(self) -> bool:
        """True while nothing more is to be read."""
        return not self._gate.is_set()

    def read_size(self) -> int:
        """How much to read next: less under a rate limit, so that no read overdraws it by far."""
        available = self._bucket.available(self.now())
        if available == float("inf"):
            return READ_BYTES
        mean = self._bytes_total / self._records_total if self._records_total else 64.0
        return int(min(max(available * mean, _READ_BYTES_MIN), READ_BYTES))

    def joined(self, connection: Connection) -> None:
        """A connection is open."""
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if connection.broken:
            self.counters["records_partial"] += 1
            self.counters["records_dropped"] += 1
        if connection.error is not None:
            self.counters["connections_broken"] += 1
            self._last_error = f"{type(connection.error).__name__}: {connection.error}"

    def append(self, data: bytes | bytearray | memoryview, records: int) -> None:
        """Take whole records; ends the block when it is large."""
        try:
            self._bytes_block.append(data, records)
        except StorageError:
            self.counters["records_dropped"] += records
            raise
        if self._block.bytes >= self.limits.block_bytes:
            self._seal()
        self._admitted(records, len(data))

    def drop(self, records: int) -> None:
        """Count records that were over their bound."""
        self.counters["records_too_long"] += records
        self.counters["records_dropped"] += records

    # -- gate --------------------------------------------------------------------------------

    def _pause_reading(self) -> None:
        for connection in self._connections:
            connection.pause()

    def _resume_reading(self) -> None:
        for connection in self._connections:
            connection.resume()

    async def _sleep_until(self, deadline: float) -> None:
        """Wait for the time to look for idle peers.

        After a stall of the loop, what has come meanwhile is read before anybody is called idle
        (scenarios D2, D3).
        """
        await self.context.clock.sleep_until(deadline)
        for _ in range(3):
            await asyncio.sleep(0)

    def _release(self) -> None:
        for connection in list(self._connections):
            connection.abort()


def check_seconds(option: str, value: float | None) -> None:
    """Raise OptionError unless ``value`` is above 0 or None."""
    if value is not None and not value > 0:
        raise OptionError(f"{option} is {value!r}: use seconds above 0")


def check_line_bytes(line_bytes_max: int | None) -> int | None:
    """Give ``line_bytes_max`` back; raises OptionError when it is below 1."""
    if line_bytes_max is not None and line_bytes_max < 1:
        raise OptionError(f"line_bytes_max is {line_bytes_max!r}: it must be at least 1")
    return line_bytes_max


def _keep_alive(transport: asyncio.Transport, keepalive_s: float) -> None:
    """Have the kernel find a peer that is gone without a word (scenario E8)."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # the peer may have gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(keepalive_s)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(keepalive_s / 3)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
