"""Functions of DStream operations that run in the workers, which import nothing more for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .resultiterable import ResultIterable

__all__: list[str] = []


def counted(records: Iterable[Any]) -> list[int]:
    return [sum(1 for _ in records)]


def under_none(record: Any) -> tuple[None, Any]:
    return None, record


def under_one(record: Any) -> tuple[int, Any]:
    return 1, record


def one(_: Any) -> int:
    return 1


def with_one(record: Any) -> tuple[Any, int]:
    return record, 1


def second(pair: tuple[Any, Any]) -> Any:
    return pair[1]


def is_there(pair: tuple[Any, int]) -> bool:
    return pair[1] > 0


def in_list(value: Any) -> list[Any]:
    return [value]


def without_front(values: list[Any], leaving: list[Any]) -> list[Any]:
    return values[len(leaving) :]


def as_results(values: list[Any]) -> ResultIterable[Any]:
    return ResultIterable(values)


def as_text(record: Any) -> str:
    if isinstance(record, bytes):
        return record.decode("utf-8", "replace")
    return record if isinstance(record, str) else str(record)
