"""A packed batch in the shape in which aiokafka's producer wants one: made once, sent as it is."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.record.default_records import DefaultRecordBatch

from ...kafka.packing import PackedBatch, seal

__all__ = ["ReadyBatch", "as_builder"]

_log = logging.getLogger("aiostream_engine.kafka")


class ReadyBatch:
    """Takes the place of a BatchBuilder whose records are all there. Methods have its names."""

    def __init__(self, packed: PackedBatch) -> None:
        content = packed.content
        self._buffer = content if type(content) is bytearray else bytearray(content)
        self._records = packed.records

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        seal(self._buffer, producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        return self._buffer

    def append(self, **record: Any) -> None:
        """Nothing can be added: like a batch that is full."""
        return

    def close(self) -> None:
        """It is closed from the beginning."""

    def closed(self) -> bool:
        """True."""
        return True

    def size(self) -> int:
        """Bytes."""
        return len(self._buffer)

    def record_count(self) -> int:
        """Records."""
        return self._records


def _fits() -> bool:
    """True when this aiokafka calls nothing of a batch but what :class:`ReadyBatch` has."""
    known = {name for name, item in vars(BatchBuilder).items() if inspect.isfunction(item)}
    expected = {"__init__", "_serialize", "append", "close", "closed", "_set_producer_state", "_build"}
    expected |= {"size", "record_count"}
    uses = {"_builder", "future", "done", "failure", "_drain_waiter"}
    text = inspect.getsource(MessageBatch)
    return known == expected and all(name in text for name in uses)


FITS = _fits()
if not FITS:
    _log.info("this aiokafka is not known: batches for Kafka are built again on the loop, which is slower")


def as_builder(producer: AIOKafkaProducer, packed: PackedBatch) -> Any:
    """What ``producer.send_batch`` takes: the bytes as they are, or built again by the public way."""
    if FITS:
        return ReadyBatch(packed)
    builder = producer.create_batch()
    for record in DefaultRecordBatch(bytes(packed.content)):
        added = builder.append(
            timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers
        )
        if added is None:
            raise ValueError("a packed batch is larger than the producer's: max_batch_size is too small")
    builder.close()
    return builder
