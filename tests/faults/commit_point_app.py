"""A stream whose sink decides which batches are true: ``commit_point_app.py DIRECTORY FILES``.

The sink is one JSON file, replaced as a whole: what it holds is the output and the mark together.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from aiostream_engine.config import CheckpointConfig
from aiostream_engine.context import StreamingContext
from aiostream_engine.durable.crash import crash_point
from aiostream_engine.sinks.base import BatchCommit, BatchMark, CommitPointSink, WriteKey
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink


class OneFile(CommitPointSink):
    """Appends records to a file by replacing it."""

    def __init__(self, path: Path) -> None:
        self.name = "one file"
        self.commit_point = f"file {path.name}"
        self._path = path
        self._staged: dict[int, list] = {}

    def read(self) -> dict:
        return json.loads(self._path.read_text()) if self._path.exists() else {"mark": [0, 0], "records": []}

    async def stage(self, key: WriteKey, records):
        found = [record async for chunk in records for record in chunk]
        self._staged.setdefault(key.batch_id, []).extend(found)
        return {"records": len(found)}

    async def commit_batch(self, commit: BatchCommit, tokens):
        content = self.read()
        content["records"] += self._staged.pop(commit.batch_id)
        content["mark"] = list(commit.mark)
        crash_point("mid_transaction")
        self._write(content)

    def _write(self, content: dict) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(content))
        os.replace(temporary, self._path)

    async def committed(self):
        if not self._path.exists():
            return None
        return BatchMark(*self.read()["mark"])

    async def begin(self, mark):
        self._write({"mark": list(mark), "records": []})

    async def abort(self, batch_id, tokens):
        self._staged.pop(batch_id, None)


def summed(key, value, state):
    state.update(state.get(0) + 1)
    return [key, value, state.get()]


async def main(directory: str, files: str) -> None:
    base = Path(directory)
    config = CheckpointConfig(f"{directory}/cp", key=b"a key for tests", segment_bytes=6000)
    async with StreamingContext(0.02, "local", checkpoint=config) as ssc:
        numbers = ssc.text_file_stream(str(base / "in"), name="numbers", new_files_only=False)
        counts = numbers.map(lambda text: (int(text) % 5, int(text))).map_with_state(summed, name="counts")
        counts.to(OneFile(base / "out.json"), name="out")
        counts.to(TwoPhaseFileSink(base / "files", durable=False), name="files")
        await ssc.start()
        async with asyncio.timeout(40):
            while len(json.loads((base / "out.json").read_text())["records"]) < int(files) * 10:
                await asyncio.sleep(0.01)
        await ssc.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
