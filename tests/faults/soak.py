"""Kill a stream at random for some minutes, and judge what came of it at the end.

    python tests/faults/soak.py --minutes 10 --master 'local[2]' --seed 7

The seed chooses how long each driver lives and what is fed to it; what it is doing when it dies is
up to the machine.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.verdict import Feeder, Verdict

RECORDS_PER_FILE = 50


@dataclass
class Soak:
    """Figures of a soak. idle_lives: drivers that lived long enough and committed nothing."""

    kills: int = 0
    records: int = 0
    letters: int = 0
    idle_lives: int = 0
    seconds: float = 0.0


def soak(base: Path, minutes: float, *, master: str = "local", seed: int = 0) -> tuple[Soak, Verdict]:
    """Feed and kill for ``minutes``, then let the last driver finish; TimeoutExpired when it does not."""
    choice, feeder, figures = random.Random(seed), Feeder(base), Soak()
    began = time.monotonic()
    while time.monotonic() - began < minutes * 60:
        feeder.feed(choice.randint(1, 12), RECORDS_PER_FILE)
        before = _progress(base)
        with feeder.start(master) as driver:
            assert driver.stdout is not None
            driver.stdout.readline()
            life_s = choice.choice([0.0, 0.02, 0.1, 0.3, 1.0, 2.0]) * choice.random()
            _feed_for(life_s, feeder, choice, driver)
            ended = driver.poll() is not None
            driver.kill()
        figures.kills += not ended
        figures.idle_lives += life_s > 1.0 and _progress(base) == before
    with feeder.start(master) as driver:
        output, _ = driver.communicate(timeout=max(300, minutes * 60))
    assert driver.returncode == 0, output
    figures.records, figures.letters = feeder.numbers, feeder.letters
    figures.seconds = time.monotonic() - began
    return figures, feeder.verdict()


def _feed_for(seconds: float, feeder: Feeder, choice: random.Random, driver: subprocess.Popen[str]) -> None:
    """Add more while the driver runs; it may end by itself when it has all that was there at its start."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and driver.poll() is None:
        feeder.feed(choice.randint(0, 2), RECORDS_PER_FILE)
        time.sleep(min(left, 0.05))


def _progress(base: Path) -> int:
    manifests = base / "out" / "keyed" / "_batches"
    return len(list(manifests.iterdir())) if manifests.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--master", default="local")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures, verdict = soak(Path(directory), options.minutes, master=options.master, seed=options.seed)
    print(figures)
    print(verdict)
    repeated, verdict.letters_repeated = verdict.letters_repeated, 0
    sys.exit(verdict != Verdict() or repeated > figures.kills or figures.idle_lives > 0)


if __name__ == "__main__":
    main()
