"""Actor streams: a bounded mailbox that user code in this or another process sends messages to.

The idea is Spark's ``actorStream``: receive in an actor, supervise it, stream what it stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
from collections.abc import Callable
from typing import Any

from ..config import QueueLimits, RetryPolicy
from ..errors import LifecycleError, OptionError, SourceError
from .actor_client import ActorClient, parse_address
from .actor_wire import HELLO_BYTES_MAX, Codec, FrameKind, WireError, codec, read_frame, write_frame
from .base import ReceiverSource
from .object_source import ObjectSource
from .receiver import cancel_and_wait

__all__ = ["Actor", "ActorClient", "ActorRef", "ActorSource"]

_HELLO_TIMEOUT_S = 10.0
_DRAIN_S = 1.0


class Actor:
    """User code between mailbox and stream; a new object after a failure.

    Override :meth:`receive`. The base stores every message as it is.
    """

    _source: ActorSource

    async def receive(self, message: Any) -> None:
        """Handle one message; messages come one by one."""
        await self.store(message)

    async def store(self, record: Any) -> None:
        """Add a record to the stream; waits while the source's queue is full."""
        await self._source.store(record)

    async def on_start(self) -> None:
        """Called before the first message of this object."""

    async def on_stop(self) -> None:
        """Called after the last one, also after a failure."""


class ActorRef:
    """The address of a mailbox in this process; can be given out before the stream starts."""

    def __init__(self, source: ActorSource) -> None:
        self._source = source

    def tell(self, message: Any) -> None:
        """Put a message into the mailbox at once, from the loop's thread.

        Raises asyncio.QueueFull when the mailbox is full, LifecycleError after the stop.
        """
        self._source.mailbox_put_nowait(message)

    async def send(self, message: Any) -> None:
        """Put a message into the mailbox; waits for room. Raises LifecycleError after the stop."""
        await self._source.mailbox_put(message)


