"""Pathway's word count harness at a tenth of its size: SIGKILL at random moments while words keep coming.

Standard library only: the controller of all contenders. The stream reads JSON lines ``{"word": …}`` from a
directory in which whole files appear, keeps a running count of each word, and writes rows ``word count``.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from .stream_process import StreamProcess

__all__ = ["LineFile", "Output", "measure", "rows_of", "words_of"]

DICTIONARY = 5_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
POLL_S = 0.02
DEADLINE_S = 60.0

Row = tuple[str, int]


class Output(Protocol):
    """Where a contender writes."""

    def new_rows(self) -> list[Row]:
        """What came since the last call."""

    def all_rows(self) -> list[Row]:
        """All that is there in the end."""


class LineFile:
    """A file of rows that a stream appends to, and may shorten when it goes on after a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new_rows(self) -> list[Row]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            self._read = min(self._read, self._path.stat().st_size)
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return rows_of(whole.decode())

    def all_rows(self) -> list[Row]:
        return rows_of(self._path.read_text())


def rows_of(text: str) -> list[Row]:
    """The rows of a text; a half one, which a kill left, is none."""
    parts = (line.split() for line in text.splitlines())
    return [(part[0], int(part[1])) for part in parts if len(part) == 2]


def words_of(lines: int) -> list[str]:
    """Words of seven letters out of 5 000, from seed 1."""
    source = random.Random(1)
    words = ["".join(source.choices(LETTERS, k=7)) for _ in range(DICTIONARY)]
    return source.choices(words, k=lines)


class _Feeder(threading.Thread):
    """Moves files into the directory at a steady rate, whatever happens to the stream.

    A few are kept back, so that something new comes after each kill however late that is.
    """

    def __init__(self, words: list[str], given: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._files = given["files"]
        self._seconds = given["feed_s"]
        self._into = Path(given["scratch"], "in")
        self._staged = Path(given["scratch"], "staged")
        self._staged.mkdir()
        share = -(-len(words) // self._files)
        for number in range(self._files):
            part = words[number * share : (number + 1) * share]
            text = "".join(f"{json.dumps({'word': word})}\n" for word in part)
            (self._staged / f"{number:06d}").write_text(text)
        self._left = sorted(self._staged.iterdir())
        self._moved = itertools.count()
        self._lock = threading.Lock()
        self._kept_back = given["kills"]

    def run(self) -> None:
        started = time.monotonic()
        for number in range(self._files - self._kept_back):
            time.sleep(max(0.0, started + number * self._seconds / self._files - time.monotonic()))
            self.move()

    def move(self) -> None:
        """Move one file in; their names are numbers without a gap."""
        with self._lock:
            self._left.pop().rename(self._into / f"{next(self._moved):06d}.jsonl")


def measure(given: dict[str, Any], output: Output) -> tuple[dict[str, float], str]:
    """Seconds from each kill to the first new count, and how many words were lost or counted twice."""
    words = words_of(given["lines"])
    expected = Counter(words)
    Path(given["scratch"], "in").mkdir()
    feeder, chance, counts = _Feeder(words, given), random.Random(given["seed"]), _Counts(output, expected)
    seconds: list[float] = []
    stream = StreamProcess(given)
    try:
        stream.wait_for("ready")
        feeder.start()
        for _ in range(given["kills"]):
            time.sleep(chance.uniform(*given["lives_s"]))
            killed_at = stream.kill()
            stream.sweep()
            counts.look()
            feeder.move()
            stream = StreamProcess(given)
            seconds.append(counts.wait_for_new(stream) - killed_at)
        feeder.join()
        counts.wait_for_all(stream)
    finally:
        stream.kill()
        stream.sweep()
    return _metrics(seconds, Counter(output.all_rows()), expected)


def _metrics(
    seconds: list[float], rows: Counter[Row], expected: Counter[str]
) -> tuple[dict[str, float], str]:
    counts: Counter[str] = Counter()
    for word, count in rows:
        counts[word] = max(count, counts[word])
    metrics = {
        "recovery_s": statistics.median(seconds),
        "recovery_max_s": max(seconds),
        "lost": (expected - counts).total(),
        "doubled": (counts - expected).total(),
        "repeated_rows": rows.total() - len(rows),
    }
    return metrics, "all counts right" if counts == expected else "counts are wrong"


class _Counts:
    """The highest count of each word that was written."""

    def __init__(self, output: Output, expected: Counter[str]) -> None:
        self._output = output
        self._expected = expected
        self._counts: Counter[str] = Counter()

    def look(self) -> bool:
        """True when some count is new, and right so far."""
        is_new = False
        for word, count in self._output.new_rows():
            if count > self._counts[word]:
                self._counts[word] = count
                is_new = is_new or count <= self._expected[word]
        return is_new

    def wait_for_new(self, stream: StreamProcess) -> float:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            stream.check()
            now = time.monotonic()
            if self.look():
                return now
            time.sleep(POLL_S)
        raise RuntimeError(f"no new count within {DEADLINE_S:g} s of a kill")

    def wait_for_all(self, stream: StreamProcess) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self._counts != self._expected and time.monotonic() < deadline:
            stream.check()
            self.look()
            time.sleep(POLL_S)
