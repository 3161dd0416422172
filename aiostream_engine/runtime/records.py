"""The records of a checkpoint directory: their kinds, how they are sealed, what they refer to.

    OPEN     a driver begins to work on the directory; may drop what the program no longer has
    BLOCK    a block of a source that cannot replay, before or with the batch that holds it
    INTENT   the frozen content of a batch, before any of its effects
    STATE    changes or a snapshot of one partition of a keyed state
    KEPT     a block of an RDD that later windows need
    COMMIT   the batch is true: versions of states, tokens of sinks
    PREPARED what a COMMIT says, of a batch about which a transaction outside decides; a COMMIT that
             names it follows when that is known

The metadata of a record is its seal, over all of it, and JSON. User data is the payload.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple
from zlib import crc32

from ..blocks.storage import read_bytes
from ..durable.journal_format import JournalRef
from ..durable.journal_reader import JournalRecord
from ..durable.seal import SEAL_BYTES, Seal, digest_of
from ..errors import ConfigurationError, CorruptionError
from ..types import BlockRef

__all__ = [
    "Draft",
    "FrozenBatch",
    "FrozenInput",
    "KeptBlock",
    "Kind",
    "Payload",
    "Position",
    "SealedRecord",
    "StateChange",
    "block_at",
    "block_content",
    "encode",
    "file_place",
    "in_users_file",
    "open_record",
    "plain",
    "seal_record",
]


PYTHON = "{}.{}".format(*sys.version_info)
# Stands in a pickle that holds a class by value, which only the same version of Python can read.
_BY_VALUE = b"cloudpickle.cloudpickle"


class Kind(IntEnum):
    """Kinds of records in the journal."""

    OPEN = 1
    BLOCK = 2
    INTENT = 3
    STATE = 4
    KEPT = 5
    COMMIT = 6
    PREPARED = 7


class StateChange(NamedTuple):
    """A block that a batch added to the chain of a state's partition.

    first: the chain begins anew with it. batch: label of the batch. keys: keys in the partition.
    schema: version of what the user keeps in the state. hashed: the keys lie by their hash.
    sweep, swept_bytes, sweep_done: of a snapshot in slices, as in a :class:`~.chains.ChainLink`.
    """

    state_id: str
    partition: int
    partitions: int
    version: int
    first: bool
    block: BlockRef
    batch: int = 0
    keys: int = -1
    schema: int = 1
    hashed: bool = True
    sweep: int = 0
    swept_bytes: int = 0
    sweep_done: bool = False


class KeptBlock(NamedTuple):
    """A block of an RDD that windows read later.

    windows: names of the steps that do. placed: partitions of the hash that the RDD lies by, or None.
    """

    windows: tuple[str, ...]
    partition: int
    partitions: int
    placed: int | None
    block: BlockRef


class Position(NamedTuple):
    """Where a source goes on: whole, or as a change of the one before."""

    data: Any
    is_change: bool


# Begins to make the digest of data; the result waits for it.
Digest = Callable[[bytes | memoryview], Callable[[], bytes]]


class Payload(NamedTuple):
    """User data to be written.

    digest: stands for it in the seal. crc: its checksum. holds_code: it has a class by value.
    """

    data: bytes | memoryview = b""
    digest: bytes = b""
    crc: int = 0
    holds_code: bool = False

    @classmethod
    def of(cls, block: BlockRef, begin_digest: Digest | None = None) -> Payload:
        """Read a block, all of it some times: belongs into a thread when it is large.

        begin_digest: makes the digest meanwhile; by default it is made here.
        """
        data = read_bytes(block)
        digest = begin_digest(data) if begin_digest else lambda: digest_of(data)
        whole: Any = data.obj if isinstance(data, memoryview) else data  # a mapped file, or bytes
        holds_code = block.format == "pickle" and whole.find(_BY_VALUE) >= 0
        crc = crc32(data)
        return cls(data, digest(), crc, holds_code)


class Draft(NamedTuple):
    """A record to be written."""

    kind: Kind
    content: dict[str, Any]
    payload: Payload = Payload()

    @classmethod
    def of_data(cls, kind: Kind, content: dict[str, Any], payload: Payload) -> Draft:
        """A record of user data; notes the version of Python when it holds code (scenario H6)."""
        if payload.holds_code:
            content = {**content, "python": PYTHON}
        return cls(kind, content, payload)


class SealedRecord(NamedTuple):
    """A record as read back; :meth:`check` it before the payload is believed."""

    kind: Kind
    content: dict[str, Any]
    ref: JournalRef
    sealed: bytes

    def check(self, seal: Seal) -> None:
        """Raises CorruptionError when the record was not written with this key.

        ConfigurationError when it holds code of another version of Python, which must not be loaded.
        """
        ref = self.ref
        payload = read_bytes(BlockRef("", None, ref.path, ref.offset, ref.length))
        _check(seal, self.kind, self.sealed, ref, digest_of(payload))
        python = self.content.get("python", PYTHON)
        if python != PYTHON:
            raise ConfigurationError(
                f"record {ref.number} holds objects of classes that were defined in the program's own file "
                f"(__main__), by Python {python}; this is {PYTHON}. Start with that version, and move the "
                "classes to a module that can be imported"
            )


def encode(content: object, what: str) -> bytes:
    """``content`` as JSON; raises ConfigurationError when ``what`` is not plain data."""
    try:
        # ASCII with escapes: file names may hold bytes that are no UTF-8.
        return json.dumps(content, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{what} must be plain data (numbers, text, lists, dicts with text keys) to be kept in a "
            f"checkpoint directory: {error}"
        ) from error


def seal_record(seal: Seal, kind: Kind, number: int, text: bytes, digest: bytes) -> bytes:
    """The metadata of a record: its seal, and the JSON ``text``. digest: of its payload."""
    return seal.of(_head(kind, number), text, digest) + text


def _head(kind: int, number: int) -> bytes:
    return b"%d:%d" % (kind, number)


def _check(seal: Seal, kind: int, sealed: bytes, ref: JournalRef, digest: bytes) -> None:
    where = f"record {ref.number} of {ref.path}"
    seal.check(sealed[:SEAL_BYTES], where, _head(kind, ref.number), sealed[SEAL_BYTES:], digest)


def open_record(record: JournalRecord, seal: Seal) -> SealedRecord:
    """Read the metadata of a record; checks the seal at once where there is no payload."""
    ref = record.payload
    if ref.length == 0:
        _check(seal, record.kind, record.meta, ref, b"")
    try:
        content = json.loads(record.meta[SEAL_BYTES:])
        kind = Kind(record.kind)
    except ValueError as error:
        raise CorruptionError(f"record {ref.number} of {ref.path} is not understood: {error}") from error
    return SealedRecord(kind, content, ref, record.meta)


def block_content(block: BlockRef) -> dict[str, Any]:
    """What must be known of a block to read it, apart from where it lies."""
    return {"format": block.format, "args": block.args, "records": block.records}


def file_place(block: BlockRef) -> list[Any]:
    """Where a block in a user's file lies."""
    return [block.path, block.offset, block.length]


def in_users_file(block: BlockRef) -> bool:
    """True for a block that is read in place from a file of the user, and never copied."""
    return block.format.startswith("file-")


def block_at(content: dict[str, Any], path: str, offset: int, length: int) -> BlockRef:
    """The block that ``content`` of :func:`block_content` describes."""
    return BlockRef(content["format"], None, path, offset, length, content["records"], tuple(content["args"]))


class FrozenInput(NamedTuple):
    """What a batch holds of one source. plain: JSON data that describes it."""

    blocks: tuple[BlockRef, ...]
    plain: dict[str, Any]


class FrozenBatch(NamedTuple):
    """The content of a batch as its intent holds it. head: JSON data of the batch itself."""

    batch: int
    head: dict[str, Any]
    inputs: dict[str, FrozenInput]
    positions: dict[str, Position]

    @property
    def is_idle(self) -> bool:
        """True when it takes nothing from its inputs, and leaves their positions as they were."""
        if self.positions:
            return False
        return not any(item.blocks or "recipe" in item.plain for item in self.inputs.values())


def plain(value: object) -> Any:
    """``value`` as JSON data, for people: what is none becomes text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
