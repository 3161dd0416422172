"""The partitions that a source reads: where each begins and ends, and what happens when offsets are lost."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

from aiokafka.errors import KafkaError

from ...blocks.directory import BlockDirectory
from ...errors import ConfigurationError, OptionError, SourceError
from .lane import EARLIEST, LATEST, Lane, Topic
from .partition_queue import Budget, PartitionQueue, Place
from .subscription import Bound, Subscription

__all__ = ["Assignment", "OnLostOffsets", "Positions"]

T = TypeVar("T")
_log = logging.getLogger("aiostream_engine.kafka")

OnLostOffsets = Literal["fail", "earliest", "latest"]

_ASK_AGAIN_S = 0.1
_MISSING_MAX = 3  # looks at the cluster without a topic before it counts as deleted


class Positions:
    """Where each partition goes on, as plain data for a journal, with the ids of the topics."""

    def __init__(self) -> None:
        self.offsets: dict[Place, int] = {}
        self.ids: dict[str, bytes] = {}

    def plain(self, places: Iterable[Place] | None = None) -> dict[str, Any]:
        """All of it, or what concerns some partitions."""
        chosen = self.offsets if places is None else {place: self.offsets[place] for place in places}
        offsets: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in chosen.items():
            offsets.setdefault(topic, {})[str(partition)] = offset
        ids = {topic: self.ids[topic].hex() for topic in offsets if topic in self.ids}
        return {"offsets": offsets, "ids": ids}

    def advance(self, data: Any) -> None:
        """Take over what :meth:`plain` gave. Raises ConfigurationError for anything else."""
        try:
            for topic, partitions in data["offsets"].items():
                self.offsets |= {(topic, int(number)): int(at) for number, at in partitions.items()}
            self.ids |= {topic: bytes.fromhex(text) for topic, text in data["ids"].items()}
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"{data!r} is no position of a Kafka source") from error


class Assignment:
    """Queues for the partitions of a subscription, kept up with what the cluster has.

    Parameters
    ----------
    start, stop: bounds as the user gave them. on_lost: see :class:`KafkaSource`.
    positions: where to go on, from a checkpoint or empty; kept up to date by the source.
    fail: called with what ends the stream.
    """

    def __init__(
        self,
        subscription: Subscription,
        start: Bound,
        stop: Bound,
        on_lost: OnLostOffsets,
        positions: Positions,
        fail: Callable[[Exception], None],
    ) -> None:
        if on_lost not in ("fail", "earliest", "latest"):
            raise OptionError(f"on_lost_offsets {on_lost!r} is not known: use 'fail', 'earliest' or 'latest'")
        self.subscription = subscription
        self.positions = positions
        self.queues: dict[Place, PartitionQueue] = {}
        self.counters: Counter[str] = Counter()
        self.unwritten: set[Place] = set()  # partitions whose first position no batch has told yet
        self._start, self._stop = start, stop
        self._on_lost = on_lost
        self._fail = fail
        self._missing: Counter[str] = Counter()
        self.recreated: set[str] = set()  # topics that are others than at the checkpoint

    def attach(self, lane: Lane, budget: Budget, directory: BlockDirectory, timeout_s: float) -> None:
        """Say by what and into what is read; before everything else."""
        self._lane, self._budget, self._directory = lane, budget, directory
        self._timeout_s = timeout_s

    @property
    def bounded(self) -> bool:
        """True when the stream has an end."""
        return self._stop.whole is not None or bool(self._stop.each)

    # -- the beginning -------------------------------------------------------------------------

    async def open(self, committed: Mapping[Place, int]) -> None:
        """Find the partitions and begin to read them; ``committed`` are a group's offsets to go on at.

        Raises SourceError when topics are missing, or were made anew since the checkpoint and the
        policy does not allow for it.
        """
        topics = await self._patiently(self._existing_topics, "the topics")
        for topic in self._recreated(topics):
            self._accept_recreation(topic)
            self.recreated.add(topic.name)
            self.positions.offsets = {
                place: at for place, at in self.positions.offsets.items() if place[0] != topic.name
            }
        known = bool(self.positions.offsets)
        places = self.subscription.select(topics)
        self._check_vanished(topics)
        goes_on = {
            place: self.positions.offsets[place] for place in places if place in self.positions.offsets
        }
        begins = {place: offset for place, offset in committed.items() if place in places}
        new = places - goes_on.keys() - begins.keys()
        begins |= await self._patiently(lambda: self._resolve(new, None if known else self._start), "offsets")
        stops = await self._patiently(lambda: self._resolve(places, self._stop), "end offsets")
        self._add(topics, {**begins, **goes_on}, stops)

    async def _existing_topics(self) -> dict[str, Topic]:
        topics = await self._lane.topics(self.subscription.names)
        missing = (self.subscription.names or frozenset()) - topics.keys()
        if missing - {topic for topic, _ in self.positions.offsets}:
            raise _NotYet(f"topic {sorted(missing)[0]!r} does not exist")
        return topics

    async def _patiently(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """Try for the time that a start may take."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        while True:
            try:
                return await call()
            except (KafkaError, _NotYet) as error:
                final = isinstance(error, KafkaError) and not error.retriable
                if final or loop.time() >= deadline:
                    where = self._lane.settings.bootstrap
                    raise SourceError(f"cannot learn {what} of Kafka at {where}: {error!r}") from error
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _resolve(self, places: Collection[Place], bound: Bound | None) -> dict[Place, int]:
        """Offsets for bounds, of the partitions that have one; None stands for the earliest of all."""
        asked: dict[Place, int] = {}
        found: dict[Place, int] = {}
        for place in places:
            one = (EARLIEST, False) if bound is None else bound.of(place)
            if one is None and bound is self._start:
                one = (EARLIEST, False)
            if one is None:
                continue
            value, is_time = one
            if is_time or value < 0:
                asked[place] = value
            else:
                found[place] = value
        if asked:
            answers = await self._lane.offsets(asked)
            late = [place for place in asked if answers[place] < 0]  # no record is so young: from the end
            if late:
                answers |= await self._lane.offsets(dict.fromkeys(late, LATEST))
            found |= answers
        return found

    def _add(self, topics: Mapping[str, Topic], at: Mapping[Place, int], stops: Mapping[Place, int]) -> None:
        for place, offset in sorted(at.items()):
            if place in self.queues:
                continue
            topic = topics[place[0]]
            queue = PartitionQueue(
                *place,
                offset,
                self._budget,
                self._directory,
                topic_id=topic.id,
                stop=stops.get(place),
                form=self._lane.form,
            )
            self.queues[place] = queue
            self.positions.offsets[place] = offset
            self.positions.ids[topic.name] = topic.id
            self.unwritten.add(place)
            self._lane.add(queue)

    # -- keeping up ----------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Look at what the cluster has now: new partitions and topics are read from their beginning (E19).

        Raises KafkaError when it cannot be told.
        """
        topics = await self._lane.topics(self.subscription.names)
        for topic in self._recreated(topics):
            self._accept_recreation(topic)
            self._remove([place for place in self.queues if place[0] == topic.name])
        self._check_vanished(topics)
        if not self.bounded:
            new = self.subscription.select(topics) - self.queues.keys()
            await self._add_new(topics, new)

    async def _add_new(self, topics: Mapping[str, Topic], new: Collection[Place]) -> None:
        if not new:
            return
        latest = {
            place for place in new if self._missing[_recreation(place[0])] and self._on_lost == "latest"
        }
        at = await self._lane.offsets({place: LATEST if place in latest else EARLIEST for place in new})
        self._add(topics, at, {})
        for place in new:
            _log.info("Kafka: %s[%d] is read from offset %d", *place, at[place])
        for topic in {topic for topic, _ in new}:
            self._missing.pop(_recreation(topic), None)

    def _remove(self, places: Iterable[Place]) -> None:
        for place in places:
            queue = self.queues.pop(place)
            self._lane.remove(queue)

    def _recreated(self, topics: Mapping[str, Topic]) -> list[Topic]:
        """Topics that have another id than the one that was read so far."""
        return [
            topic
            for name, topic in topics.items()
            if any(topic.id) and any(old := self.positions.ids.get(name, b"")) and old != topic.id
        ]

    def _accept_recreation(self, topic: Topic) -> None:
        error = SourceError(
            f"topic {topic.name!r} was deleted and made again: what was not read of the old one is lost. "
            "on_lost_offsets='earliest' or 'latest' goes on with the new one"
        )
        if self._on_lost == "fail":
            raise error
        self.counters["topics_recreated"] += 1
        self._missing[_recreation(topic.name)] = 1
        self.positions.ids[topic.name] = topic.id
        _log.warning("%s (%s)", error, self._on_lost)

    def _check_vanished(self, topics: Mapping[str, Topic]) -> None:
        """A topic that is gone for some looks is a loss too, of what was not read of it."""
        for name in {topic for topic, _ in self.positions.offsets}:
            if name in topics:
                self._missing.pop(name, None)
                continue
            self._missing[name] += 1
            if self._missing[name] == _MISSING_MAX:
                error = SourceError(f"topic {name!r} does not exist any more")
                if self._on_lost == "fail" and not all(
                    queue.ended for queue in self.queues.values() if queue.topic == name
                ):
                    raise error
                _log.warning("%s: it is waited for", error)

    # -- lost offsets --------------------------------------------------------------------------

    async def lose(self, queue: PartitionQueue) -> None:
        """Decide where to go on when the position of ``queue`` is not in the log (scenario E17)."""
        while queue.active:
            try:
                await self.refresh()  # it may be another topic of that name by now
                if not queue.active:
                    return
                first = (await self._lane.offsets({queue.place: EARLIEST}))[queue.place]
                end = (await self._lane.offsets({queue.place: LATEST}))[queue.place]
            except KafkaError:
                await asyncio.sleep(_ASK_AGAIN_S)
                continue
            if first <= queue.position <= end:  # it was a replica that was behind
                await asyncio.sleep(_ASK_AGAIN_S)
                queue.blocked = False
                self._lane.wake()
                return
            self._go_on(queue, first, end)
            return

    def _go_on(self, queue: PartitionQueue, first: int, end: int) -> None:
        what = (
            f"{queue.topic}[{queue.partition}]: offset {queue.position} is not in its log, "
            f"which holds {first} to {end}"
        )
        if self._on_lost == "fail":
            self._fail(
                SourceError(
                    f"{what}: records were removed before they were read, or the log was cut. "
                    "on_lost_offsets='earliest' or 'latest' goes on there"
                )
            )
            return
        new = first if self._on_lost == "earliest" else end
        self.counters["offsets_lost"] += max(0, new - queue.position)
        _log.warning("%s: goes on at %d (%s), lost are %d", what, new, self._on_lost, new - queue.position)
        queue.leap(new)
        self._lane.wake()

    def close(self) -> None:
        """Let go of all queues."""
        self._remove(list(self.queues))


def _recreation(topic: str) -> str:
    return f"{topic}\0recreated"


class _NotYet(Exception):
    """What may come to be."""
