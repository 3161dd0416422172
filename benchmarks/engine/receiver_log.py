"""The log of receivers: blocks in shared memory, each durable before its receiver goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from typing import Any

from common.blocks import block_bytes
from common.program import package_version, parameters, report, stopwatch

from aiostream_engine.blocks.storage import BlockWriter, read_bytes
from aiostream_engine.config import CheckpointConfig
from aiostream_engine.durable.seal import Seal
from aiostream_engine.runtime.checkpoint import CheckpointWriter
from aiostream_engine.runtime.checkpointing import CheckpointSession
from aiostream_engine.runtime.recovery import recover
from aiostream_engine.types import INLINE_BYTES_MAX, BlockRef

given = parameters()
KEY = b"a key for benchmarks"


def blocks(directory: str) -> list[BlockRef]:
    """As receivers cut them: small ones ride inside of their reference, others are files."""
    writer = BlockWriter(directory, directory, "block")
    refs = []
    for number in range(given["blocks"]):
        data = block_bytes(number, given["bytes"])
        if len(data) <= INLINE_BYTES_MAX:
            refs.append(BlockRef("lines", data, "", 0, len(data), 1))
        else:
            path, (offset,) = writer.write([data])
            refs.append(BlockRef("lines", None, path, offset, len(data), 1))
    return refs


async def log(writer: CheckpointWriter, refs: list[BlockRef]) -> float:
    """Seconds until all are durable, ``receivers`` of them at once."""
    share = [refs[number :: given["receivers"]] for number in range(given["receivers"])]
    started = stopwatch()
    await asyncio.gather(*(_receive(writer, f"receiver {n}", own) for n, own in enumerate(share)))
    return stopwatch() - started


async def _receive(writer: CheckpointWriter, stream: str, refs: list[BlockRef]) -> None:
    for ref in refs:
        await writer.log_blocks(stream, [ref])


def recovered_digest(directory: str) -> str:
    """Of all blocks that the directory gives back."""
    found: list[Any] = recover(os.path.join(directory, "journal"), Seal(KEY)).leftovers.values()
    return digest_of(bytes(read_bytes(ref)) for refs in found for ref in refs)


def digest_of(datas: Any) -> str:
    """The same whatever the order is."""
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(data).digest() for data in datas))).hexdigest()


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=given["scratch"]) as memory:
        refs = blocks(memory)
        session = await CheckpointSession.open(CheckpointConfig(given["disk"] + "/checkpoint", key=KEY))
        await session.writer.opened(0, 1000)
        await session.writer.log_blocks("warm-up", refs[:1])
        used, seconds = os.times(), await log(session.writer, refs)
        processor_s = sum(os.times()[:2]) - sum(used[:2])
        syncs = session.writer.statistics.syncs
        await session.aclose()
    expected = digest_of(block_bytes(number, given["bytes"]) for number in [0, *range(given["blocks"])])
    size = given["blocks"] * given["bytes"]
    report(
        answer="all there"
        if recovered_digest(given["disk"] + "/checkpoint") == expected
        else "blocks are missing",
        version=package_version("aiostream-engine"),
        metrics={
            "bytes_per_s": size / seconds,
            "processor_s_per_gb": processor_s / size * 1e9,
            "blocks_per_sync": given["blocks"] / max(1, syncs - 2),
        },
    )


asyncio.run(main())
