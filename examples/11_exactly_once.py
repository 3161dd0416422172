"""Kill a stream with SIGKILL, again and again, while it counts; then look what is missing.

    python examples/11_exactly_once.py              # 8 kills, about 20 seconds
    python examples/11_exactly_once.py --kills 100  # as many as you like

You see a line for each kill, with what had been committed by then. At the end every number that was
written is in the output once, and the sums in the state are those of all numbers: lost 0, doubled 0.

`build` is the stream. The rest starts it as you would, with `python -m aiostream_engine run
11_exactly_once.py:build --checkpoint DIRECTORY`, and kills it at random moments: while it starts,
recovers, reads, computes, commits or publishes. Files of numbers keep coming meanwhile. Three things
make the promise: a source that can be read again (a directory), a checkpoint directory, and a sink
that shows whole batches once.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiostream_engine as ase
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink, read_committed

NUMBERS_PER_FILE = 50
KEYS = 7
DEADLINE_S = 60


def key_of(number: int) -> tuple[int, int]:
    return number % KEYS, number


def add(key: int, number: int, total: ase.State[int]) -> tuple[int, int, int]:
    total.update(total.get(0) + number)
    return number, key, total.get()


def build(ssc: ase.StreamingContext, arguments: list[str]) -> None:
    directory = Path(arguments[0])
    numbers = ssc.text_file_stream(str(directory / "in"), name="numbers").map(int)
    sums = numbers.map(key_of).map_with_state(add, name="sums")  # steps with a state need a name
    sums.to(TwoPhaseFileSink(directory / "out"), name="out")


def start(directory: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "aiostream_engine", "run", f"{Path(__file__).resolve()}:build"]
    command += ["--checkpoint", str(directory / "checkpoint"), "--interval", "0.1", "--master", "local[2]"]
    command += ["--log-level", "warning", "--", str(directory)]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


@contextmanager
def numbers_written(directory: Path) -> Iterator[list[int]]:
    """Write files of numbers meanwhile; the list has one item, how many numbers there are."""
    written, over = [0], threading.Event()

    def write() -> None:
        while not over.wait(0.05):
            numbers = range(written[0], written[0] + NUMBERS_PER_FILE)
            unfinished = directory / "unfinished"
            unfinished.write_text("".join(f"{number}\n" for number in numbers))
            unfinished.rename(directory / "in" / f"{numbers.start:09d}.txt")
            written[0] = numbers.stop

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield written
    finally:
        over.set()
        writer.join()


def committed(directory: Path) -> list[tuple[int, int, int]]:
    return [json.loads(line) for path in read_committed(directory) for line in path.read_text().splitlines()]


def kill_at_random(directory: Path, kills: int, log: Path) -> int:
    """Start and kill the stream ``kills`` times while numbers come; gives how many came."""
    with numbers_written(directory) as written:
        for kill in range(1, kills + 1):
            stream = start(directory, log)
            time.sleep(random.uniform(0.5, 2.5))
            if stream.poll() is not None:
                sys.exit(f"the stream ended by itself:\n{log.read_text()}")
            stream.kill()
            stream.wait()
            print(f"kill {kill}: {len(committed(directory / 'out'))} of {written[0]} numbers were committed")
    return written[0]


def finish(directory: Path, written: int, log: Path) -> None:
    """Run the stream until everything is committed, then stop it as one should."""
    stream = start(directory, log)
    deadline = time.monotonic() + DEADLINE_S
    while len(committed(directory / "out")) < written and time.monotonic() < deadline:
        time.sleep(0.1)
    stream.terminate()
    if stream.wait(DEADLINE_S) != 0:
        sys.exit(f"the stream did not stop well:\n{log.read_text()}")


def report(directory: Path, written: int) -> None:
    results = committed(directory / "out")
    seen = {number for number, _, _ in results}
    sums = {key: max(total for _, other, total in results if other == key) for key in range(KEYS)}
    expected = {key: sum(range(key, written, KEYS)) for key in range(KEYS)}
    print(f"{written} numbers: lost {written - len(seen)}, doubled {len(results) - len(seen)}")
    print("the sums in the state are", "right" if sums == expected else f"WRONG: {sums}, not {expected}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=8)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as name:
        directory, log = Path(name), Path(name, "log")
        (directory / "in").mkdir()
        written = kill_at_random(directory, kills, log)
        finish(directory, written, log)
        report(directory, written)


if __name__ == "__main__":
    main()
