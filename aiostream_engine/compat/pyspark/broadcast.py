"""Broadcast: a read-only value that each worker loads once."""

from __future__ import annotations

import pickle
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar, cast

from .errors import PySparkRuntimeError, SparkRuntimeException

if TYPE_CHECKING:
    from .context import SparkContext

__all__ = ["Broadcast"]

T = TypeVar("T")


class Broadcast(Generic[T]):
    """A broadcast value; made by :meth:`SparkContext.broadcast`; as PySpark."""

    def __init__(self, sc: SparkContext | None = None, value: T | None = None, *, shared: Any = None) -> None:
        self._sc = sc
        self._shared = shared if sc is None else sc._on_loop(lambda: sc._engine.broadcast(value))
        self._destroyed = False

    @property
    def value(self) -> T:
        """The value, in the driver or in a task; as PySpark."""
        self._check()
        return cast("T", self._shared.value)

    def unpersist(self, blocking: bool = False) -> None:
        """Drop the workers' copies; they are loaded again when used.

        Differs: ``blocking`` has no effect.
        """
        self._check_driver("unpersisted")
        self._check()
        self._call(self._shared.unpersist)

    def destroy(self, blocking: bool = False) -> None:
        """Drop the value everywhere.

        Differs: ``blocking`` has no effect; the driver's value is gone as well.
        """
        self._check_driver("destroyed")
        if not self._destroyed:
            self._call(self._shared.destroy)
            self._destroyed = True

    def dump(self, value: T, f: IO[bytes]) -> None:
        """Pickle ``value`` to a file and close it; as PySpark."""
        with f:
            pickle.dump(value, f, pickle.HIGHEST_PROTOCOL)

    def load(self, file: IO[bytes]) -> T:
        """Unpickle a value from a file that you trust; as PySpark."""
        return cast("T", pickle.load(file))

    def load_from_path(self, path: str) -> T:
        """:meth:`load` from the file at ``path``; as PySpark."""
        with open(path, "rb") as file:
            return self.load(file)

    def _check_driver(self, operation: str) -> None:
        if self._sc is None:
            raise PySparkRuntimeError(
                errorClass="INVALID_BROADCAST_OPERATION", messageParameters={"operation": operation}
            )

    def _call(self, function: Any) -> None:
        if self._sc is not None and self._sc._is_running:
            self._sc._on_loop(function)

    def _check(self) -> None:
        if self._destroyed:
            raise SparkRuntimeException(
                f"Attempted to use Broadcast({self._shared.id}) after it was destroyed"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        self._check()
        return _in_worker, (self._shared,)


def _in_worker(shared: Any) -> Broadcast[Any]:
    return Broadcast(shared=shared)
