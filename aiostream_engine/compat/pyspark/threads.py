"""Threads that take over the local properties of the thread that made them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["InheritableThread", "inheritable_thread_target"]

F = TypeVar("F", bound=Callable[..., Any])


def inheritable_thread_target(f: F) -> F:
    """``f`` for another thread, with the local properties of this one; as PySpark."""
    from .context import SparkContext

    context = SparkContext._active_spark_context
    properties = dict(context._local_properties()) if context is not None else {}

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if context is not None:
            context._local_properties().update(properties)
        return f(*args, **kwargs)

    return call  # type: ignore[return-value]


class InheritableThread(threading.Thread):
    """A thread that starts with the local properties of the thread that made it; as PySpark."""

    def __init__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(None, inheritable_thread_target(target), *args, **kwargs)
