"""Running one benchmark: contenders side by side, answers checked, targets judged, lines kept."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contender import BENCHMARKS, Contender, Outcome, interpreter_of, run_contender
from .machine import describe_machine, machine_line
from .record import Measurement, append_measurements
from .statistics import Summary, summarize
from .table import format_figure, render_table

__all__ = ["Benchmark", "Metric", "Options", "Target", "main"]


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    quick: small sizes that only show that everything works; no figure of it is a claim.
    lines: size of the input in lines or records, None for the benchmark's own.
    """

    quick: bool
    runs: int
    lines: int | None
    only: frozenset[str]
    timeout_s: float
    results: Path

    def size(self, full: int, quick: int) -> int:
        """The asked size, else the one that fits a quick or a full run."""
        return self.lines or (quick if self.quick else full)


@dataclass(frozen=True)
class Metric:
    """A figure that programs report under ``name``."""

    name: str
    label: str
    unit: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Target:
    """What must be reached: a figure of ``contender``, or its ratio to that of ``against``.

    A ratio says how many times better: it is turned round where less is better.
    difference: what ``contender`` has more than ``against``, instead of the ratio.
    """

    text: str
    contender: str
    metric: str
    bound: float
    against: str | None = None
    at_least: bool = True
    difference: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A claim, who is measured for it, and what counts.

    setting: gives the contenders and the right answer (None: all must agree with the first).
    included: what the timed region holds, printed with every table.
    """

    id: str
    title: str
    included: str
    metrics: Sequence[Metric]
    targets: Sequence[Target]
    setting: Callable[[Options], tuple[Sequence[Contender], Any]]


@dataclass
class _Row:
    contender: Contender
    status: str = "ok"
    version: str = ""
    error: str = ""
    outcomes: list[Outcome] = None  # type: ignore[assignment]

    def summary(self, metric: str) -> Summary | None:
        values = [o.metrics[metric] for o in self.outcomes or () if metric in o.metrics]
        return summarize(values) if values and self.status == "ok" else None


def main(benchmark: Benchmark) -> None:
    """The command line of one benchmark; exit status 1 when a contender failed or answered wrongly."""
    options = _options(benchmark)
    machine = describe_machine()
    print(f"\n## {benchmark.id} {benchmark.title}{' (quick: sizes too small for a claim)' * options.quick}\n")
    print(f"{machine_line(machine)}\nTimed: {benchmark.included}\n", flush=True)
    contenders, answer = benchmark.setting(options)
    if options.only:
        contenders = [contender for contender in contenders if contender.key in options.only]
    rows = _run_interleaved(contenders, options)
    _check_answers(rows, answer)
    print(_table(benchmark, rows))
    print(_verdicts(benchmark, rows))
    for row in rows:
        if row.error:
            print(f"\n{row.contender.name}: {row.error}")
    append_measurements(options.results, _measurements(benchmark, rows, machine, options))
    sys.exit(any(row.status in ("failed", "wrong-answer") for row in rows))


def _options(benchmark: Benchmark) -> Options:
    parser = argparse.ArgumentParser(description=f"{benchmark.id}: {benchmark.title}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: does it work?")
    parser.add_argument("--runs", type=int, help="runs of each contender (3; quick: 1)")
    parser.add_argument("--lines", type=int, help="size of the input in lines or records")
    parser.add_argument("--only", default="", help="keys of contenders, separated by commas")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run")
    parser.add_argument("--results", type=Path, help="file of JSON lines to append to")
    given = parser.parse_args()
    name = f"{'quick-' * given.quick}{datetime.date.today()}.jsonl"
    return Options(
        given.quick,
        given.runs or (1 if given.quick else 3),
        given.lines,
        frozenset(filter(None, given.only.split(","))),
        given.timeout,
        given.results or BENCHMARKS / "results" / name,
    )


def _run_interleaved(contenders: Sequence[Contender], options: Options) -> list[_Row]:
    """A B A B, so that a change of the machine's mood meets all contenders alike."""
    rows = [_Row(contender, outcomes=[]) for contender in contenders]
    for run in range(options.runs):
        for row in rows:
            if row.status == "ok" and run < (row.contender.runs_max or options.runs):
                _run_once(row, run, options)
    return rows


