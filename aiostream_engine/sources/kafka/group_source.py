"""The source as a member of a consumer group: partitions come and go, all is read at least once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiokafka.errors import KafkaError

from ...errors import OptionError
from ...kafka.connection import check_connection
from ...kafka.settings import KafkaSettings
from ...types import BatchTime
from ..base import BatchInput, SourceContext
from ..receiver import cancel_and_wait
from .assignment import Assignment
from .group_membership import AssignmentProtocol, GroupEvents, GroupMembership, GroupTimes
from .lane import EARLIEST
from .partition_queue import Place
from .source import KafkaSource
from .subscription import Bound, StartAt

__all__ = ["GroupKafkaSource"]

_log = logging.getLogger("aiostream_engine.kafka")
_ASK_AGAIN_S = 0.1


class GroupKafkaSource(KafkaSource):
    """Records of the partitions that a consumer group gives to this member: at least once.

    Several engines, and other programs with Kafka's classic protocol, share the partitions. When
    partitions are asked back, reading stops at once, batches under way get ``times.revoke_s`` to
    be committed, their offsets are committed, and only then the partitions are let go. Whoever gets a
    partition begins at the committed offset. A batch whose commit came too late is read again by its
    new owner, as a whole; for that reason this promises *at least once* whatever the sink. For
    exactly-once use :class:`KafkaSource`.

    Order: as for :class:`KafkaSource` while a partition stays; a new owner goes on at the last commit.

    Parameters
    ----------
    group: name of the consumer group. Its offsets say where to go on, not a checkpoint directory.
    subscribe: names of topics, or a compiled regular expression that fits whole names.
    start: where to begin with partitions that the group has no offset of: ``earliest``, ``latest``, a
        datetime or a mapping. Partitions that appear later are read from their first record (E19).
    instance_id: makes the membership static: a restart within ``times.session_s`` moves no partitions.
        An older stream with the same one stops with FencedError.
    assignment: ``cooperative`` (KIP-429): at a rebalance only partitions that another is to get are asked
        back, the others are read on; all members must offer ``cooperative-sticky``. ``eager``: all are
        asked back.
    assignors: for an eager member, those of ``sticky``, ``range``, ``roundrobin`` and ``cooperative-sticky``
        to offer, default the first three; the group uses one that all its members offer.
    times: how patient the group is.
    options: those of :class:`KafkaSource` but ``stop``, ``partitions`` and ``pattern``.

    Raises OptionError. :meth:`start` raises ConfigurationError or SourceError when Kafka cannot be used.
    """

    at_least_once = True

    def __init__(
        self,
        bootstrap: str | Mapping[str, Any] | KafkaSettings,
        subscribe: str | Iterable[str] | re.Pattern[str],
        *,
        group: str,
        start: StartAt = "earliest",
        instance_id: str | None = None,
        assignment: AssignmentProtocol = "cooperative",
        assignors: Sequence[str] | None = None,
        times: GroupTimes | None = None,
        **options: Any,
    ) -> None:
        refused = options.keys() & {"stop", "partitions", "pattern", "topics"}
        if refused:
            raise OptionError(f"{sorted(refused)[0]} is not for members of a group: what they read changes")
        if not group:
            raise OptionError("group is empty")
        is_pattern = isinstance(subscribe, re.Pattern)
        super().__init__(
            bootstrap,
            None if is_pattern else subscribe,  # type: ignore[arg-type]
            pattern=subscribe if is_pattern else None,  # type: ignore[arg-type]
            start="earliest" if start == "committed" else start,
            **options,
        )
        self.name = f"kafka {self.subscription} as {group}"
        self._times = times or GroupTimes()
        direct = self.assignment
        self.assignment: GroupAssignment = GroupAssignment(
            direct.subscription, direct._start, direct._stop, direct._on_lost, direct.positions, self._fail
        )
        self.membership = GroupMembership(
            self.settings,
            group,
            self.subscription,
            GroupEvents(self._give_back, self._let_go, self._take_over, self._note_error),
            times=self._times,
            assignment=assignment,
            instance_id=instance_id,
            assignors=assignors,
            metadata_refresh_s=self._refresh_s,
        )
        self._commits = self.membership
        self._progress = asyncio.Event()
        self._taking_over: dict[asyncio.Task[None], set[Place]] = {}
        self._closing = False

    async def start(self, context: SourceContext) -> None:
        await check_connection(self.settings)
        await super().start(context)

    def restore(self, position: Any) -> None:
        """Nothing: where to go on is the group's to say."""

    def advance(self, change: Any) -> None:
        """Nothing, as :meth:`restore`."""

    # -- batches -------------------------------------------------------------------------------

    async def cut(self, time: BatchTime) -> BatchInput:
        content = await super().cut(time)
        if skipped := self.assignment.take_skipped():  # batches of an earlier run, run again before this one
            taken = self._uncommitted.pop()[1] if self._cut_last(time) else {}
            self._uncommitted.append((time, skipped | taken))
        return replace(content, position=None, position_change=None)

    def _cut_last(self, time: BatchTime) -> bool:
        return bool(self._uncommitted) and self._uncommitted[-1][0] == time

    async def recompute(self, recipe: Any) -> BatchInput:
        content = await super().recompute(recipe)
        for topic, partition, start, stop in recipe:
            self.assignment.skip((topic, partition), start, stop)
        return content

    async def on_commit(self, time: BatchTime) -> None:
        await super().on_commit(time)
        self._progress.set()

    # -- partitions come and go ----------------------------------------------------------------

    async def _give_back(self, places: set[Place]) -> None:
        """Pause, drain within the budget, commit, release."""
        await self._leave_off(places)
        self.assignment.counters["rebalances"] += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._times.revoke_s):
                while self._under_way(places) and not self._closing:
                    self._progress.clear()
                    await self._progress.wait()
        if late := self._under_way(places):
            self.assignment.counters["batches_not_drained"] += late
            _log.warning(
                "%s: %d batches were under way for longer than %g s when partitions were asked back; their "
                "records will be read again",
                self.name,
                late,
                self._times.revoke_s,
            )
        self._forget(places)
        await self.membership.flush(self._times.revoke_s)

    def _let_go(self, places: set[Place]) -> None:
        """The group took this member for dead: others have these by now, at the last commit."""
        self.assignment.counters["rebalances"] += 1
        self.assignment.counters["batches_not_drained"] += (late := self._under_way(places))
        _log.warning(
            "%s: was out of the group; %d batches under way will be read again, by whom it gave their "
            "partitions to",
            self.name,
            late,
        )
        for task, taken in self._taking_over.items():
            if taken & places:
                task.cancel()
        self.assignment.release(places)
        self._forget(places)

    async def _leave_off(self, places: set[Place]) -> None:
        """Read these no more, and go on with taking over others."""
        concerned = {
            task: taken for task, taken in self._taking_over.items() if taken & places and not task.done()
        }
        await cancel_and_wait(*concerned)
        self.assignment.release(places)
        for taken in concerned.values():
            self._take_over(taken - places)

    def _forget(self, places: set[Place]) -> None:
        """What another member has by now is not ours to commit."""
        for _, offsets in self._uncommitted:
            for place in places:
                offsets.pop(place, None)

    def _under_way(self, places: Collection[Place]) -> int:
        return sum(not offsets.keys().isdisjoint(places) for _, offsets in self._uncommitted)

    def _take_over(self, places: set[Place]) -> None:
        if self._stopped or not places:
            return
        task = asyncio.get_running_loop().create_task(self._begin(places), name=f"{self.name} assigned")
        self._taking_over[task] = places
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: self._taking_over.pop(done, None))

    async def _begin(self, places: set[Place]) -> None:
        """Find where to go on, then read: never before."""
        while True:
            try:
                new = await self.assignment.assign(places, self.membership.committed)
                self.membership.commit(new)  # so that a start at the latest stays where it was
                break
            except KafkaError as error:
                self._note_error(error, False)
                await asyncio.sleep(_ASK_AGAIN_S)
            except Exception as error:
                self._fail(error)
                return
        _log.info("%s: reads %s", self.name, sorted(places))

    async def aclose(self) -> None:
        self._closing = True
        self._progress.set()
        await super().aclose()


