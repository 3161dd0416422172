"""Output operations of a DStream, and looking back at its batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ....types import BatchTime
from .. import stream_kernels as kernels
from .arity import datetime_of, with_time
from .util import rddToFileName

if TYPE_CHECKING:
    from ....dstream import DStream as EngineStream
    from ....runtime.machine import Batch
    from ..context import SparkContext
    from ..rdd import RDD
    from .context import StreamingContext

__all__ = ["Outputs"]

_RULE = "-" * 43


class Outputs:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.streaming.dstream.DStream`."""

    if TYPE_CHECKING:
        _stream: EngineStream[Any]
        _ssc: StreamingContext
        _sc: SparkContext

    def foreachRDD(self, func: Callable[..., Any]) -> None:
        """``func(rdd)`` or ``func(time, rdd)`` for each batch, in this process; as PySpark.

        Called in one thread of its own, batch after batch, and may run actions. What it raises reaches
        ``awaitTermination``; the other outputs and the next batches go on, unless the context came from
        ``getOrCreate``: then the stream stops, so that the batch runs again after a restart.

        Differs: what ``func`` returns is let go, where PySpark fails on anything that is true; a function of
        another number of arguments is refused at once, where PySpark fails in each batch.
        """
        call = with_time(func, 1, "func should take one or two arguments")
        self._output("foreachRDD", lambda time_ms, rdd: call(datetime_of(time_ms), rdd))

    def pprint(self, num: int = 10) -> None:
        """Print the batch time and its first ``num`` records, then ``...`` if there are more; as PySpark."""

        def print_first(time_ms: int, rdd: RDD[Any]) -> None:
            taken = rdd.take(num + 1)
            lines = [_RULE, f"Time: {datetime_of(time_ms)}", _RULE, *map(str, taken[:num])]
            if len(taken) > num:
                lines.append("...")
            sys.stdout.write("\n".join(lines) + "\n\n")

        self._output("pprint", print_first)

    def saveAsTextFiles(self, prefix: str, suffix: str | None = None) -> None:
        """A directory ``prefix-<epoch ms>[.suffix]`` for each batch, also an empty one; as PySpark.

        Differs: a batch that runs again after a restart writes its directory anew.
        """

        def save(time_ms: int, rdd: RDD[Any]) -> None:
            path = rddToFileName(prefix, suffix, time_ms).removeprefix("file://").removeprefix("file:")
            self._sc._run(rdd.map(kernels.as_text)._core.save_as_text_file(path, overwrite=True))

        self._output(f"saveAsTextFiles({prefix})", save)

    def _output(self, name: str, call: Callable[[int, RDD[Any]], Any]) -> None:
        ssc, wrap = self._ssc, self._sc._rdd

        async def run(rdd: Any, batch: Batch) -> None:
            await ssc._generation.complete(batch)
            await ssc._call_output(lambda: call(int(batch.time), wrap(rdd)))

        ssc._add_output(self._stream, name, run)

    def slice(self, begin: datetime | float, end: datetime | float) -> list[RDD[Any]]:
        """The RDDs of the batches from ``begin`` to ``end``, both included; as PySpark.

        Times are datetimes, naive ones in local time, or epoch seconds; those between two batches mean
        the one before. Differs: only what ``StreamingContext.remember`` kept is found, nothing is
        computed for times that were not asked for then.
        """
        first, last = (self._floor(_epoch_ms(time)) for time in (begin, end))
        found: list[tuple[BatchTime, Any]] = self._ssc._remembered(self._stream, first, last)
        return [self._sc._rdd(rdd) for _, rdd in found]

    def _floor(self, time_ms: int) -> int:
        slide, zero = self._stream.node.slide_ms, self._ssc._zero_ms
        return zero + (time_ms - zero) // slide * slide


def _epoch_ms(moment: datetime | float) -> int:
    if isinstance(moment, datetime):
        return int(time.mktime(moment.timetuple()) * 1000)
    return int(moment * 1000)