class ActorSource(ObjectSource, ReceiverSource):
    """Streams what an actor makes of the messages in its mailbox.

    The mailbox is bounded: senders in this process wait or are told, those in other processes are
    not read. Messages of one sender keep their order. There is no acknowledgement to the sender
    beyond the mailbox.

    When the actor raises, that message is dropped and counted, and a new actor goes on with the
    next one after a back-off, by the retry policy; senders stay connected meanwhile.

    Other processes send through :class:`ActorClient`; messages are plain values in MessagePack or
    JSON, never pickled. Nothing listens unless ``listen`` is given.

    Parameters
    ----------
    actor: a class or function that makes the actor; by default every message is a record.
    listen: ``tcp://host:port`` (port 0 takes a free one) or ``unix:///path`` (made with mode 0600);
        ``address`` tells it after start. Whoever reaches it can send: stay on loopback, or give a token.
    token: what clients must present; compared in constant time.
    mailbox_max: most messages that wait.
    message_bytes_max: bound of one message from outside, checked before it is read.
    connections_max: senders at the same time.
    name, retry, limits: as for every receiver.

    Raises OptionError for bad values; :meth:`start` raises SourceError when it cannot listen.
    """

    def __init__(
        self,
        actor: Callable[[], Actor] | None = None,
        *,
        listen: str | None = None,
        token: str | None = None,
        mailbox_max: int = 10_000,
        message_bytes_max: int = 1024 * 1024,
        connections_max: int = 100,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        limits: QueueLimits | None = None,
    ) -> None:
        for option, value in {
            "mailbox_max": mailbox_max,
            "message_bytes_max": message_bytes_max,
            "connections_max": connections_max,
        }.items():
            if value < 1:
                raise OptionError(f"{option} is {value!r}: it must be at least 1")
        if actor is not None and not callable(actor):
            raise OptionError(f"actor is {actor!r}: give a class or function that makes an Actor")
        if token == "":
            raise OptionError("token is empty: give one that cannot be guessed, or None")
        self._place = None if listen is None else parse_address(listen)
        super().__init__(name or f"actor {getattr(actor, '__name__', 'mailbox')}", retry=retry, limits=limits)
        self._make_actor = actor or Actor
        self._token = token
        self._mailbox: asyncio.Queue[Any] = asyncio.Queue(mailbox_max)
        self._room = asyncio.Event()  # set also when there will never be room again
        self._message_bytes_max = message_bytes_max
        self._connections_max = connections_max
        self._server: asyncio.Server | None = None
        self._senders: set[asyncio.Task[Any]] = set()
        self._unix_path: str | None = None
        self.ref = ActorRef(self)
        self.address: str | None = listen

    # -- mailbox -----------------------------------------------------------------------------

    def mailbox_put_nowait(self, message: Any) -> None:
        """See :meth:`ActorRef.tell`."""
        self._refuse_when_over()
        try:
            self._mailbox.put_nowait(message)
        except asyncio.QueueFull:
            raise asyncio.QueueFull(
                f"the mailbox of {self.name} holds {self._mailbox.maxsize} messages"
            ) from None

    async def mailbox_put(self, message: Any) -> None:
        """See :meth:`ActorRef.send`."""
        while True:
            self._refuse_when_over()
            try:
                self._mailbox.put_nowait(message)
                return
            except asyncio.QueueFull:
                self._room.clear()
                await self._room.wait()

    def _refuse_when_over(self) -> None:
        if self._stopping or self._failure is not None:
            raise LifecycleError(f"{self.name} takes no messages any more")

    async def receive(self) -> None:
        actor = self._make_actor()
        if not isinstance(actor, Actor):
            raise OptionError(f"{self.name} made a {type(actor).__name__}: it must be an Actor")
        actor._source = self
        await actor.on_start()
        try:
            while True:
                message = await self._mailbox.get()
                self._room.set()
                await self._deliver(actor, message)
        finally:
            await actor.on_stop()

    async def _deliver(self, actor: Actor, message: Any) -> None:
        try:
            await actor.receive(message)
        except Exception:
            self.counters["messages_failed"] += 1
            self.counters["records_dropped"] += 1
            raise
        finally:
            self._mailbox.task_done()
        self.counters["messages"] += 1
        self._progressed = True

    async def _supervise(self) -> None:
        try:
            await super()._supervise()
        finally:
            self._room.set()

    # -- senders in other processes ----------------------------------------------------------

    async def _prepare(self) -> None:
        if self._place is None:
            return
        try:
            if isinstance(self._place, str):
                await self._listen_on_path(self._place)
            else:
                await self._listen_on_port(*self._place)
        except OSError as error:
            raise SourceError(f"{self.name} cannot listen on {self.address}: {error}") from error

    async def _listen_on_port(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, host, port)
        bound = self._server.sockets[0].getsockname()[1]
        self.address = f"tcp://[{host}]:{bound}" if ":" in host else f"tcp://{host}:{bound}"

    async def _listen_on_path(self, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before it is bound: so there is no moment in which others may connect.
            os.fchmod(sock.fileno(), 0o600)
            sock.bind(path)
            self._unix_path = path
            self._server = await asyncio.start_unix_server(self._serve, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._senders.add(task)
        try:
            wire = await self._admit(reader, writer)
            if wire is not None:
                await self._take_messages(reader, writer, wire)
        except asyncio.CancelledError:
            pass  # the stop of the source; asyncio would report a cancelled handler as an error
        except Exception as error:
            self.counters["connections_broken"] += 1
            self._last_error = f"{type(error).__name__}: {error}"
            await self._refuse(writer, str(error))
        finally:
            self._senders.discard(task)
            writer.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Codec | None:
        """Take the introduction of a sender; None when it is refused."""
        if len(self._senders) > self._connections_max:
            self.counters["connections_refused"] += 1
            await self._refuse(writer, f"over {self._connections_max} senders")
            return None
        async with asyncio.timeout(_HELLO_TIMEOUT_S):
            frame = await read_frame(reader, HELLO_BYTES_MAX)
        if frame is None:
            return None
        hello = codec("json").decode(frame.body) if frame.kind is FrameKind.HELLO else None
        if not isinstance(hello, dict):
            raise WireError("the first frame must be a greeting")
        if self._token is not None and not _equal(str(hello.get("token") or ""), self._token):
            self.counters["connections_refused"] += 1
            await self._refuse(writer, "wrong token")
            return None
        wire = codec(str(hello.get("codec")))
        self.counters["connections_total"] += 1
        write_frame(writer, FrameKind.OK)
        await writer.drain()
        return wire

    async def _take_messages(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Codec
    ) -> None:
        while (frame := await read_frame(reader, self._message_bytes_max)) is not None:
            if frame.kind is FrameKind.MESSAGE:
                await self.mailbox_put(wire.decode(frame.body))
            elif frame.kind is FrameKind.SYNC:
                write_frame(writer, FrameKind.OK)
                await writer.drain()
            else:
                raise WireError(f"a frame of kind {frame.kind.name} came")

    async def _refuse(self, writer: asyncio.StreamWriter, reason: str) -> None:
        with contextlib.suppress(OSError):
            write_frame(writer, FrameKind.REFUSED, reason.encode()[:1000])
            await writer.drain()

    async def stop(self) -> None:
        """Take no new messages; those in the mailbox have a second to be handled, the rest is counted."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._unix_path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._unix_path)
            self._unix_path = None
        await cancel_and_wait(*self._senders)
        if self._context is not None and self._failure is None and not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await self._mailbox.join()
        await super().stop()
        self._room.set()
        while not self._mailbox.empty():
            self._mailbox.get_nowait()
            self.counters["messages_unread"] += 1


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
