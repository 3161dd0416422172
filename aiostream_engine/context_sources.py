"""The methods of a streaming context that make streams of sources; each imports its connector when called."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import OptionError
from .operators.kernels import kernel
from .types import OnError

if TYPE_CHECKING:
    from .dstream import DStream
    from .kafka.settings import KafkaSettings
    from .sources.actor import Actor, ActorSource
    from .sources.base import Source
    from .sources.custom import Receiver

__all__ = ["SourceMethods"]


class SourceMethods:
    """Mixed into :class:`~aiostream_engine.context.StreamingContext`.

    Receivers are tasks on the loop and take no worker: ``local[1]`` with three of them works.
    Options not named here are those of the source's class. ``name`` is shown everywhere.
    """

    if TYPE_CHECKING:

        def from_source(
            self, source: Source, *, name: str | None = None, on_error: OnError | str = OnError.FAIL
        ) -> DStream[Any]: ...

    @staticmethod
    def _readable(stream: DStream[Any], source: Source, on_error: OnError | str) -> DStream[Any]:
        """``stream`` behind the steps in which the workers make records of what ``source`` hands over."""
        name = stream.node.name
        if source.decode_strictly is not None:
            decode = kernel(_decoded, source.decode_strictly)
            stream = stream.map(decode, name=f"decode {name}", on_error=on_error)
        if source.reader is not None:
            stream = stream.flat_map(source.reader, name=f"read {name}", on_error=on_error)
        if source.converter is not None:
            stream = stream.map(source.converter, name=f"convert {name}", on_error=on_error)
        return stream

    # -- sockets -------------------------------------------------------------------------------

    def socket_text_stream(
        self,
        host: str,
        port: int,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        **options: Any,
    ) -> DStream[str]:
        """Lines from a TCP server that this connects to, and connects to again when it breaks (row SRC-1).

        on_error: with ``errors="strict"``, what happens to a line that is no text.
        """
        from .sources.socket_text import SocketTextSource

        return self.from_source(SocketTextSource(host, port, **options), name=name, on_error=on_error)

    def socket_server_stream(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        **options: Any,
    ) -> DStream[str]:
        """Lines from any number of TCP senders that connect to this; loopback unless told otherwise."""
        from .sources.socket_server import SocketServerSource

        return self.from_source(SocketServerSource(host, port, **options), name=name, on_error=on_error)

    def socket_stream(
        self,
        host: str,
        port: int,
        converter: Callable[[bytes], Any],
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        **options: Any,
    ) -> DStream[Any]:
        """Length-prefixed frames from a TCP server, each through ``converter`` in the workers (row SRC-2).

        on_error: what happens to a frame on which the converter raises.
        """
        from .sources.socket_frames import SocketFramesSource

        source = SocketFramesSource(host, port, converter=converter, **options)
        return self.from_source(source, name=name, on_error=on_error)

    def raw_socket_stream(
        self, host: str, port: int, *, name: str | None = None, **options: Any
    ) -> DStream[bytes]:
        """Length-prefixed frames from a TCP server as bytes, handed on as blocks (row SRC-3)."""
        from .sources.socket_frames import SocketFramesSource

        return self.from_source(SocketFramesSource(host, port, **options), name=name)

    # -- files ---------------------------------------------------------------------------------

    def text_file_stream(
        self, path: str, *, name: str | None = None, on_error: OnError | str = OnError.FAIL, **options: Any
    ) -> DStream[str]:
        """Lines of the files that appear in a directory or match a glob (rows SRC-4, SRC-7 … SRC-15).

        on_error: with ``errors="strict"``, what happens to a line that is no text.
        """
        return self._files(path, "text", name, on_error, options)

    def binary_records_stream(
        self, path: str, record_bytes: int, *, name: str | None = None, **options: Any
    ) -> DStream[bytes]:
        """Records of one length of the files that appear (row SRC-6)."""
        return self._files(path, "fixed", name, OnError.FAIL, {"record_bytes": record_bytes, **options})

    def whole_file_stream(self, path: str, *, name: str | None = None, **options: Any) -> DStream[Any]:
        """(path, content) of each file that appears."""
        return self._files(path, "whole", name, OnError.FAIL, options)

    def file_stream(
        self,
        path: str,
        reader: Callable[[str], Iterable[Any]],
        *,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        **options: Any,
    ) -> DStream[Any]:
        """What ``reader(path)`` yields for each file that appears; it runs in the workers (row SRC-5).

        on_error: what happens to a file on which the reader raises.
        """
        return self._files(path, "path", name, on_error, {"reader": reader, **options})

    def _files(
        self, path: str, kind: Any, name: str | None, on_error: OnError | str, options: dict[str, Any]
    ) -> DStream[Any]:
        from .sources.files import FileSource

        return self.from_source(FileSource(path, kind=kind, **options), name=name, on_error=on_error)

    # -- Kafka ---------------------------------------------------------------------------------

    def kafka_stream(
        self,
        bootstrap: str | Mapping[str, Any] | KafkaSettings,
        topics: str | Iterable[str] | None = None,
        *,
        subscribe: str | Iterable[str] | re.Pattern[str] | None = None,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        **options: Any,
    ) -> DStream[Any]:
        """Records of Kafka topics, in ranges of offsets that a checkpoint can repeat (rows KAF-1 … KAF-14).

        subscribe: instead of ``topics``, names or a compiled pattern to read as a member of the consumer
            group ``group``, which shares the partitions out: at least once, see
            :class:`~aiostream_engine.sources.kafka.group_source.GroupKafkaSource`.
        options: those of :class:`~aiostream_engine.sources.kafka.source.KafkaSource`, such as ``pattern``,
            ``start``, ``stop``, ``projection``, ``value``, and settings of the connection.
        on_error: what happens to a record that cannot be decoded; it has its topic, partition and offset.
        """
        if subscribe is not None:
            from .sources.kafka.group_source import GroupKafkaSource

            if topics is not None:
                raise OptionError("give topics, or subscribe for a member of a group, not both")
            if "group" not in options:
                raise OptionError("subscribe needs group, the name of the consumer group")
            member = GroupKafkaSource(bootstrap, subscribe, **options)
            return self.from_source(member, name=name, on_error=on_error)
        from .sources.kafka.source import KafkaSource

        return self.from_source(KafkaSource(bootstrap, topics, **options), name=name, on_error=on_error)

    # -- this process --------------------------------------------------------------------------

    def queue_stream(
        self,
        queue: Any = None,
        *,
        one_at_a_time: bool = True,
        default: Any = None,
        name: str | None = None,
        **options: Any,
    ) -> DStream[Any]:
        """A batch from each item of a queue that may grow while the stream runs (rows SRC-16 … SRC-18).

        Items are lists of records or RDDs. Not one at a time takes all that are there. ``default`` is
        the batch of an empty queue.
        """
        from .sources.queue import QueueSource

        source = QueueSource(queue, one_at_a_time=one_at_a_time, default=default, **options)
        return self.from_source(source, name=name)

    def receiver_stream(
        self,
        receiver: Receiver | Callable[[], AsyncIterator[Any]],
        *,
        name: str | None = None,
        **options: Any,
    ) -> DStream[Any]:
        """Records of a receiver of yours: an async generator function, or a Receiver (row SRC-19)."""
        from .sources.custom import CustomReceiverSource

        return self.from_source(CustomReceiverSource(receiver, **options), name=name)

    def actor_stream(
        self,
        actor: Callable[[], Actor] | ActorSource | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> DStream[Any]:
        """Messages sent to a mailbox by this or other processes; an ActorSource has its reference."""
        from .sources.actor import ActorSource

        source = actor if isinstance(actor, ActorSource) else ActorSource(actor, **options)
        return self.from_source(source, name=name)

    def rate_stream(
        self,
        records_per_s: float,
        make: Callable[[int], Any] | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> DStream[Any]:
        """``make(n)`` for n = 0, 1, … at a steady rate, for tests and demonstrations."""
        from .sources.generators import RateSource

        return self.from_source(RateSource(records_per_s, make, **options), name=name)

    def generator_stream(
        self, items: Iterable[Any] | AsyncIterable[Any], *, name: str | None = None, **options: Any
    ) -> DStream[Any]:
        """The items of an iterable or async iterable; its end ends the source."""
        from .sources.generators import GeneratorSource

        return self.from_source(GeneratorSource(items, **options), name=name)


def _decoded(encoding: str, line: bytes) -> str:
    return line.decode(encoding)
