"""PySpark's API of RDDs and discretized streams over this engine: programs run unchanged, without a JVM.

Importing the package loads nothing: names are imported from their module at first use, so that a
worker which needs one class does not load the whole layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exports import lazy_exports

if TYPE_CHECKING:
    from .accumulators import Accumulator as Accumulator
    from .accumulators import AccumulatorParam as AccumulatorParam
    from .broadcast import Broadcast as Broadcast
    from .conf import SparkConf as SparkConf
    from .context import SparkContext as SparkContext
    from .files import SparkFiles as SparkFiles
    from .rdd import RDD as RDD
    from .storagelevel import StorageLevel as StorageLevel
    from .taskcontext import TaskContext as TaskContext
    from .threads import InheritableThread as InheritableThread
    from .threads import inheritable_thread_target as inheritable_thread_target

__version__ = "4.3.0"

_MODULE_OF = {
    "Accumulator": "accumulators",
    "AccumulatorParam": "accumulators",
    "Broadcast": "broadcast",
    "InheritableThread": "threads",
    "RDD": "rdd",
    "SparkConf": "conf",
    "SparkContext": "context",
    "SparkFiles": "files",
    "StorageLevel": "storagelevel",
    "TaskContext": "taskcontext",
    "inheritable_thread_target": "threads",
}

__all__ = sorted([*_MODULE_OF, "__version__"])
__getattr__, __dir__ = lazy_exports(globals(), _MODULE_OF)
