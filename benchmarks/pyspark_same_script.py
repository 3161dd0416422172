"""The same PySpark script under Spark and under this engine: which intervals hold, what a batch costs.

python benchmarks/pyspark_same_script.py [--quick] [--only words,state]
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.contender import BENCHMARKS, Contender, Outcome, interpreter_of, run_contender
from common.machine import describe_machine, machine_line
from common.record import Measurement, append_measurements
from common.statistics import summarize
from common.table import render_table

LINES = [f"the quick brown fox {number} jumps over the lazy dog" for number in range(10)]
SCRIPT = "same_script/stream.py"
UNITS = {"sustained": "yes/no", "share_of_ticks": "share", "first_batch_s": "s", "batches": "batches"}


@dataclass(frozen=True)
class Work:
    """One program at one interval; ``repeats`` of lines make a batch that takes long."""

    name: str
    label: str
    interval_s: float
    parameters: Mapping[str, Any]
    spark: bool = True


def works(quick: bool) -> Iterator[Work]:
    """From the easiest interval to the hardest; 10 ms for this engine alone."""
    seconds = 4.0 if quick else 7.0
    keys = 2_000 if quick else 20_000
    for interval_s in (0.5, 0.01) if quick else (1.0, 0.5, 0.1, 0.01):
        timed = {"seconds": seconds + 5 * interval_s, "batches": 100_000, "file": "", "lines": LINES}
        spark = interval_s > 0.01
        yield Work("words", "word count, 10 lines", interval_s, {**timed, "work": "words"}, spark)
        some = {**timed, "work": "state", "keys": keys, "touched": keys // 100}
        yield Work("state", f"state of {keys:,} keys, 1 % touched", interval_s, some, spark)
    large = {"seconds": 25.0, "batches": 2 if quick else 6, "lines": [], "work": "words"}
    repeats = 200 if quick else 20_000
    yield Work("words", f"word count, {10 * repeats:,} lines", 1.0, {**large, "repeats": repeats})


def contenders(work: Work, data: Path) -> Iterator[Contender]:
    given = {"interval_s": work.interval_s, "script": SCRIPT, **work.parameters}
    if "repeats" in given:
        file = data / "same-script.txt"
        file.write_text("".join(f"{line}\n" for line in LINES) * given.pop("repeats"))
        given["file"] = str(file)
    if work.spark:
        yield Contender("pyspark", "PySpark", SCRIPT, "pyspark", "peer", given)
    yield Contender("engine", "aiostream_engine", "engine/pyspark_layer.py", None, "engine", given)


def run(contender: Contender) -> Outcome:
    if interpreter_of(contender) is None:
        return Outcome(error="not installed (run benchmarks/setup); this is no result")
    started = {**contender.parameters, "started": time.time()}
    timed = Contender(
        contender.key, contender.name, contender.program, contender.peer, contender.kind, started
    )
    return run_contender(timed, 90.0)


def cells(work: Work, outcomes: Mapping[str, Outcome]) -> list[str]:
    """One row: for each engine whether it keeps up, what a batch costs, and when the first was there."""
    row = [work.label, f"{work.interval_s * 1000:g} ms"]
    for key in ("pyspark", "engine"):
        outcome = outcomes.get(key)
        if outcome is None or outcome.error:
            row += ["-" if outcome is None else "failed", "", ""]
            continue
        found = outcome.metrics
        row.append("yes" if found["sustained"] else f"no ({found['share_of_ticks']:.0%} of ticks)")
        row.append(f"{found['p50_ms']:.0f} / {found['p99_ms']:.0f}")
        row.append(f"{found['first_batch_s']:.1f}")
    both = [outcomes[key].metrics.get("p50_ms", 0.0) for key in ("pyspark", "engine") if key in outcomes]
    row.append(f"{both[0] / max(both[1], 0.5):.1f}" if len(both) == 2 and all(both) else "")
    return row


def measurements(
    work: Work, key: str, outcome: Outcome, quick: bool, machine: dict[str, Any]
) -> Iterator[Measurement]:
    given = {name: value for name, value in work.parameters.items() if name != "lines"}
    status = "failed" if outcome.error else "ok"
    for metric, value in (outcome.metrics or {"p50_ms": 0.0}).items():
        yield Measurement(
            work=f"same script: {work.label}",
            engine=key,
            version=outcome.version,
            metric=metric,
            unit=UNITS.get(metric, "ms"),
            status=status,
            summary=None if outcome.error else summarize([value]),
            parameters={"interval_s": work.interval_s, **given},
            machine=machine,
            date=str(datetime.date.today()),
            quick=quick,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two intervals, small sizes: does it work?")
    parser.add_argument("--only", default="", help="words, state or both, separated by a comma")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    machine = describe_machine()
    print(
        f"## The same PySpark script on both engines{' (quick)' * options.quick}\n\n{machine_line(machine)}"
    )
    data = BENCHMARKS / ".data"
    data.mkdir(exist_ok=True)
    results = BENCHMARKS / "results" / f"{'quick-' * options.quick}{datetime.date.today()}.jsonl"
    rows, bad = [], False
    for work in works(options.quick):
        if only and work.name not in only:
            continue
        outcomes = {contender.key: run(contender) for contender in contenders(work, data)}
        for key, outcome in outcomes.items():
            append_measurements(results, list(measurements(work, key, outcome, options.quick, machine)))
            if outcome.error:
                print(f"{work.label}, {work.interval_s:g} s, {key}: {outcome.error}", file=sys.stderr)
        answers = {str(outcome.answer) for outcome in outcomes.values() if not outcome.error}
        bad |= len(answers) > 1 or any(outcome.error for outcome in outcomes.values())
        rows.append([*cells(work, outcomes), "" if len(answers) <= 1 else "ANSWERS DIFFER"])
    header = ["work", "interval", "PySpark keeps up", "p50 / p99 ms", "first batch s"]
    header += ["here", "p50 / p99 ms", "first batch s", "times faster", ""]
    print(f"\n{render_table(header, rows)}")
    print(
        "\nProcessing time of a batch as each engine's listener tells it, in whole milliseconds; first batch:"
    )
    print("from the start of the process to the end of the first output. local[2], one run each.")
    sys.exit(bad)


if __name__ == "__main__":
    main()
