"""Records to topics of Kafka: at least once by itself, once in transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from aiokafka import TopicPartition

from ...config import RetryPolicy
from ...durable.crash import crash_point
from ...errors import OptionError
from ...kafka.encoding import EncodeRecord, Headers, Projection
from ...kafka.packing import CODECS, PackedBatch, PackRecords, Partitioner
from ...kafka.serde import Serializer
from ...kafka.settings import KafkaSettings
from ...types import OnError
from ..base import (
    BatchCommit,
    BatchMark,
    CommitPointSink,
    Encoding,
    PlainSink,
    Records,
    Sink,
    SinkContext,
    WriteKey,
)
from .mark import mark_of, offsets_of, read_mark
from .producer import BatchProducer, ProducerStatistics
from .staging import StagedOutput
from .topics import Topics

__all__ = ["KafkaSink"]

RECORD_BYTES_MAX = 1_000_000  # below the broker's default, with room for a batch's header
DELIVERY_TIMEOUT_S = 120.0


class KafkaSink(Sink):
    """Writes records to topics; packed into batches by the workers, so that the loop only sends.

    Without a transactional id a repeated batch is written again: at least once. With one, the output
    of a batch, the offsets of its Kafka inputs and the batch's own mark are one transaction, and *that*
    makes the batch true: a consumer with ``read_committed`` sees each record once, whatever dies. A
    stream has one such sink at most; it can write to several topics.

    Parameters
    ----------
    bootstrap: ``host:port`` of brokers, settings, or a mapping with Kafka's names; see
        :class:`~aiostream_engine.kafka.settings.KafkaSettings`.
    topic: a name, or a function of the record.
    projection: ``pair`` takes (key, value) records, ``value`` values without a key, or a function that
        gives a pair. None as a key or value is Kafka's null.
    key, value: how these are encoded: a name of :mod:`aiostream_engine.kafka.serde` or a function that
        gives bytes; in the workers.
    headers: a function of the record that gives pairs of text and bytes. timestamp: one that gives
        epoch milliseconds; by default it is that of packing.
    partitioner: ``f(key bytes, partitions)``, by default that of Kafka's own clients. Records without a
        key fill a batch of one partition, then of another.
    compression: gzip, snappy, lz4 or zstd, done in the workers.
    transactional_id: for transactions; belongs to one stream, and stays the same over its restarts.
    transaction_timeout_s: after which the broker aborts a transaction; must be above
        ``delivery_timeout_s``, and at most the broker's ``transaction.max.timeout.ms``.
    mark_topic: where the mark of a batch is kept, as an offset of group ``transactional_id`` on
        partition 0 of this topic; by default ``topic``, when that is a name.
    on_error: what happens to a record that cannot be encoded or is too large. dead_letters: with
        ``dead-letter``, the sink that gets such records, with the cause.
    record_bytes_max: of one record; the topic's ``max.message.bytes`` must be above.
    batch_bytes: where a batch ends, before compression.
    in_flight_bytes_max: of batches that the broker has not acknowledged.
    staged_bytes_max: of output held in memory until its transaction, beside that of two partitions being
        staged; what comes above waits in a file in the directory for temporary files.
    delivery_timeout_s: within which a batch must be with the broker; 120, or 45 in transactions.
    create_partitions: make a missing topic with so many partitions; None refuses it.
    retry: of batches that the broker did not take; only these are sent again.
    options: further settings of the connection.

    Order: records of an RDD partition that go to the same Kafka partition keep theirs, and batches come
    one after the other. ``linger`` is not needed: a batch of the stream is sent as a whole.

    Raises OptionError. :meth:`open` raises SinkError when Kafka or a topic is not there; a write raises
    SinkError, and FencedError when another stream has taken the transactional id.
    """

    name = "kafka"

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        if cls is KafkaSink:
            kind: Any = (
                _PlainKafkaSink if options.get("transactional_id") is None else _TransactionalKafkaSink
            )
            return kind.__new__(kind)  # type: ignore[no-any-return]
        return super().__new__(cls)

    def __init__(
        self,
        bootstrap: str | Mapping[str, Any] | KafkaSettings,
        topic: str | Callable[[Any], str],
        *,
        projection: Projection = "pair",
        key: str | Serializer = "bytes",
        value: str | Serializer = "bytes",
        headers: Callable[[Any], Headers] | None = None,
        timestamp: Callable[[Any], int] | None = None,
        partitioner: Partitioner | None = None,
        compression: str | None = None,
        transactional_id: str | None = None,
        transaction_timeout_s: float = 60.0,
        mark_topic: str | None = None,
        on_error: OnError | str = OnError.FAIL,
        dead_letters: Sink | None = None,
        record_bytes_max: int = RECORD_BYTES_MAX,
        batch_bytes: int = 256 * 1024,
        in_flight_bytes_max: int = 64 * 1024 * 1024,
        staged_bytes_max: int = 128 * 1024 * 1024,
        delivery_timeout_s: float | None = None,
        create_partitions: int | None = None,
        create_replicas: int = 1,
        retry: RetryPolicy | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self.settings = KafkaSettings.of(bootstrap, **options)
        _check_choices(compression, projection, OnError(on_error), dead_letters)
        _check_positive(
            record_bytes_max=record_bytes_max,
            batch_bytes=batch_bytes,
            in_flight_bytes_max=in_flight_bytes_max,
            staged_bytes_max=staged_bytes_max,
            create_partitions=1 if create_partitions is None else create_partitions,
        )
        self.name = name or (f"kafka {topic}" if isinstance(topic, str) else "kafka")
        encode = EncodeRecord(topic, projection, key, value, headers, timestamp, record_bytes_max)
        # Bytes, and pairs with named serdes, need no step of their own: who packs takes many at once.
        bare = OnError(on_error) is OnError.FAIL and (encode.keeps_bytes or encode.pairs_of is not None)
        self.encoding = None if bare else Encoding(encode, on_error, dead_letters)
        self._topic = topic if isinstance(topic, str) else None
        self._packing = {
            "batch_bytes": batch_bytes,
            "compression": compression,
            "transactional": transactional_id is not None,
            "partitioner": partitioner,
            "values_of": encode.values_of,
            "encode": encode if bare else None,
        }
        self._staged_bytes_max = staged_bytes_max
        self._pack: PackRecords | None = None
        self._topics = Topics(self.settings, create_partitions, create_replicas)
        self.transactional_id = transactional_id
        self._set_times(delivery_timeout_s, transaction_timeout_s)
        self._mark_topic = mark_topic or self._topic
        # Larger than any batch can be: the bytes are sent as they are.
        sizes = {"max_request_size": 2**31 - 1, "max_batch_size": batch_bytes + record_bytes_max + 1024}
        self.producer = BatchProducer(
            self.settings,
            {**sizes, "compression_type": compression},
            delivery_timeout_s=self._delivery_timeout_s,
            in_flight_bytes_max=in_flight_bytes_max,
            retry=retry or RetryPolicy(),
            transactional_id=transactional_id,
            transaction_timeout_s=transaction_timeout_s,
        )

    def _set_times(self, delivery_timeout_s: float | None, transaction_timeout_s: float) -> None:
        self._delivery_timeout_s = delivery_timeout_s or DELIVERY_TIMEOUT_S
        if self.transactional_id is None:
            return
        self._delivery_timeout_s = delivery_timeout_s or transaction_timeout_s * 0.75
        if not self.transactional_id:
            raise OptionError("transactional_id is empty")
        if not transaction_timeout_s > self._delivery_timeout_s:
            raise OptionError(
                f"transaction_timeout_s is {transaction_timeout_s:g}, and sending one batch may take "
                f"delivery_timeout_s = {self._delivery_timeout_s:g}: it must be longer (scenario F12)"
            )

    async def open(self, context: SinkContext) -> None:
        """Connect, look the topics up, and, with a transactional id, end what an earlier run left open."""
        await self.producer.start()
        try:
            await self._topics.learn([name for name in (self._topic, self._mark_topic) if name])
        except BaseException:
            await self.producer.aclose()
            raise

    async def aclose(self) -> None:
        await self.producer.aclose()

    def statistics(self) -> ProducerStatistics:
        """Figures since start."""
        return self.producer.statistics

    def packer(self) -> PackRecords:
        """Packs for the topics that are known by now."""
        self._topics.refresh(self.producer.client)
        if self._pack is None or self._pack.partitions != self._topics.partitions:
            self._pack = PackRecords(self._topics.partitions, **self._packing)  # type: ignore[arg-type]
        return self._pack

    async def _packed(self, records: Records) -> list[PackedBatch]:
        """What workers packed; for topics that they did not know it is packed here."""
        found = [PackedBatch(*item) async for chunk in records for item in chunk]
        unknown = [batch for batch in found if batch.partition < 0]
        if not unknown:
            return found
        await self._topics.learn(sorted({batch.topic for batch in unknown}))
        pack = self.packer()
        left = [record for batch in unknown for record in batch.content]
        late = await asyncio.to_thread(lambda: list(pack(left)))
        return [batch for batch in found if batch.partition >= 0] + late


def _check_choices(
    compression: str | None, projection: Projection, on_error: OnError, dead_letters: Sink | None
) -> None:
    if compression not in CODECS:
        raise OptionError(f"compression {compression!r} is not known: use gzip, snappy, lz4 or zstd")
    if (dead_letters is not None) != (on_error is OnError.DEAD_LETTER):
        raise OptionError("on_error='dead-letter' and dead_letters=, the sink for them, belong together")
    if projection not in ("pair", "value") and not callable(projection):
        raise OptionError(f"projection {projection!r} is not known: use 'pair', 'value' or a function")


def _check_positive(**options: int) -> None:
    for name, number in options.items():
        if number < 1:
            raise OptionError(f"{name} is {number!r}: it must be at least 1")


class _PlainKafkaSink(KafkaSink, PlainSink):
    """At least once."""

    concurrency_max = 8
    writes_early = True

    async def write(self, key: WriteKey, records: Records) -> None:
        """Send one partition; returns when the broker has it."""
        await self.producer.send(await self._packed(records))


class _TransactionalKafkaSink(KafkaSink, CommitPointSink):
    """Decides about batches."""

    concurrency_max = 2  # one is read while another is written to a file

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self._mark_topic is None:
            raise OptionError("topic is a function: name the topic that keeps the marks by mark_topic=")
        assert self.transactional_id is not None
        self._place = TopicPartition(self._mark_topic, 0)
        self.commit_point = f"Kafka's group {self.transactional_id!r} on {self._mark_topic}[0]"
        self._staged = StagedOutput(self._staged_bytes_max)

    async def stage(self, key: WriteKey, records: Records) -> dict[str, int]:
        """Hold the packed batches of one partition until the transaction."""
        batches = await self._packed(records)
        await self._staged.add(key.batch_id, key.partition, batches)
        return {"records": sum(batch.records for batch in batches)}

    async def commit_batch(self, commit: BatchCommit, tokens: Sequence[Any]) -> None:
        """Send what was staged, and the offsets with the mark, in one transaction."""
        batches = self._staged.take(commit.batch_id)
        await self.producer.transact(batches, offsets_of(commit, self._place))

    def statistics(self) -> ProducerStatistics:
        """Figures since start, and what is staged now."""
        found = super().statistics()
        found.bytes_staged, found.bytes_spilled = self._staged.bytes_held, self._staged.bytes_spilled
        return found

    async def commit(self, batch_id: int, time: Any, tokens: Sequence[Any]) -> None:
        self._staged.drop(batch_id)

    async def abort(self, batch_id: int, tokens: Sequence[Any]) -> None:
        """Forget what was staged for the batch."""
        self._staged.drop(batch_id)

    async def committed(self) -> BatchMark | None:
        assert self.transactional_id is not None
        return await read_mark(self.settings, self.transactional_id, self._place)

    async def begin(self, mark: BatchMark) -> None:
        await self.producer.transact([], mark_of(mark, self._place))
        crash_point("after_first_mark")
