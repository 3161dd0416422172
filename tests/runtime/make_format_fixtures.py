"""Write the checkpoint directories that later versions must be able to open.

    python -m tests.runtime.make_format_fixtures

Run once for each format, by the version that introduced it; what it wrote is kept in ``fixtures/``
and never written again.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aiostream_engine.config import CheckpointConfig
from aiostream_engine.durable.checkpoint_directory import FORMAT_VERSION
from aiostream_engine.runtime import commit
from aiostream_engine.runtime.checkpointing import CheckpointSession
from aiostream_engine.runtime.records import KeptBlock, Position
from aiostream_engine.types import BlockRef
from tests.faults.world import KEY, Crash, World, script
from tests.runtime.test_checkpoint import batch, change, pickled

FIXTURES = Path(__file__).with_name("fixtures")
BATCHES = 8


async def write_stream(directory: Path) -> None:
    """The standard program, with batch 5 begun and not committed."""
    left = [5]

    def point(name: str) -> None:
        left[0] -= name == "before_commit"
        if left[0] == 0:
            raise Crash(name)

    commit.crash_point = point
    world = World(str(directory), script(BATCHES), config={"segment_bytes": 3000})
    assert isinstance(await world.run(), Crash)


async def write_records(directory: Path) -> None:
    """A record of each kind, in each of its forms."""
    session = await CheckpointSession.open(CheckpointConfig(str(directory), key=KEY))
    writer, content = session.writer, {"zero_ms": 0, "interval_ms": 1000, "fired": {"totals": 1000}}
    await writer.opened(0, 1000)
    await writer.log_blocks("mail", [first := pickled("first letter")])
    await writer.intent(batch(1, first, pickled("not logged"), input=Position({"at": 1}, False)))
    file = BlockRef("file-lines", None, "/data/lines", 10, 20, -1, ("utf-8", "strict", None))
    kept = [KeptBlock(("a", "b"), 0, 2, 2, first), KeptBlock(("c",), 1, 2, None, pickled("kept"))]
    states = [change(1, first=True, partitions=2, a=1), change(1, first=True, partitions=2, partition=1)]
    await writer.commit(
        1,
        1000,
        states,
        kept,
        {**content, "horizons": {"a": 0, "b": 0, "c": 0}, "tokens": {"sink": [["t", 1]]}},
    )
    await writer.intent(batch(2, file, input=Position({"add": 2}, True)))
    await writer.log_blocks("mail", [pickled("second letter")])
    await session.aclose()


async def main() -> None:
    for name, write in [("stream", write_stream), ("records", write_records)]:
        target = FIXTURES / f"format-{FORMAT_VERSION}-{name}"
        shutil.rmtree(target, ignore_errors=True)
        await write(target)


if __name__ == "__main__":
    asyncio.run(main())
