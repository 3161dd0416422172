"""Values that may be read as in Python and called as in Java: ``info.name`` and ``info.name()``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["JavaMap", "JavaObject", "JavaTime", "java_value"]


class JavaObject:
    """A record with fields, each an attribute that may also be called."""

    def __init__(self, class_name: str, /, **fields: Any) -> None:
        self._class_name = class_name
        self._fields = {name: java_value(value) for name, value in fields.items()}

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{self.__dict__.get('_class_name', 'object')} has no {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __call__(self) -> JavaObject:
        return self

    def __repr__(self) -> str:
        return f"{self._class_name}({','.join(str(value) for value in self._fields.values())})"

    def toString(self) -> str:
        """As Java would print it."""
        return repr(self)


class JavaMap(Mapping[Any, Any]):
    """A mapping with the methods of Java's as well."""

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self._entries = {key: java_value(value) for key, value in entries.items()}

    def __getitem__(self, key: Any) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __call__(self) -> JavaMap:
        return self

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key}={value}" for key, value in self._entries.items()) + "}"

    def size(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def isEmpty(self) -> bool:
        """True when there is no entry."""
        return not self._entries

    def containsKey(self, key: Any) -> bool:
        """True when there is an entry of this key."""
        return key in self._entries

    def keySet(self) -> set[Any]:
        """The keys."""
        return set(self._entries)

    def toString(self) -> str:
        """As Java would print it."""
        return repr(self)


class _JavaInt(int):
    """An int, or a truth value, that gives itself when called."""

    def __call__(self) -> int:
        return int(self)

    def toString(self) -> str:
        return str(int(self))


class JavaTime(int):
    """The label of a batch: milliseconds since the epoch, also as ``milliseconds()``."""

    def __call__(self) -> JavaTime:
        return self

    @property
    def milliseconds(self) -> int:
        """Since the epoch; may be called."""
        return _JavaInt(self)

    def __str__(self) -> str:
        return f"{int(self)} ms"

    __repr__ = __str__

    def toString(self) -> str:
        """As Java would print it."""
        return str(self)


class _JavaFlag(_JavaInt):
    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return "true" if self else "false"

    __str__ = __repr__
    toString = __repr__


class _JavaText(str):
    def __call__(self) -> str:
        return str(self)

    def toString(self) -> str:
        return str(self)


class _JavaNull:
    """Null that may be called; compares equal to None and is false, but is not ``None`` itself."""

    def __call__(self) -> None:
        return None

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _JavaNull)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:
        return "null"


def java_value(value: Any) -> Any:
    """``value`` in a form that may be called without an argument to get it."""
    if value is None:
        return _JavaNull()
    if isinstance(value, bool):
        return _JavaFlag(value)
    if type(value) is int:
        return _JavaInt(value)
    if type(value) is str:
        return _JavaText(value)
    return value
