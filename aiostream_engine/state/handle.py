"""The handle by which a ``map_with_state`` function reads and changes the state of its key."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

__all__ = ["State"]

S = TypeVar("S")
_ABSENT: Any = object()


class State(Generic[S]):
    """The state of the key in hand (row MWS-2).

    One handle serves a whole partition: do not keep it after the function returned. Values are to
    be replaced by :meth:`update`, not changed in place, or a failed batch cannot be undone.
    """

    __slots__ = ("_changed", "_removed", "_timing_out", "_value")

    def __init__(self) -> None:
        self._bind(_ABSENT)

    def _bind(self, value: Any, timing_out: bool = False) -> None:
        self._value = value
        self._changed = self._removed = False
        self._timing_out = timing_out

    def exists(self) -> bool:
        """True when the key has a state."""
        return self._value is not _ABSENT

    def get(self, default: Any = _ABSENT) -> S:
        """The state; ``default`` where there is none, or KeyError when no default is given."""
        if self._value is not _ABSENT:
            return self._value  # type: ignore[no-any-return]
        if default is _ABSENT:
            raise KeyError("the key has no state: ask exists() first, or give get() a default")
        return default  # type: ignore[no-any-return]

    def update(self, value: S) -> None:
        """Set the state. Raises ValueError for None, after remove(), or while timing out."""
        if value is None:
            raise ValueError("a state cannot be None: call remove() to drop it")
        self._refuse_change("update")
        self._value, self._changed = value, True

    def remove(self) -> None:
        """Drop the state. Raises ValueError when called twice or while timing out."""
        self._refuse_change("remove")
        self._value, self._removed = _ABSENT, True

    def is_timing_out(self) -> bool:
        """True in the one call that tells that the key was idle for too long and goes."""
        return self._timing_out

    def _refuse_change(self, verb: str) -> None:
        if self._removed:
            raise ValueError(f"cannot {verb} a state that was removed in the same call")
        if self._timing_out:
            raise ValueError(f"cannot {verb} a state that is timing out: it is removed after this call")
