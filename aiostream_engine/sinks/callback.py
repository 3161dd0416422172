"""A function as a sink, plain or ``async def``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import OptionError
from .base import IdempotentSink, PlainSink, Records, WriteKey
from .threads import ThreadSlots

__all__ = ["CallbackSink", "IdempotentCallbackSink", "callback_sink"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Callback:
    """Calls the user's function with the records of a partition, and the key when it takes two."""

    def __init__(self, function: Callable[..., Any], threads_max: int, name: str) -> None:
        if not callable(function):
            raise OptionError(f"{function!r} cannot be called: a callback sink needs a function")
        self._function = function
        self.takes_key = _takes_key(function)
        self._is_async = _is_async(function)
        self._slots = ThreadSlots(threads_max, name)

    async def __call__(self, key: WriteKey, records: Records) -> None:
        partition: list[Any] = []
        async for chunk in records:
            partition.extend(chunk)
        args = (partition, key) if self.takes_key else (partition,)
        if self._is_async:
            answer = self._function(*args)
        else:
            answer = await self._slots.run(self._function, *args)
        # A plain function may hand back a coroutine, as a lambda around an async def does.
        if inspect.isawaitable(answer):
            await answer


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose call is async
    )


def _takes_key(function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none: list.extend, queue.put …
        return False
    parameters = signature.parameters
    required = [p for p in parameters.values() if p.default is p.empty and p.kind in _POSITIONAL]
    # A second parameter with a default is an option of the function, not ours to fill, unless it
    # says that it wants the key.
    takes_key = len(required) == 2 or (len(required) == 1 and "key" in list(parameters)[1:2])
    try:
        signature.bind(*[None] * (1 + takes_key))
    except TypeError as exc:
        raise OptionError(
            f"{function!r} takes {signature}: a callback sink calls f(records) or f(records, key)"
        ) from exc
    return takes_key


class CallbackSink(PlainSink):
    """Calls ``function(records)`` or ``function(records, key)`` for each partition of each batch.

    function: plain or ``async def``; its number of parameters decides whether it gets the
        :class:`~.base.WriteKey`. A plain one runs in a thread, so it may block.
    concurrency_max: partitions of a batch that are written at the same time; 1 keeps their order.
        Also the number of threads, those of calls that hang included.

    A repeated batch is another call: see :class:`IdempotentCallbackSink`. What the function
    raises fails the write. Raises OptionError if the function cannot be called this way.
    """

    def __init__(
        self, function: Callable[..., Any], *, name: str | None = None, concurrency_max: int = 1
    ) -> None:
        self.name = getattr(function, "__name__", "callback") if name is None else name
        self.concurrency_max = concurrency_max
        self._call = _Callback(function, concurrency_max, self.name)

    async def write(self, key: WriteKey, records: Records) -> None:
        await self._call(key, records)


class IdempotentCallbackSink(IdempotentSink):
    """As :class:`CallbackSink`, for a function that promises that the same key twice counts once."""

    def __init__(
        self, function: Callable[..., Any], *, name: str | None = None, concurrency_max: int = 1
    ) -> None:
        self.name = getattr(function, "__name__", "callback") if name is None else name
        self.concurrency_max = concurrency_max
        self._call = _Callback(function, concurrency_max, self.name)
        if not self._call.takes_key:
            raise OptionError(
                f"{function!r} must take (records, key): without the key it cannot tell repeats"
            )

    async def write(self, key: WriteKey, records: Records) -> None:
        await self._call(key, records)


def callback_sink(
    function: Callable[..., Any],
    *,
    idempotent: bool = False,
    name: str | None = None,
    concurrency_max: int = 1,
) -> CallbackSink | IdempotentCallbackSink:
    """A function as a sink, idempotent only if you say so: nobody can see that from outside.

    function: ``f(records)`` or ``f(records, key)``; ``key.text`` is what systems outside take as an
        idempotence key. It is the same in every repetition, also after a restart from a checkpoint.
    idempotent: the function promises that the same key twice has the effect of once; it must take it.

    See :class:`CallbackSink` for the rest. Raises OptionError if the function cannot be called so.
    """
    kind = IdempotentCallbackSink if idempotent else CallbackSink
    return kind(function, name=name, concurrency_max=concurrency_max)
