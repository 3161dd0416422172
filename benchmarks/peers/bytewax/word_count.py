"""Word count over files on Bytewax, one worker, generous source batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import TestingSink, run_main
from common.feeding import round_metrics
from common.program import digest_counts, package_version, parameters, report, stopwatch

given = parameters()


class FileLines(StatefulSourcePartition[str, int]):
    """The lines of one file, ``batch`` at a time."""

    def __init__(self, path: str, batch: int) -> None:
        self._file = open(path, encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._batch = batch

    def next_batch(self) -> list[str]:
        lines = [line for _, line in zip(range(self._batch), self._file, strict=False)]
        if not lines:
            raise StopIteration
        return lines

    def snapshot(self) -> int:
        return 0

    def close(self) -> None:
        self._file.close()


class Files(FixedPartitionedSource[str, int]):
    def list_parts(self) -> list[str]:
        return list(given["files"])

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> FileLines:
        return FileLines(for_part, given["source_batch"])


def dataflow(out: list[tuple[str, int]]) -> Dataflow:
    flow = Dataflow("word_count")
    lines = op.input("lines", flow, Files())
    words = op.flat_map("words", lines, lambda line: line.split())
    ones = op.map("ones", words, lambda word: (word, 1))
    counts = op.reduce_final("count", ones, _add)
    op.output("out", counts, TestingSink(out))
    return flow


_add: Callable[[Any, Any], Any] = lambda a, b: a + b  # noqa: E731 (user lambdas are what is measured)


def main() -> None:
    out: list[tuple[str, int]] = []
    flow = dataflow(out)
    started = stopwatch()
    run_main(flow)
    seconds = stopwatch() - started
    report(
        answer=digest_counts(dict(out)),
        version=package_version("bytewax"),
        metrics=round_metrics(given["words"], [(seconds, seconds)]),
    )


main()