class GroupAssignment(Assignment):
    """Queues for the partitions that a group gives and takes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known_topics: set[str] | None = None
        self._replayed: dict[Place, list[tuple[int, int]]] = {}
        self._skipped: dict[Place, int] = {}

    async def open(self, committed: Mapping[Place, int]) -> None:
        """Nothing yet: the group will say."""
        topics = await self._patiently(self._existing_topics, "the topics")
        self._known_topics = set(self._chosen(topics))

    async def refresh(self) -> None:
        """Look whether topics are gone or made again; new ones are the group's to give."""
        topics = await self._lane.topics(self.subscription.names)
        for topic in self._recreated(topics):
            self._accept_recreation(topic)
            owned = [place for place in self.queues if place[0] == topic.name]
            self._remove(owned)
            self.positions.ids[topic.name] = topic.id
            await self._add_new(topics, owned)
        self._check_vanished(topics)

    async def assign(
        self, places: Collection[Place], committed: Callable[[Collection[Place]], Awaitable[dict[Place, int]]]
    ) -> dict[Place, int]:
        """Read these partitions from the group's offsets on; gives those that it had none of.

        Raises KafkaError.
        """
        topics = await self._lane.topics(self.subscription.names)
        offsets = await committed(places)
        missing = [place for place in places if place not in offsets]
        begins = await self._beginnings(missing, topics, committed)
        at = {place: self._behind_replayed(place, offset) for place, offset in {**offsets, **begins}.items()}
        self._add(topics, {place: offset for place, offset in at.items() if place[0] in topics}, {})
        return begins

    async def _beginnings(
        self,
        places: Collection[Place],
        topics: Mapping[str, Any],
        committed: Callable[[Collection[Place]], Awaitable[dict[Place, int]]],
    ) -> dict[Place, int]:
        """Where to begin with what the group never had: partitions that came later at their first record."""
        if not places:
            return {}
        concerned = {place[0] for place in places}
        all_of_them = [(name, n) for name in concerned & topics.keys() for n in topics[name].partitions]
        used = {topic for topic, _ in await committed(all_of_them)}
        known = self._known_topics or set()
        late = {place for place in places if place[0] in used or place[0] not in known}
        first = await self._resolve(late, Bound((EARLIEST, False), {}))
        return first | await self._resolve([place for place in places if place not in late], self._start)

    def _chosen(self, topics: Mapping[str, Any]) -> set[str]:
        return {topic for topic, _ in self.subscription.select(topics)}

    def release(self, places: Collection[Place]) -> None:
        """Read these no longer; what was fetched of them and is in no batch is forgotten."""
        self._remove([place for place in places if place in self.queues])
        for place in places:
            self.positions.offsets.pop(place, None)
            self.unwritten.discard(place)
            self._skipped.pop(place, None)

    # -- batches of an earlier run -------------------------------------------------------------

    def skip(self, place: Place, start: int, stop: int) -> None:
        """A batch that runs again has this range: it is not to be read a second time, if it is still ours."""
        self._replayed.setdefault(place, []).append((start, stop))
        queue = self.queues.get(place)
        if queue is None or queue.taken != start:
            return
        self._lane.remove(queue)
        del self.queues[place]
        queue_topic = {queue.topic: _KnownTopic(queue.topic, queue.topic_id)}
        self._add(queue_topic, {place: self._behind_replayed(place, start)}, {})  # type: ignore[arg-type]

    def _behind_replayed(self, place: Place, offset: int) -> int:
        """Behind those replayed ranges that follow on the offset; another member may be further."""
        at = offset
        for start, stop in self._replayed.pop(place, ()):
            if start == at:
                at = stop
        if at != offset:
            self._skipped[place] = at
        return at

    def take_skipped(self) -> dict[Place, int]:
        """Offsets to be committed with the next batch: those before it ran the skipped ranges."""
        skipped, self._skipped = self._skipped, {}
        return skipped


class _KnownTopic:
    """What :meth:`Assignment._add` asks of a topic."""

    def __init__(self, name: str, id: bytes) -> None:
        self.name, self.id = name, id
