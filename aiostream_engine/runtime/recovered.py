"""What a checkpoint directory holds: the state of a stream as of its last committed batch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..sources.base import BatchInput
from ..types import BlockRef
from .chains import ChainLink
from .live_records import LiveRecords
from .records import SealedRecord

__all__ = [
    "Intent",
    "KeptPart",
    "Layout",
    "Prepared",
    "Recovered",
    "StateChain",
    "StateChains",
    "StoredPosition",
]


@dataclass(slots=True)
class StateChain:
    """The records of one partition of a state: a snapshot, at once or in slices, and changes.

    began: version at which the last complete snapshot in slices began, 0 for none since the first record.
    """

    version: int = 0
    began: int = 0
    records: list[SealedRecord] = field(default_factory=list)

    def add(self, record: SealedRecord) -> None:
        """One more record; it may end what older ones are needed for."""
        content = record.content
        if content["first"]:
            self.records.clear()
            self.began = 0
        self.records.append(record)
        self.version = content["version"]
        if content.get("sweep_done"):
            self.began = content["sweep"]
            self.records = [item for item in self.records if item.content["version"] >= self.began]

    @property
    def is_whole(self) -> bool:
        """True when nothing before its first record is needed."""
        content = self.records[0].content
        return bool(
            content["first"] or (self.began and content.get("sweep") == self.began == content["version"])
        )

    @property
    def blocks(self) -> list[BlockRef]:
        """Where the payloads lie in the journal."""
        return [link.block for link in self.links]

    @property
    def links(self) -> list[ChainLink]:
        """The chain, as it lies in the journal."""
        links: list[ChainLink] = []
        for record in self.records:
            ref, content = record.ref, record.content
            block = BlockRef("pickle", None, ref.path, ref.offset, ref.length)
            sweep = (content.get("sweep", 0), content.get("swept_bytes", 0), content.get("sweep_done", False))
            links.append(ChainLink(block, content["version"], not links, *sweep))
        return links


@dataclass(slots=True)
class StateChains:
    """All partitions of a state that have records.

    schema: version of what the user keeps in it. hashed: its keys lie by their hash.
    """

    partitions: int
    schema: int = 1
    hashed: bool = True
    chains: dict[int, StateChain] = field(default_factory=dict)


@dataclass(slots=True)
class Layout:
    """Into how many partitions batches were cut: by default, and by each step that keeps state."""

    parallelism: int
    steps: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Intent:
    """A batch that was begun and not committed; to be run again with the same content and layout."""

    batch: int
    time: int
    missed: int
    layout: Layout
    inputs: dict[str, BatchInput]
    number: int


@dataclass(slots=True)
class KeptPart:
    """One partition of a kept RDD."""

    blocks: list[BlockRef] = field(default_factory=list)
    partitions: int = 0
    placed: int | None = None


@dataclass(slots=True)
class StoredPosition:
    """A source's position: a whole one and the changes after it, as JSON texts."""

    whole_text: str
    number: int
    change_texts: list[str] = field(default_factory=list)

    @property
    def whole(self) -> Any:
        """The position, without the changes."""
        return json.loads(self.whole_text)

    @property
    def changes(self) -> list[Any]:
        """The changes, in order."""
        return [json.loads(text) for text in self.change_texts]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that a transaction decides about, whose outcome the journal does not hold.

    commit_point: where to ask. number: of its record.
    """

    batch: int
    time: int
    commit_point: str
    number: int


@dataclass(slots=True)
class Recovered:
    """What the journal says.

    number, checksum, epoch: of the last record, and its driver.
    zero_ms, interval_ms: of the stream, None for a new directory.
    batch, time, commit: the last committed batch and its COMMIT; its publishing is to be repeated.
    positions: from which each replayable source goes on.
    pending: batches to be run again, in order.
    states, kept: by the names of states and windows.
    leftovers: logged blocks of receivers that no batch holds yet, by input.
    prepared: the batch after the last one, when only a transaction outside knows whether it is true.
    live: which records are still needed.
    torn_bytes: what a crash left behind at the end, which was never said to be durable.
    """

    number: int = 0
    checksum: int = 0
    epoch: int = 0
    zero_ms: int | None = None
    interval_ms: int | None = None
    batch: int = 0
    time: int = -1
    commit: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, StoredPosition] = field(default_factory=dict)
    pending: list[Intent] = field(default_factory=list)
    states: dict[str, StateChains] = field(default_factory=dict)
    kept: dict[str, dict[int, dict[int, KeptPart]]] = field(default_factory=dict)
    leftovers: dict[str, list[BlockRef]] = field(default_factory=dict)
    prepared: Prepared | None = None
    live: LiveRecords = field(default_factory=LiveRecords)
    records: int = 0
    seconds: float = 0.0
    torn_bytes: int = 0

    @property
    def last_time(self) -> int | None:
        """The last label that was given to a batch, None when there was none."""
        last = self.pending[-1].time if self.pending else self.time
        return None if last < 0 else last
