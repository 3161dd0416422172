"""Functions that take the batch time or do without it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any

__all__ = ["datetime_of", "with_time"]


def datetime_of(time_ms: int) -> datetime:
    """A batch time as PySpark's callbacks get it: naive, in local time."""
    return datetime.fromtimestamp(time_ms / 1000.0)


def with_time(function: Callable[..., Any], rdds: int, refusal: str) -> Callable[..., Any]:
    """``function(rdd, …)`` or ``function(time, rdd, …)``, as ``(time, rdd, …)``.

    Told apart by the arguments that the function requires, so that methods, partials and defaults
    work (row DS-13). Raises AssertionError with ``refusal`` for any other number of them.
    """
    count = _required(function)
    if count == rdds:
        return lambda _, *arguments: function(*arguments)
    if count is None or count == rdds + 1:
        return function
    raise AssertionError(refusal)


def _required(function: Callable[..., Any]) -> int | None:
    """How many positional arguments it requires; None when that is not known or open."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-ins have no signature
        return 1
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    if not positional and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return len(required)
