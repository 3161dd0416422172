"""aiostream_engine: discretized streams, native to asyncio.

Importing the package loads nothing but this table: each public name is imported from its
room at first use (PEP 562), so that worker processes and light scripts pay only for what
they touch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exports import lazy_exports

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .config import BackpressureConfig as BackpressureConfig
    from .config import CheckpointConfig as CheckpointConfig
    from .config import CircuitBreakerConfig as CircuitBreakerConfig
    from .config import PoolConfig as PoolConfig
    from .config import QueueLimits as QueueLimits
    from .config import RetryPolicy as RetryPolicy
    from .config import SchedulerConfig as SchedulerConfig
    from .config import StateConfig as StateConfig
    from .context import StreamingContext as StreamingContext
    from .dstream import DStream as DStream
    from .engine import EngineContext as EngineContext
    from .errors import AiostreamError as AiostreamError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import StepError as StepError
    from .errors import UnpicklableError as UnpicklableError
    from .rdd import RDD as RDD
    from .state.handle import State as State
    from .types import BatchTime as BatchTime
    from .types import ContextState as ContextState
    from .types import DeadLetter as DeadLetter
    from .types import Guarantee as Guarantee
    from .types import OnError as OnError
    from .types import StorageLevel as StorageLevel

_ROOM_OF = {
    "AiostreamError": "errors",
    "BackpressureConfig": "config",
    "BatchTime": "types",
    "CheckpointConfig": "config",
    "CircuitBreakerConfig": "config",
    "ConfigurationError": "errors",
    "ContextState": "types",
    "DStream": "dstream",
    "DeadLetter": "types",
    "EngineContext": "engine",
    "Guarantee": "types",
    "OnError": "types",
    "PoolConfig": "config",
    "QueueLimits": "config",
    "RDD": "rdd",
    "RetryPolicy": "config",
    "SchedulerConfig": "config",
    "State": "state.handle",
    "StateConfig": "config",
    "StepError": "errors",
    "StorageLevel": "types",
    "StreamingContext": "context",
    "UnpicklableError": "errors",
}

__all__ = sorted(_ROOM_OF)
__getattr__, __dir__ = lazy_exports(globals(), _ROOM_OF)
