"""An inspected checkpoint directory as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..types import BatchTime

if TYPE_CHECKING:
    from .checkpoint_summary import Inspection, Summary

__all__ = ["as_json", "lines_of", "readable_bytes"]

PENDING_SHOWN_MAX = 10


def readable_bytes(size: float) -> str:
    """A size for people: ``12.3 MiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def lines_of(inspection: Inspection) -> Iterator[str]:
    """What there is, a fact a line."""
    for name, text in _facts(inspection):
        yield f"{name:<14} {text}"


def _facts(inspection: Inspection) -> Iterator[tuple[str, str]]:
    summary, found = inspection.summary, inspection.scan
    yield "directory", f"{inspection.path} (format {inspection.format})"
    yield "epoch", f"{inspection.epoch}"
    yield "in use", _holder(inspection)
    yield "interval", _interval(summary)
    yield "last commit", _batch(summary.commit) if summary.commit else "none"
    yield "to run again", _count(len(summary.pending), "batch").replace("batchs", "batches")
    for pending in list(summary.pending.values())[:PENDING_SHOWN_MAX]:
        size = _count(pending.blocks, "block")
        if pending.records is not None:
            size = f"{_count(pending.records, 'record')} in {size}"
        yield "", f"batch {pending.batch} of {BatchTime(pending.time)}: {size}"
    for path in summary.missing_files:
        yield "", f"needs {path}, which is GONE"
    yield from _states(summary)
    yield from _windows(summary)
    for stream, logged in sorted(summary.logged.items()):
        size = readable_bytes(logged.bytes)
        yield "received", f"{stream}: {_count(logged.records, 'record')}, {size}, in no batch yet"
    for sink, tokens in sorted(summary.commit.get("tokens", {}).items()):
        if tokens:
            yield "sink", f"{sink}: {_count(len(tokens), 'partition')} published with the last commit"
    yield (
        "journal",
        f"{_count(inspection.segments, 'segment')}, {readable_bytes(inspection.bytes)}, "
        f"records {summary.first} to {found.number}",
    )
    if found.torn_bytes:
        yield "torn end", f"{found.torn_bytes} bytes of {found.torn_path}, which do not count"


def _holder(inspection: Inspection) -> str:
    holder = inspection.holder
    if holder is None:
        return "no"
    who = f"process {holder.pid} on {holder.host}, since {holder.since}"
    return {True: f"by {who}", False: f"no; left behind by {who}", None: f"by {who}, if it runs"}[holder.runs]


def _interval(summary: Summary) -> str:
    interval = (summary.commit or summary.driver).get("interval_ms")
    return "unknown" if interval is None else f"{interval / 1000:g} s"


def _batch(content: dict[str, Any]) -> str:
    return f"batch {content['batch']} of {BatchTime(content['time'])}, by driver {content.get('epoch')}"


def _states(summary: Summary) -> Iterator[tuple[str, str]]:
    for state, parts in sorted(summary.states.items()):
        known = [part.keys for part in parts.values() if part.keys is not None]
        keys = f"{_count(sum(known), 'key')}, " if len(known) == len(parts) else ""
        size = readable_bytes(sum(part.bytes for part in parts.values()))
        records = _count(sum(part.records for part in parts.values()), "record")
        yield "state", f"{state}: {_count(len(parts), 'partition')}, {keys}{size} in {records}"


def _windows(summary: Summary) -> Iterator[tuple[str, str]]:
    for window, times in sorted(summary.kept.items()):
        if times:
            blocks = _count(sum(kept.blocks for kept in times.values()), "block")
            size = readable_bytes(sum(kept.bytes for kept in times.values()))
            span = f"{BatchTime(min(times))} to {BatchTime(max(times))}"
            yield "window", f"{window}: batches of {span}, {blocks}, {size}"


def as_json(inspection: Inspection) -> dict[str, Any]:
    """The same for programs; times are epoch milliseconds, sizes are bytes."""
    summary, found, holder = inspection.summary, inspection.scan, inspection.holder
    commit = {key: summary.commit.get(key) for key in ("batch", "time", "epoch")} if summary.commit else None
    return {
        "directory": inspection.path,
        "format": inspection.format,
        "epoch": inspection.epoch,
        "holder": None if holder is None else {**holder._asdict(), "runs": holder.runs},
        "interval_ms": (summary.commit or summary.driver).get("interval_ms"),
        "last_commit": commit,
        "pending": [asdict(pending) for pending in summary.pending.values()],
        "missing_files": summary.missing_files,
        "states": {
            name: {str(index): asdict(part) for index, part in sorted(parts.items())}
            for name, parts in summary.states.items()
        },
        "windows": {
            name: {str(at): asdict(kept) for at, kept in sorted(times.items())}
            for name, times in summary.kept.items()
        },
        "received": {name: asdict(logged) for name, logged in summary.logged.items()},
        "journal": {
            "segments": inspection.segments,
            "bytes": inspection.bytes,
            "first_record": summary.first,
            "last_record": found.number,
            "torn_bytes": found.torn_bytes,
        },
        "damage": inspection.damage or None,
    }
