"""The page of types that every room speaks."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, NamedTuple

__all__ = [
    "INLINE_BYTES_MAX",
    "BatchTime",
    "BlockRef",
    "ContextState",
    "DeadLetter",
    "Guarantee",
    "OnError",
    "StorageLevel",
]

# A payload up to this size travels inside of its reference; creating a shared file costs more.
INLINE_BYTES_MAX = 64 * 1024


class BatchTime(int):
    """The label of a batch: epoch milliseconds of the *end* of its interval (row CTX-22)."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """The label in epoch seconds."""
        return self / 1000

    @property
    def datetime(self) -> datetime:
        """The label as an aware UTC datetime."""
        return datetime.fromtimestamp(self / 1000, UTC)

    def __str__(self) -> str:
        return self.datetime.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


class BlockRef(NamedTuple):
    """Where the bytes of one block are and how to read records from them.

    A reference is what passes through the driver; the bytes do not. Small blocks are the
    exception: they ride in ``data``.

    format: name in :mod:`aiostream_engine.blocks.formats`.
    data: the payload itself, or None when it lies in a file.
    path, offset, length: where the payload lies; lengths in bytes.
    records: number of records, or -1 when unknown.
    args: parameters of the format (encoding, record length …), plain values only.
    """

    format: str
    data: bytes | None = None
    path: str = ""
    offset: int = 0
    length: int = 0
    records: int = -1
    args: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of payload, wherever it lies."""
        return self.length if self.data is None else len(self.data)


class ContextState(enum.Enum):
    """States of a streaming context; there is no way back (row CTX-3)."""

    INITIALIZED = "initialized"
    ACTIVE = "active"
    STOPPED = "stopped"


class Guarantee(enum.IntEnum):
    """What one source -> sink pair promises across a crash of the driver."""

    AT_MOST_ONCE = 0
    AT_LEAST_ONCE = 1
    EFFECTIVELY_ONCE = 2


class OnError(enum.Enum):
    """What happens to a record on which a user function raised.

    FAIL: the batch fails and the stream stops; no data is lost silently (the default).
    SKIP: the record is dropped and counted: **loses data**.
    DEAD_LETTER: the record goes to the step's dead-letter stream with the cause.
    """

    FAIL = "fail"
    SKIP = "skip"
    DEAD_LETTER = "dead-letter"


class StorageLevel(enum.Enum):
    """Where the blocks of a persisted RDD live."""

    MEMORY = "memory"
    MEMORY_AND_DISK = "memory-and-disk"
    DISK = "disk"


class DeadLetter(NamedTuple):
    """A record that a step could not process, with the cause.

    attempts counts calls of the user function, retries included.
    """

    step: str
    batch: int | None
    partition: int
    record: Any
    error_type: str
    message: str
    traceback: str
    attempts: int
