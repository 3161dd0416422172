"""A running count of words on Bytewax that is killed at random moments, with its recovery store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.files import FileSink
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main
from common.kill_harness import LineFile, measure
from common.program import package_version, parameters, report
from common.stream_process import tell

given = parameters()
STORE = Path(given["disk"], "recovery")
OUT = Path(given["disk"], "out.txt")


class DirectoryLines(StatefulSourcePartition[str, int]):
    """One new file a batch, in the order of names; it remembers how many it has read."""

    def __init__(self, files_read: int) -> None:
        self._read = files_read
        self._awake: datetime | None = None

    def next_batch(self) -> list[str]:
        path = Path(given["scratch"], "in", f"{self._read:06d}.jsonl")
        if not path.exists():
            self._awake = datetime.now(UTC) + timedelta(seconds=0.01)
            return []
        self._awake = None
        self._read += 1
        return path.read_text().splitlines()

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        return self._read


class WatchedDirectory(FixedPartitionedSource[str, int]):
    def list_parts(self) -> list[str]:
        return ["in"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> DirectoryLines:
        return DirectoryLines(resume_state or 0)


def running_count(count: int | None, _: int) -> tuple[int, int]:
    count = (count or 0) + 1
    return count, count


def stream() -> None:
    flow = Dataflow("words")
    lines = op.input("lines", flow, WatchedDirectory())
    ones = op.map("ones", lines, lambda line: (json.loads(line)["word"], 1))
    counts = op.stateful_map("counts", ones, running_count)
    rows = op.map("rows", counts, lambda pair: (pair[0], f"{pair[0]} {pair[1]}"))
    op.output("out", rows, FileSink(OUT))
    if not STORE.exists():
        STORE.mkdir()
        init_db_dir(STORE, 1)
    tell("ready")
    cluster_main(
        flow,
        [],
        0,
        epoch_interval=timedelta(seconds=given["interval_s"]),
        recovery_config=RecoveryConfig(str(STORE)),
    )


if given.get("role") == "stream":
    stream()
else:
    metrics, answer = measure(given, LineFile(OUT))
    report(answer=answer, version=package_version("bytewax"), metrics=metrics)
