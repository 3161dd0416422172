"""P18: word count killed at random moments (W9): how long to the first new count, what is lost or doubled?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    common = {
        "lines": options.size(500_000, 20_000),
        "files": 100 if options.quick else 200,
        "feed_s": 6.0 if options.quick else 20.0,
        "kills": 2 if options.quick else 5,
        "lives_s": [0.075, 1.9],  # Pathway's 0.75 to 19 s at a tenth
        "seed": 1,
        "interval_s": 0.1,
        "master": "local[2]",
    }
    return [
        Contender(
            "engine",
            "aiostream_engine, local[2]",
            "engine/kill_harness.py",
            kind="engine",
            parameters=common,
            runs_max=1,
            on_disk=True,
        ),
        Contender(
            "bytewax",
            "Bytewax, one worker, recovery store",
            "peers/bytewax/kill_harness.py",
            "bytewax",
            parameters=common,
            runs_max=1,
            on_disk=True,
        ),
        Contender(
            "pathway",
            "Pathway, 2 threads, input persistence",
            "peers/pathway/kill_harness.py",
            "pathway",
            parameters=common,
            runs_max=1,
            on_disk=True,
        ),
    ], "all counts right"


BENCHMARK = Benchmark(
    "P18",
    "W9: word count, SIGKILL at random moments",
    "from each kill, the process being started again at once, until a count that is new and right is "
    "written (of the engine: in a committed batch). Import is in it. 500 000 JSON lines of 5 000 words come "
    "as 200 files in 20 s whatever happens; all write what they need for recovery each 100 ms on this disk. "
    "Lost and doubled are words, from the highest count of each; repeated rows were written again by a "
    "stream that went on. Of Bytewax, rows were seen that it takes back at the restart. It writes a row for "
    "each word, the others one for each word and batch.",
    (
        Metric("recovery_s", "first new count, median", "s"),
        Metric("recovery_max_s", "slowest", "s"),
        Metric("lost", "lost", "words"),
        Metric("doubled", "doubled", "words"),
        Metric("repeated_rows", "repeated rows", "rows"),
    ),
    (
        Target("lost", "engine", "lost", 0, at_least=False),
        Target("doubled", "engine", "doubled", 0, at_least=False),
        Target("repeated rows", "engine", "repeated_rows", 0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
