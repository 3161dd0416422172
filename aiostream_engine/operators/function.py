"""A user function as a value: picklable, comparable by content, and blamed by name."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from ..blocks.by_value import dumps_by_value
from ..errors import UnpicklableError

__all__ = ["Fn", "bound", "describe_callable", "is_coroutine_function"]


class Fn:
    """Wraps a callable; two are equal when their pickled content is.

    The content is read once, at first use: what a closure captured is frozen then, and it is this
    content that workers get, however often it is sent. Reading it is also the check that a function can
    be sent at all, made at start and not at the first batch.

    rebuild: for the engine's own functions with parameters, ``(function, parameters)`` to make it anew.
    """

    __slots__ = ("_id", "_payload", "_rebuild", "builtin", "call", "step")

    def __init__(
        self,
        call: Callable[..., Any],
        step: str = "",
        id: str | None = None,
        *,
        builtin: bool = False,
        rebuild: tuple[Callable[..., Any], tuple[Any, ...]] | None = None,
    ) -> None:
        self.call = call
        self.step = step
        self.builtin = builtin  # the engine's own and free of effects: may be called in the driver
        self._id = id
        self._payload: bytes | None = None
        self._rebuild = rebuild

    @property
    def id(self) -> str:
        """Content hash. Raises UnpicklableError naming the captured variable at fault."""
        if self._id is None:
            self._payload = _dumps(self.call, self.step)
            self._id = hashlib.blake2b(self._payload, digest_size=16).hexdigest()
        return self._id

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Fn) and self.id == other.id)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        content_id = self.id  # reads the content, if nobody did yet
        if self._payload is not None:
            return _of_payload, (self._payload, self.step, content_id)
        if self._rebuild is not None:
            return bound, (*self._rebuild, self.step, content_id, self.builtin)
        return Fn, (self.call, self.step, content_id)

    def __repr__(self) -> str:
        return describe_callable(self.call)


def _of_payload(payload: bytes, step: str, content_id: str) -> Fn:
    return Fn(pickle.loads(payload), step, content_id)


def bound(
    function: Callable[..., Any], params: tuple[Any, ...], step: str, content_id: str, builtin: bool = False
) -> Fn:
    """``function`` with leading parameters, of which a :class:`Fn` counts as the function in it."""
    values = tuple([param.call if isinstance(param, Fn) else param for param in params])
    call = functools.partial(function, *values) if values else function
    return Fn(call, step, content_id, builtin=builtin, rebuild=(function, params))


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
        return dumps_by_value(call)
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
                dumps_by_value(value)
            except Exception:
                yield f" because of its {kind} {name!r} ({type(value).__name__})"