def _run_once(row: _Row, run: int, options: Options) -> None:
    if interpreter_of(row.contender) is None:
        row.status, row.error = "not-installed", "not installed (run benchmarks/setup); this is no result"
        return
    print(f"  run {run + 1}/{options.runs}: {row.contender.name} …", end="", file=sys.stderr, flush=True)
    outcome = run_contender(row.contender, options.timeout_s)
    if outcome.error:
        row.status, row.error = "failed", outcome.error
    row.version = outcome.version
    row.outcomes.append(outcome)
    figures = ", ".join(f"{name} {format_figure(value)}" for name, value in outcome.metrics.items())
    print(f" {figures or 'failed'}", file=sys.stderr, flush=True)


def _check_answers(rows: Sequence[_Row], answer: Any) -> None:
    for row in rows:
        for outcome in row.outcomes:
            if row.status != "ok":
                break
            right = answer if row.contender.answer is None else row.contender.answer
            if right is None:
                right = answer = outcome.answer
            if outcome.answer != right:
                row.status = "wrong-answer"
                row.error = f"answered {outcome.answer!r}, right is {right!r}: its times do not count"


def _table(benchmark: Benchmark, rows: Sequence[_Row]) -> str:
    header = ["contender", *(f"{metric.label} ({metric.unit})" for metric in benchmark.metrics)]
    lead = benchmark.metrics[0]
    reference = next((row for row in rows if row.contender.kind == "engine" and row.summary(lead.name)), None)
    header.append("engine is × as good")
    body = []
    for row in rows:
        cells = [_cell(row, metric) for metric in benchmark.metrics]
        ratio = _ratio(reference, row, lead) if reference else None
        name = f"{row.contender.name} {row.version}".strip()
        body.append([name, *cells, "—" if ratio is None else format_figure(ratio)])
    return f"\n{render_table(header, body)}\n"


def _cell(row: _Row, metric: Metric) -> str:
    summary = row.summary(metric.name)
    if summary is None:
        return {"ok": "—", "not-installed": "not installed", "wrong-answer": "WRONG ANSWER"}.get(
            row.status, "FAILED"
        )
    spread = f" [{format_figure(summary.min)} … {format_figure(summary.max)}]" if summary.runs > 1 else ""
    return f"{format_figure(summary.median)}{spread}"


def _ratio(ours: _Row, theirs: _Row, metric: Metric) -> float | None:
    a, b = ours.summary(metric.name), theirs.summary(metric.name)
    if a is None or b is None or not a.median or not b.median:
        return None
    return a.median / b.median if metric.more_is_better else b.median / a.median


def _verdicts(benchmark: Benchmark, rows: Sequence[_Row]) -> str:
    by_key = {row.contender.key: row for row in rows}
    metrics = {metric.name: metric for metric in benchmark.metrics}
    body = []
    for target in benchmark.targets:
        value = _reached(target, by_key, metrics)
        sign = "≥" if target.at_least else "≤"
        if value is None:
            verdict = "not measured"
        else:
            verdict = (
                "reached" if (value >= target.bound) == target.at_least or value == target.bound else "MISSED"
            )
        shown = "—" if value is None else format_figure(value)
        body.append([target.text, f"{sign} {format_figure(target.bound)}", shown, verdict])
    return f"{render_table(['target', 'reach', 'measured', 'verdict'], body)}\n" if body else ""


def _reached(target: Target, rows: Mapping[str, _Row], metrics: Mapping[str, Metric]) -> float | None:
    row = rows.get(target.contender)
    if row is None:
        return None
    if target.against is None:
        summary = row.summary(target.metric)
        return None if summary is None else summary.median
    other = rows.get(target.against)
    if other is None:
        return None
    if target.difference:
        ours, theirs = row.summary(target.metric), other.summary(target.metric)
        return None if ours is None or theirs is None else ours.median - theirs.median
    return _ratio(row, other, metrics[target.metric])


def _measurements(
    benchmark: Benchmark, rows: Sequence[_Row], machine: dict[str, Any], options: Options
) -> list[Measurement]:
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return [
        Measurement(
            f"{benchmark.id} {benchmark.title}",
            row.contender.name,
            row.version,
            metric.name,
            metric.unit,
            row.status,
            row.summary(metric.name),
            {"lines": options.lines, **_plain(row.contender.parameters)},
            machine,
            date,
            options.quick,
        )
        for row in rows
        for metric in benchmark.metrics
        if row.status != "ok" or row.summary(metric.name) is not None
    ]


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without file names, which say where somebody's checkout lies."""
    return {
        name: value
        for name, value in parameters.items()
        if name not in ("files", "directory", "facts", "bootstrap")
        and not (isinstance(value, str) and value.startswith("/"))
    }
