"""Sends packed batches: bounded, in order, and only what failed a second time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTopicError,
    InvalidTransactionTimeout,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import OffsetAndMetadata

from ...config import RetryPolicy
from ...durable.checkpoint_directory import FencedError
from ...durable.crash import crash_point
from ...errors import ConfigurationError, SinkError
from ...kafka.connection import check_connection
from ...kafka.packing import PackedBatch
from ...kafka.settings import KafkaSettings
from ...observe.redaction import redact
from .lean_request import send_lean
from .ready_batch import as_builder
from .staging import loaded

__all__ = ["BatchProducer", "ProducerStatistics"]

_log = logging.getLogger("aiostream_engine.kafka")

START_TIMEOUT_S = 60.0
_ABANDON_S = 3.0

# No other try can help.
_FINAL = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

Failed = tuple[PackedBatch, BaseException]


@dataclass(slots=True)
class ProducerStatistics:
    """Figures since start; ``bytes_in_flight``, ``bytes_staged`` and ``bytes_spilled`` are of now."""

    batches: int = 0
    records: int = 0
    bytes: int = 0
    bytes_in_flight: int = 0
    batches_tried_again: int = 0
    transactions: int = 0
    transactions_aborted: int = 0
    bytes_staged: int = 0
    bytes_spilled: int = 0


class BatchProducer:
    """An idempotent producer of packed batches; one of a sink, on its loop.

    Parameters
    ----------
    options: of AIOKafkaProducer, over those of the settings.
    transactional_id, transaction_timeout_s: for transactions, None without.
    delivery_timeout_s: within which batches must be with the broker.
    in_flight_bytes_max: of batches that are handed to the client and not acknowledged.
    retry: of batches that the broker did not take, in a new session of the producer.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        options: Mapping[str, Any],
        *,
        delivery_timeout_s: float,
        in_flight_bytes_max: int,
        retry: RetryPolicy,
        transactional_id: str | None = None,
        transaction_timeout_s: float = 60.0,
    ) -> None:
        self._settings = settings
        self._options = dict(options)
        self._delivery_timeout_s = delivery_timeout_s
        self._in_flight_max = in_flight_bytes_max
        self._retry = retry
        self._id = transactional_id
        self._transaction_timeout_s = transaction_timeout_s
        self._client: AIOKafkaProducer | None = None
        self._room = asyncio.Event()
        self._doors: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self.statistics = ProducerStatistics()

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect and get a producer's number; with a transactional id no older producer can go on then.

        Raises SinkError when Kafka cannot be reached, ConfigurationError when it refuses.
        """
        await check_connection(self._settings)
        options = {**await self._settings.client_options(), **self._options, "enable_idempotence": True}
        if self._id is not None:
            options["transactional_id"] = self._id
            options["transaction_timeout_ms"] = int(self._transaction_timeout_s * 1000)
        client = AIOKafkaProducer(**options)
        send_lean(client)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await client.start()
        except BaseException as error:
            await _abandon(client)
            if isinstance(error, InvalidTransactionTimeout):
                raise ConfigurationError(
                    f"transaction_timeout_s is {self._transaction_timeout_s:g}: more than the broker's "
                    "transaction.max.timeout.ms"
                ) from error
            if isinstance(error, KafkaError | TimeoutError):
                raise SinkError(f"no producer at {self._settings.bootstrap}: {_said(error)}") from error
            raise
        self._client = client

    @property
    def client(self) -> AIOKafkaProducer:
        """The client. Raises SinkError when there is none."""
        if self._client is None:
            raise SinkError("the producer is closed, or an earlier write failed for good")
        return self._client

    async def aclose(self) -> None:
        """Let go at once; what is not acknowledged is lost, and a transaction under way with it."""
        client, self._client = self._client, None
        if client is not None:
            await _abandon(client)

    async def _anew(self) -> None:
        await self.aclose()
        await self.start()

    # -- sending -------------------------------------------------------------------------------

    async def send(self, batches: Sequence[PackedBatch]) -> None:
        """Return when the broker has all. Raises SinkError, or ConfigurationError for what it never takes.

        Batches of one partition arrive in order, each once.
        """
        await self._within(
            self._delivery_timeout_s, lambda: self._send_patiently(batches), "delivery_timeout_s"
        )

    async def _within(self, seconds: float, call: Callable[[], Awaitable[None]], name: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                await call()
        except TimeoutError as error:
            await self.aclose()
            raise SinkError(f"Kafka did not take a batch within {name} = {seconds:g} s") from error

    async def _send_patiently(self, batches: Sequence[PackedBatch]) -> None:
        attempts = 0
        while True:
            if self._client is None:
                await self.start()
            failed = await self._send_once(batches)
            if not failed:
                return
            attempts += 1
            _check_final([error for _, error in failed], self._id)
            if self._retry.exhausted(attempts):
                raise SinkError(
                    f"{len(failed)} of {len(batches)} batches failed, {attempts} times: {_said(failed[0][1])}"
                ) from failed[0][1]
            _log.warning(
                "%d of %d batches failed, trying these again: %s",
                len(failed),
                len(batches),
                _said(failed[0][1]),
            )
            self.statistics.batches_tried_again += len(failed)
            batches = [batch for batch, _ in failed]
            await asyncio.sleep(self._retry.wait_before(attempts))
            await self._anew()  # its numbers of records have a gap now

    async def _send_once(self, batches: Sequence[PackedBatch]) -> list[Failed]:
        """One try of all batches; gives those that failed, in order."""
        lanes: dict[tuple[str, int], list[PackedBatch]] = {}
        for batch in batches:
            lanes.setdefault((batch.topic, batch.partition), []).append(batch)
        found = await asyncio.gather(*(self._send_lane(lane) for lane in lanes.values()))
        return [failed for lane in found for failed in lane]

    async def _send_lane(self, batches: Sequence[PackedBatch]) -> list[Failed]:
        client, waiting, failed = self.client, [], list[Failed]()
        for position, batch in enumerate(batches):
            await self._wait_room(len(batch.content))
            try:
                builder = as_builder(client, await loaded(batch))
                # One at a time: the client wakes all who wait for a partition whenever it has room for one
                # batch, and takes the time of each such turn off the time-out of all from the beginning.
                async with self._doors[batch.topic, batch.partition]:
                    future = await client.send_batch(builder, batch.topic, partition=batch.partition)
            except (KafkaError, AssertionError, OSError) as error:
                self._free(len(batch.content))
                failed = [(rest, error) for rest in batches[position:]]
                break
            future.add_done_callback(partial(self._free_after, len(batch.content)))
            waiting.append((batch, future))
        results = await asyncio.gather(*(future for _, future in waiting), return_exceptions=True)
        early: list[Failed] = []
        for (batch, _), result in zip(waiting, results, strict=True):
            if isinstance(result, BaseException):
                early.append((batch, result))
            else:
                self.statistics.batches += 1
                self.statistics.records += batch.records
                self.statistics.bytes += len(batch.content)
        return early + failed

    async def _wait_room(self, size: int) -> None:
        statistics = self.statistics
        while statistics.bytes_in_flight and statistics.bytes_in_flight + size > self._in_flight_max:
            self._room.clear()
            await self._room.wait()
        statistics.bytes_in_flight += size

    def _free_after(self, size: int, _: asyncio.Future[Any]) -> None:
        self._free(size)

    def _free(self, size: int) -> None:
        self.statistics.bytes_in_flight -= size
        self._room.set()

    # -- transactions --------------------------------------------------------------------------

    async def transact(
        self,
        batches: Sequence[PackedBatch],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """Batches and offsets, of the group of the transactional id, in one transaction.

        A transaction that cannot be filled in time, or of which a batch fails, is aborted and tried
        again. Raises FencedError when a newer producer has the same transactional id, and SinkError when
        the outcome is not known: nothing more may be sent then.
        """
        attempts = 0
        while True:
            try:
                await self._fill(batches, offsets)
                break
            except (KafkaError, TimeoutError, AssertionError, OSError) as error:
                attempts += 1
                await self._abort_after(error, attempts)
        crash_point("before_end_of_transaction")
        try:
            async with asyncio.timeout(self._transaction_timeout_s):
                await self.client.commit_transaction()
        except (KafkaError, TimeoutError, AssertionError) as error:
            await self.aclose()
            _check_final([error], self._id)
            raise SinkError(
                f"whether a transaction of {self._id!r} was committed is not known: {_said(error)}"
            ) from error
        self.statistics.transactions += 1

    async def _fill(
        self, batches: Sequence[PackedBatch], offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> None:
        async with asyncio.timeout(self._delivery_timeout_s):
            await self.client.begin_transaction()
            crash_point("in_transaction")
            failed = await self._send_once(batches)
            if failed:
                raise failed[0][1]
            crash_point("after_send")
            assert self._id is not None
            await self.client.send_offsets_to_transaction(dict(offsets), self._id)

    async def _abort_after(self, error: BaseException, attempts: int) -> None:
        """Undo what was sent, in the same session: one that was replaced learns it here, and stops."""
        self.statistics.transactions_aborted += 1
        fenced = isinstance(error, ProducerFenced)
        try:
            if not fenced:
                async with asyncio.timeout(self._delivery_timeout_s):
                    await self.client.abort_transaction()
        except (KafkaError, TimeoutError, AssertionError) as second:
            fenced = isinstance(second, ProducerFenced)
            if not fenced:
                await self.aclose()
                raise SinkError(f"a transaction of {self._id!r} failed: {_said(error)}") from error
        if fenced or isinstance(error, _FINAL) or self._retry.exhausted(attempts):
            await self.aclose()
            _check_final([ProducerFenced() if fenced else error], self._id)
            raise SinkError(
                f"a transaction of {self._id!r} failed {attempts} times: {_said(error)}"
            ) from error
        _log.warning("a transaction of %s is tried again: %s", self._id, _said(error))
        await asyncio.sleep(self._retry.wait_before(attempts))
        await self._anew()


def _check_final(errors: Iterable[BaseException], transactional_id: str | None) -> None:
    """Raise for what no other try can help."""
    for error in errors:
        if isinstance(error, ProducerFenced):
            raise FencedError(
                f"another producer uses the transactional id {transactional_id!r}, or a transaction took "
                "longer than its timeout: this stream must not write any more"
            ) from error
        if isinstance(error, _TOO_LARGE):
            raise ConfigurationError(
                f"the broker refuses a batch as too large: {_said(error)}. Lower batch_bytes and "
                "record_bytes_max of the sink, or raise max.message.bytes of the topic"
            ) from error
        if isinstance(error, _FINAL):
            raise SinkError(f"Kafka refuses: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


async def _abandon(client: AIOKafkaProducer) -> None:
    """End a producer now, whatever it waits for, and leave no failure behind that nobody looked at."""
    sender, accumulator = client._sender, client._message_accumulator
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await asyncio.wait_for(sender.close(), _ABANDON_S)
    batches = [batch for queue in accumulator._batches.values() for batch in queue]
    batches += accumulator._pending_batches
    if batches:
        accumulator.fail_all(ProducerClosed())
    with contextlib.suppress(Exception):
        await asyncio.wait_for(client.stop(), _ABANDON_S)
    manager = client._txn_manager
    futures = [future for batch in batches for future in (batch.future, batch._drain_waiter)]
    futures.append(getattr(manager, "_transaction_waiter", None))
    futures.append(getattr(sender, "_sender_task", None))
    for future in futures:
        if future is not None and future.done() and not future.cancelled():
            future.exception()
