"""P14: what a checkpoint directory costs: throughput of P1, milliseconds a batch of P3 and P4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.data import zipf_words
from common.feeder import expected_counts
from common.program import digest_counts

LINES = [f"the quick brown fox {number} jumps over the lazy dog" for number in range(10)]
RATE = 1000


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    contenders = [
        *_pair("words", "P1 word count, local[2]", "engine/word_count.py", _words(options), None),
        *_pair("tiny", "P3 tiny batches, local[2]", "engine/tiny_batches.py", _tiny(options), 2),
        *_pair("ticks", "P4 10 ms ticks, local[2]", "engine/steady_ticks.py", _ticks(options), 2),
        Contender(
            "sync",
            "floor: append 1 kB and sync",
            "floors/disk_sync.py",
            kind="floor",
            parameters={"syncs": 50 if options.quick else 500},
            answer="none",
            on_disk=True,
        ),
    ]
    return contenders, None


def _pair(
    key: str, name: str, program: str, parameters: dict[str, Any], runs_max: int | None
) -> list[Contender]:
    return [
        Contender(
            f"{key}-{mode}",
            f"{name}, checkpoint {mode}",
            program,
            kind="engine",
            parameters={**parameters, "checkpoint": mode == "on"},
            runs_max=runs_max,
            answer=parameters["answer"],
            on_disk=True,
        )
        for mode in ("off", "on")
    ]


def _words(options: Options) -> dict[str, Any]:
    dataset = zipf_words(options.size(2_000_000, 100_000))
    files = [str(path) for path in dataset.files]
    return {
        "files": files,
        "words": dataset.facts["words"],
        "words_of_first_file": len(dataset.files[0].read_bytes().split()),
        "built_in": False,
        "interval_s": 1.0,
        "rounds": 2 if options.quick else 4,
        "master": "local[2]",
        "answer": dataset.facts["answer"],
    }


def _tiny(options: Options) -> dict[str, Any]:
    return {
        "lines": LINES,
        "warm_up": 20,
        "batches": 100 if options.quick else 400,
        "interval_s": 0.02,
        "master": "local[2]",
        "answer": digest_counts(Counter(" ".join(LINES).split())),
    }


def _ticks(options: Options) -> dict[str, Any]:
    events = RATE * (3 if options.quick else 10)
    return {
        "rate": RATE,
        "events": events,
        "interval_s": 0.01,
        "master": "local[2]",
        "answer": digest_counts(expected_counts(events)),
    }


BENCHMARK = Benchmark(
    "P14",
    "a checkpoint directory on disk, on and off",
    "P1 as there (its input is in memory, the directory on this disk). For the others the time of a batch "
    "from the end of its cut until it is true and published, p50: with a directory that holds two syncs. The "
    "floor says what the disk takes for one.",
    (
        Metric("words_per_s", "P1 steady", "words/s", more_is_better=True),
        Metric("processing_words_per_s", "P1 in processing", "words/s", more_is_better=True),
        Metric("true_ms", "batch until true p50", "ms"),
        Metric("p50_ms", "processing or age p50", "ms"),
        Metric("sync_ms", "append and sync p50", "ms"),
    ),
    (
        Target("P1 steady with the directory: share", "words-on", "words_per_s", 0.9, against="words-off"),
        Target(
            "P1 in processing with the directory: share",
            "words-on",
            "processing_words_per_s",
            0.9,
            against="words-off",
        ),
        Target("P3: ms more a batch", "tiny-on", "true_ms", 3.0, "tiny-off", at_least=False, difference=True),
        Target(
            "P4: ms more a batch", "ticks-on", "true_ms", 3.0, "ticks-off", at_least=False, difference=True
        ),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
