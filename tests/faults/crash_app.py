"""A stream that is killed and started again; run as a program: ``crash_app.py DIRECTORY MASTER``.

    DIRECTORY/in/      files of numbers, each file a batch
    DIRECTORY/mail/    letters for a receiver, which moves them to ``acknowledged/``
    DIRECTORY/out/     what comes of it, a directory for each sink
    DIRECTORY/cp/      the checkpoint directory

With ``PADDING=bytes`` in its environment its sums carry so many bytes each, and lie on disk.
It ends when it has read everything that was there at its start.
"""

from __future__ import annotations

import asyncio
import operator
import os
import sys
from pathlib import Path

from aiostream_engine.config import KIB, CheckpointConfig, StateConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.sinks.files import JsonLinesFileSink
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink
from aiostream_engine.sources.custom import CustomReceiverSource, Receiver, ReceiverOutput
from aiostream_engine.sources.files import FileSource

INTERVAL_S = 0.02
WINDOW_S = 0.1
KEYS = 7
PADDING = int(os.environ.get("PADDING", "0"))


def running_sum(key, value, state):
    state.update(state.get(0) + value)
    return [key, value, state.get()]


def padded_sum(key, value, state):
    total = state.get((0, b""))[0] + value
    state.update((total, bytes(PADDING)))
    return [key, value, total]


class Mailbox(Receiver):
    """Reads letters and acknowledges each when the engine owns it."""

    def __init__(self, base: Path) -> None:
        self.mail, self.acknowledged = base / "mail", base / "acknowledged"

    async def run(self, output: ReceiverOutput) -> None:
        for name in sorted(os.listdir(self.mail)):
            await output.store_block([(self.mail / name).read_text()])
            os.rename(self.mail / name, self.acknowledged / name)
            await asyncio.sleep(INTERVAL_S / 4)


async def main(base: Path, master: str) -> None:
    config = CheckpointConfig(str(base / "cp"), key=b"a key for tests", segment_bytes=6000)
    state = StateConfig("disk", 64 * KIB) if PADDING else None
    async with StreamingContext(INTERVAL_S, master, checkpoint=config, state=state) as ssc:
        numbers = ssc.from_source(
            FileSource(base / "in", files_per_batch_max=1, follow=False, order="name", list_interval_s=0),
            name="numbers",
        )
        pairs = numbers.map(lambda line: (f"key {int(line) % KEYS}", int(line)))
        sums = pairs.map_with_state(padded_sum if PADDING else running_sum, name="sums")
        sums.to(JsonLinesFileSink(base / "out" / "keyed", durable=False), name="keyed")
        sums.to(TwoPhaseFileSink(base / "out" / "staged", durable=False), name="staged")
        totals = pairs.reduce_by_key_and_window(
            operator.add, operator.sub, WINDOW_S, INTERVAL_S, name="totals"
        )
        totals.to(JsonLinesFileSink(base / "out" / "totals", durable=False), name="totals")
        counts = pairs.window(WINDOW_S, INTERVAL_S, name="last pairs").count()
        counts.to(TwoPhaseFileSink(base / "out" / "counts", durable=False), name="counts")
        letters = ssc.from_source(CustomReceiverSource(Mailbox(base)), name="letters")
        letters.to(JsonLinesFileSink(base / "out" / "letters", durable=False), name="letters")
        print("started", flush=True)
        await ssc.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
