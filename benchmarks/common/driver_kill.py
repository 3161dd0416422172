"""Kill the driver of a stream with a large keyed state, and wait for its first new batch.

Standard library only: the controller of all contenders. The stream reads lines ``k<number>`` from a directory
and tells ``imported``, ``ready`` and, for each batch that is true, ``counts`` of the keys ``k0`` … ``k9``.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from .stream_process import StreamProcess

__all__ = ["TOUCHED", "measure"]

TOUCHED = [f"k{number}" for number in range(10)]
BATCHES_BEFORE = 3


class _Input:
    """The watched directory; files move in whole."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._root = Path(given["scratch"])
        self._number = 0
        (self._root / "in").mkdir()

    def add(self, lines: list[str]) -> None:
        self._number += 1
        staged = self._root / "staged"
        staged.write_text("".join(f"{line}\n" for line in lines))
        staged.rename(self._root / "in" / f"{self._number:06d}.txt")


def measure(given: dict[str, Any]) -> tuple[dict[str, float], str]:
    """Seconds from the kill to the first new batch, medians over kills; and what the counts were.

    Raises RuntimeError when a count is too high, or does not come.
    """
    source = _Input(given)
    expected = 1
    totals: list[float] = []
    imports: list[float] = []
    stream = StreamProcess(given)
    try:
        stream.wait_for("ready")
        source.add([f"k{number}" for number in range(given["keys"])])
        _until_count(stream, expected)
        for _ in range(given["kills"]):
            for _ in range(BATCHES_BEFORE):
                source.add(TOUCHED)
                expected += 1
                _until_count(stream, expected)
            stream.wait_for("settled")
            killed_at = stream.kill()
            stream.sweep()
            source.add(TOUCHED)
            expected += 1
            stream = StreamProcess(given)
            imported_at, _ = stream.wait_for("imported")
            new_at = _until_count(stream, expected)
            totals.append(new_at - killed_at)
            imports.append(imported_at - killed_at)
    finally:
        stream.kill()
        stream.sweep()
    total_s, import_s = statistics.median(totals), statistics.median(imports)
    metrics = {"total_s": total_s, "import_s": import_s, "recovery_s": total_s - import_s}
    return metrics, "all counts right"


def _until_count(stream: StreamProcess, expected: int) -> float:
    """When all touched keys had the expected count; a higher one is an error at once."""
    while True:
        at, counts = stream.wait_for("counts")
        values = set(counts.values())
        if values == {expected} and len(counts) == len(TOUCHED):
            return at
        if any(value > expected for value in values):
            raise RuntimeError(f"counts {counts}, expected {expected}: something was counted twice")
