"""The methods of a streaming context that make streams of sources; each imports its connector when called."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from .operators.kernels import kernel
from .types import OnError

if TYPE_CHECKING:
    from .config import QueueLimits
    from .dstream import DStream
    from .kafka.serde import Deserializer
    from .kafka.settings import ConnectionOptions, KafkaSettings
    from .sources.actor import Actor, ActorSource
    from .sources.base import Source
    from .sources.custom import Receiver
    from .sources.kafka.assignment import OnLostOffsets
    from .sources.kafka.group_membership import AssignmentProtocol, GroupTimes
    from .sources.kafka.lane import FetchLimits, LaneKind
    from .sources.kafka.record_form import Projection
    from .sources.kafka.source import Isolation
    from .sources.kafka.subscription import StartAt, StopAt

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
        pattern: str | re.Pattern[str] | None = None,
        partitions: Iterable[tuple[str, int]] | None = None,
        start: StartAt = "earliest",
        stop: StopAt | None = None,
        projection: Projection = "record",
        key: str | Deserializer = "bytes",
        value: str | Deserializer = "bytes",
        isolation: Isolation = "read_committed",
        on_lost_offsets: OnLostOffsets = "fail",
        min_partitions: int | None = None,
        rate_max: float | None = None,
        rate_min: float = 1.0,
        limits: QueueLimits | None = None,
        fetch: FetchLimits | None = None,
        lane: LaneKind = "auto",
        metadata_refresh_s: float = 10.0,
        connect_timeout_s: float = 15.0,
        group: str | None = None,
        subscribe: str | Iterable[str] | re.Pattern[str] | None = None,
        assignment: AssignmentProtocol | None = None,
        assignors: Sequence[str] | None = None,
        instance_id: str | None = None,
        times: GroupTimes | None = None,
        name: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        **connection: Unpack[ConnectionOptions],
    ) -> DStream[Any]:
        """Records of Kafka topics, in ranges of offsets that a checkpoint can repeat (rows KAF-1 … KAF-14).

        Order: records of a partition come in its order; a batch has one RDD partition for each Kafka
        partition with records in it. With a checkpoint directory each record is processed exactly once.
        With ``subscribe`` the stream is a member of a consumer group instead, which shares the partitions
        out, and reads each record at least once.

        Parameters
        ----------
        bootstrap: ``host:port`` of brokers, with commas between, settings, or a mapping with Kafka's names.
        topics, pattern, partitions: what to read, one of: names, which must exist at start; a regular
            expression that fits whole names; (topic, number) pairs.
        start: where to begin without a checkpoint: ``earliest``, ``latest``, a datetime with a time zone,
            ``committed`` (offsets of ``group``, else the earliest), or {(topic, number): any of these or
            an offset}. Partitions that appear later are read from their earliest record.
        stop: where the stream ends, in the same words; ``latest`` is the end at start. None for never.
        projection: what a record is: ``record`` a :class:`~aiostream_engine.kafka.record.KafkaRecord`,
            ``pair`` (key, value), ``value`` alone, the fastest; or a function of a KafkaRecord.
        key, value: how these are decoded, in the workers: ``bytes``, ``str``, ``json``, ``msgpack``, an
            object of :mod:`aiostream_engine.kafka.serde`, or a function of bytes. Null stays None.
        isolation: ``read_committed`` leaves out what transactions did not commit, and waits where one is
            open; ``read_uncommitted`` reads all.
        on_lost_offsets: when offsets to be read are not in the log any more, or the topic was made again:
            ``fail``, or go on at the ``earliest`` or ``latest``, logged and counted.
        min_partitions: at least so many RDD partitions a batch, by splitting large ranges.
        rate_max, rate_min: records a second of each partition, at most and at least.
        limits: bounds of what is fetched ahead, in bytes; by default those of the context.
        fetch: bytes that one fetch brings, and milliseconds that a broker may wait for them.
        lane: ``raw`` hands on the bytes as they come, ``client`` uses aiokafka's public consumer, several
            times slower; ``auto`` takes the raw one where this aiokafka is known to it.
        metadata_refresh_s: seconds between two looks for new partitions and topics.
        connect_timeout_s: seconds that a start may take.
        group: a consumer group whose offsets are set after each committed batch, for tools that show lag;
            with ``subscribe`` the one to be a member of.
        subscribe: instead of ``topics``, names or a compiled pattern to read as a member of ``group``. Then
            ``partitions``, ``pattern`` and ``stop`` are refused.
        assignment: of a member: ``cooperative`` (the default) gives back at a rebalance only partitions that
            others are to get; ``eager`` all.
        assignors: strategies that an eager member offers, the preferred one first.
        instance_id: makes the member static: a restart within ``times.session_s`` moves no partitions.
        times: seconds of patience of the group: session, heartbeats, and for giving back partitions.
        name: shown everywhere, and by which a checkpoint finds the stream again.
        on_error: what happens to a record that cannot be decoded; it has its topic, partition and offset.
        connection: security and time limits, by the names of
            :class:`~aiostream_engine.kafka.settings.KafkaSettings`.

        Raises OptionError; ConfigurationError for settings that cannot work. The start of the context
        raises SourceError when Kafka or a topic is not there.
        """
        from .sources.kafka.choice import make_kafka_source

        source = make_kafka_source(
            bootstrap,
            topics,
            subscribe,
            direct={"pattern": pattern, "partitions": partitions, "stop": stop},
            member={
                "assignment": assignment,
                "assignors": assignors,
                "instance_id": instance_id,
                "times": times,
            },
            both={
                "start": start,
                "projection": projection,
                "key": key,
                "value": value,
                "isolation": isolation,
                "group": group,
                "on_lost_offsets": on_lost_offsets,
                "min_partitions": min_partitions,
                "rate_max": rate_max,
                "rate_min": rate_min,
                "limits": limits,
                "fetch": fetch,
                "lane": lane,
                "metadata_refresh_s": metadata_refresh_s,
                "connect_timeout_s": connect_timeout_s,
                **connection,
            },
        )
        return self.from_source(source, name=name, on_error=on_error)

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
