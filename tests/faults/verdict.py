"""Feed ``crash_app.py``, and judge what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiostream_engine.sinks.files import read_committed
from tests.faults.crash_app import KEYS, WINDOW_S

APP = Path(__file__).with_name("crash_app.py")
ROOT = Path(__file__).parents[2]


@dataclass
class Verdict:
    """What is wrong; all zero and empty when nothing is."""

    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    wrong_sums: int = 0
    wrong_windows: int = 0
    letters_lost: int = 0
    letters_repeated: int = 0
    leftovers: list[str] = field(default_factory=list)


class Feeder:
    """Writes numbered records for the app, and keeps count."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.numbers = self.files = self.letters = 0
        for name in ("in", "mail", "acknowledged", "out"):
            (base / name).mkdir(parents=True, exist_ok=True)

    def feed(self, files: int, records: int = 10) -> None:
        """Add files of numbers, and a letter with each."""
        for _ in range(files):
            lines = "".join(f"{number}\n" for number in range(self.numbers, self.numbers + records))
            self._appear(self.base / "in" / f"file-{self.files:06d}", lines)
            self._appear(self.base / "mail" / f"letter-{self.letters:06d}", f"letter {self.letters}")
            self.numbers += records
            self.files += 1
            self.letters += 1

    def _appear(self, path: Path, text: str) -> None:
        temporary = self.base / "being-written"
        temporary.write_text(text)
        os.rename(temporary, path)

    @contextmanager
    def start(self, master: str, environment: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
        """A driver, in a process of its own; one that is still there at the end is killed."""
        with subprocess.Popen(
            [sys.executable, str(APP), str(self.base), master],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    # -- judging -------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """Compare the output with what was fed."""
        verdict = Verdict()
        for sink in ("keyed", "staged"):
            self._judge_records(verdict, self._batches(sink))
        self._judge_windows(verdict)
        self._judge_letters(verdict)
        staged = self.base / "out" / "staged" / ".staged"
        verdict.leftovers = [name for name in os.listdir(staged) if name != "LOCK"]
        verdict.leftovers += [name for name in os.listdir(self.base / "cp") if name.endswith(".tmp")]
        return verdict

    def _batches(self, sink: str) -> dict[int, list[Any]]:
        """The records of each batch, by label, in order."""
        batches: dict[int, list[Any]] = defaultdict(list)
        directory = self.base / "out" / sink
        seen = set()
        for path in read_committed(directory):
            seen.add(path.name)
            with open(path) as lines:
                batches[int(path.name.split("-")[1])] += [json.loads(line) for line in lines]
        visible = {name for name in os.listdir(directory) if name.startswith("part-")}
        assert visible == seen, f"{sink}: files without a manifest: {sorted(visible - seen)[:5]}"
        return batches

    def _judge_records(self, verdict: Verdict, batches: dict[int, list[Any]]) -> None:
        counts: Counter[int] = Counter()
        sums: Counter[str] = Counter()
        last: dict[str, int] = {}
        for label in sorted(batches):
            for key, value, total in batches[label]:
                counts[value] += 1
                sums[key] += value
                verdict.out_of_order += value < last.get(key, -1)
                last[key] = value
                verdict.wrong_sums += total != sums[key]
        verdict.lost += len(set(range(self.numbers)) - counts.keys())
        verdict.doubled += sum(count - 1 for count in counts.values())

    def _judge_windows(self, verdict: Verdict) -> None:
        batches, length = self._batches("keyed"), round(WINDOW_S * 1000)
        totals, counts = self._batches("totals"), self._batches("counts")
        for label, pairs in totals.items():
            window = [record for at in batches if label - length < at <= label for record in batches[at]]
            expected: Counter[str] = Counter()
            for key, value, _ in window:
                expected[key] += value
            found = dict(pairs)
            verdict.wrong_windows += any(
                found.get(key, 0) != expected[key] for key in [f"key {n}" for n in range(KEYS)]
            )
            if label in counts:
                verdict.wrong_windows += counts[label] != [len(window)]

    def _judge_letters(self, verdict: Verdict) -> None:
        found = Counter(letter for letters in self._batches("letters").values() for letter in letters)
        verdict.letters_lost = sum(not found[f"letter {number}"] for number in range(self.letters))
        verdict.letters_repeated = sum(count - 1 for count in found.values())
