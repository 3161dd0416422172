"""Jobs over some of the partitions of an RDD."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ...operators.structure import ToBlocks
from ...rdd import RDD
from ...rdd_actions import _read

__all__ = ["collect_partitions", "iterate_partitions"]


async def collect_partitions(rdd: RDD[Any], indices: Sequence[int]) -> list[Any]:
    """The records of the partitions ``indices``, in this order."""
    async with rdd.context.runner.job(rdd.context.current_batch) as job:
        execution = await job.execution(rdd.node, ToBlocks())
        results = await execution.run(list(indices))
        return await _read([ref for result in results for ref in result.outputs])


async def iterate_partitions(rdd: RDD[Any]) -> AsyncGenerator[list[Any], None]:
    """The records of one partition after the other, each computed when it is asked for."""
    async with rdd.context.runner.job(rdd.context.current_batch) as job:
        execution = await job.execution(rdd.node, ToBlocks())
        await execution.run([])
        held = job.blocks_owned
        for index in range(execution.partitions):
            (result,) = await execution.run([index])
            yield await _read(list(result.outputs))
            job.release(since=held)
