"""A user function as a value: picklable, comparable by content, and blamed by name."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from ..errors import UnpicklableError

__all__ = ["Fn", "describe_callable", "is_coroutine_function"]


class Fn:
    """Wraps a callable; two are equal when their pickled content is.

    The content is read once, at first use: what a closure captured is frozen then. That is also
    the check that a function can be sent to a worker, made at start and not at the first batch.
    """

    __slots__ = ("_id", "builtin", "call", "step")

    def __init__(
        self, call: Callable[..., Any], step: str = "", id: str | None = None, *, builtin: bool = False
    ) -> None:
        self.call = call
        self.step = step
        self.builtin = builtin  # the engine's own and free of effects: may be called in the driver
        self._id = id

    @property
    def id(self) -> str:
        """Content hash. Raises UnpicklableError naming the captured variable at fault."""
        if self._id is None:
            self._id = hashlib.blake2b(_dumps(self.call, self.step), digest_size=16).hexdigest()
        return self._id

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Fn) and self.id == other.id)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return Fn, (self.call, self.step, self.id)

    def __repr__(self) -> str:
        return describe_callable(self.call)


def is_coroutine_function(call: Any) -> bool:
    """True for ``async def`` functions, also as a method, a partial, or the ``__call__`` of an object."""
    while isinstance(call, functools.partial):
        call = call.func
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


def describe_callable(call: Callable[..., Any]) -> str:
    """A short name for plans and errors."""
    name = getattr(call, "__qualname__", None) or type(call).__qualname__
    code = getattr(call, "__code__", None)
    if code is not None and "<lambda>" in name:
        return f"lambda@{code.co_filename.rsplit('/', 1)[-1]}:{code.co_firstlineno}"
    return str(name)


def _dumps(call: Callable[..., Any], step: str) -> bytes:
    try:
        payload: bytes = cloudpickle.dumps(call, protocol=5)
        return payload
    except Exception as error:
        culprit = next(_captured_culprits(call), "")
        raise UnpicklableError(
            f"step {step!r}: {describe_callable(call)} cannot be sent to a worker{culprit}: "
            f"{type(error).__name__}: {error}. Create such objects inside of the function or once a "
            "partition (map_partitions), or pass plain data"
        ) from error


def _captured_culprits(call: Callable[..., Any]) -> Iterator[str]:
    try:
        captured = inspect.getclosurevars(call)
    except (TypeError, ValueError):
        return
    for kind, names in (("captured variable", captured.nonlocals), ("global", captured.globals)):
        for name, value in names.items():
            try:
                cloudpickle.dumps(value, protocol=5)
            except Exception:
                yield f" because of its {kind} {name!r} ({type(value).__name__})"
