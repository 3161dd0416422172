"""Refuses to start an executor inside of a worker process: a pool in a pool multiplies without end."""

from __future__ import annotations

import os

from ..errors import LifecycleError

__all__ = ["WORKER_VARIABLE", "refuse_inside_worker"]

# An environment variable, not a module flag: processes that a step starts inherit it.
WORKER_VARIABLE = "AIOSTREAM_ENGINE_WORKER"


def refuse_inside_worker(what: str) -> None:
    """Raise LifecycleError when this process is a worker of the engine, or was started by one."""
    if WORKER_VARIABLE in os.environ:
        raise LifecycleError(
            f"{what} cannot be started inside of a worker process: a step runs already on the engine's "
            "cores. Express the work as operators of the outer RDD or stream, or, for a separate "
            f"program that a step launches, remove {WORKER_VARIABLE} from its environment"
        )
