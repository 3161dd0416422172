"""The block that a receiver is filling: whole records go in, a block reference comes out."""

from __future__ import annotations

from typing import Any, Protocol

from ..blocks.arena import Arena
from ..blocks.formats import encode_records
from ..errors import UnpicklableError
from ..types import BlockRef

__all__ = ["BytesBlock", "ObjectsBlock", "OpenBlock", "encode_or_name_culprit"]

# Pickling is done on the loop, and this much of it takes a few milliseconds.
OBJECT_BLOCK_BYTES = 512 * 1024
OBJECT_BLOCK_RECORDS = 20_000
_SAMPLE_EVERY = 256
_REPR_CHARS_MAX = 200


class OpenBlock(Protocol):
    """What is open between two cuts; ``bytes`` may be an estimate, ``records`` is exact."""

    bytes: int
    records: int

    def seal(self) -> BlockRef | None:
        """End the block; None when it is empty. The caller holds it in the ledger."""

    def discard(self) -> None:
        """Drop what is in it."""


class BytesBlock:
    """Bytes of whole records in their wire form, decoded in the worker."""

    def __init__(self, arena: Arena, format: str, args: tuple[Any, ...] = ()) -> None:
        self._arena = arena
        self._format = format
        self._args = args
        self.bytes = 0
        self.records = 0

    def append(self, data: bytes | bytearray | memoryview, records: int) -> None:
        """Add whole records. Raises StorageError, with nothing added."""
        self._arena.write(data)
        self.bytes += len(data)
        self.records += records

    def seal(self) -> BlockRef | None:
        if self.records == 0:
            return None
        ref = self._arena.cut(self._format, records=self.records, args=self._args)
        self.bytes = self.records = 0
        return ref

    def discard(self) -> None:
        self._arena.discard()
        self.bytes = self.records = 0


class ObjectsBlock:
    """Python objects, pickled when the block is sealed.

    The size of an object is unknown before; strings and bytes are counted, others are taken at
    the mean of samples, one in every 256.
    """

    def __init__(self, arena: Arena, owner: str) -> None:
        self._arena = arena
        self._owner = owner
        self._items: list[Any] = []
        self._mean_bytes = 0.0
        self._samples_in = 0
        self.bytes = 0
        self.records = 0

    @property
    def is_large(self) -> bool:
        """True when it is time to seal."""
        return self.bytes >= OBJECT_BLOCK_BYTES or self.records >= OBJECT_BLOCK_RECORDS

    def append(self, item: Any) -> int:
        """Add one object; gives its size in bytes as far as it is known.

        Raises UnpicklableError when the object was sampled and cannot be pickled.
        """
        size = len(item) if type(item) in (str, bytes) else self._estimate(item)
        self._items.append(item)
        self.bytes += size
        self.records += 1
        return size

    def _estimate(self, item: Any) -> int:
        if self._samples_in == 0:
            size = len(encode_or_name_culprit([item], self._owner))
            self._mean_bytes = size if not self._mean_bytes else 0.75 * self._mean_bytes + 0.25 * size
            self._samples_in = _SAMPLE_EVERY
            return size
        self._samples_in -= 1
        return int(self._mean_bytes)

    def seal(self) -> BlockRef | None:
        """End the block; None when it is empty. Raises UnpicklableError and drops the block with it."""
        if not self._items:
            return None
        try:
            payload = encode_or_name_culprit(self._items, self._owner)
        except UnpicklableError:
            self.discard()
            raise
        self._arena.write(payload)
        ref = self._arena.cut("pickle", records=self.records)
        self.discard()
        return ref

    def discard(self) -> None:
        self._items = []
        self.bytes = self.records = 0


def encode_or_name_culprit(items: list[Any], owner: str) -> bytes:
    """Pickle ``items``; raises UnpicklableError that shows the first one that cannot be pickled."""
    try:
        return encode_records(items)
    except Exception as error:
        culprit = next((item for item in items if not _picklable(item)), items)
        raise UnpicklableError(
            f"{owner} was given a record that cannot be sent to a worker: {_short_repr(culprit)}: {error}"
        ) from error


def _picklable(item: Any) -> bool:
    try:
        encode_records([item])
    except Exception:
        return False
    return True


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _REPR_CHARS_MAX else text[:_REPR_CHARS_MAX] + "…"
