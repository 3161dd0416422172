"""One bound for the memory of everything in a process that can move to disk."""

from __future__ import annotations

import weakref
from typing import Protocol

__all__ = ["Budget", "Spilling"]

_LOW = 0.875  # what is left after making room, so that it is made in large steps
_STEP = 16


class Spilling(Protocol):
    """What can give memory back."""

    bytes: int

    def evict(self, wanted: int) -> None:
        """Move about ``wanted`` bytes to disk, the least recently used first."""


class Budget:
    """Bytes that the caches of one process may take together.

    The largest gives first: so caches that are used in turn keep equal shares, where giving the least
    recently used one would empty each just before it is needed.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._members: weakref.WeakValueDictionary[int, Spilling] = weakref.WeakValueDictionary()

    def join(self, member: Spilling) -> None:
        """Count ``member`` until it is gone."""
        self._members[id(member)] = member

    def charge(self, size: int) -> None:
        """A member has grown by ``size`` bytes, and has counted them."""
        self.bytes += size
        if self.bytes > self.bytes_max:
            self._make_room()

    def _make_room(self) -> None:
        members = list(self._members.values())
        self.bytes = sum(member.bytes for member in members)  # some may be gone
        low = int(self.bytes_max * _LOW)
        while self.bytes > low:
            largest = max(members, key=lambda member: member.bytes)
            before = largest.bytes
            largest.evict(min(self.bytes - low, max(before // 2, self.bytes_max // _STEP)))
            if largest.bytes >= before:
                return
            self.bytes -= before - largest.bytes
