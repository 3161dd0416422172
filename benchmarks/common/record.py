"""One JSON line per measurement, appended to a file that outlives the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .statistics import Summary

__all__ = ["Measurement", "append_measurements"]


@dataclass(frozen=True)
class Measurement:
    """One metric of one contender: what, who, how much, where and when.

    status: ``ok``, ``wrong-answer``, ``failed`` or ``not-installed``; only ``ok`` has figures.
    """

    work: str
    engine: str
    version: str
    metric: str
    unit: str
    status: str
    summary: Summary | None
    parameters: dict[str, Any]
    machine: dict[str, Any]
    date: str
    quick: bool

    def json_line(self) -> str:
        """The measurement as one line without a line end; ``value`` is the median."""
        fields = asdict(self)
        del fields["summary"]
        if self.summary is not None:
            fields |= {"value": self.summary.median, **self.summary._asdict()}
        return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def append_measurements(path: Path, measurements: list[Measurement]) -> None:
    """Append the lines in one write, so that two benchmarks can share a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{measurement.json_line()}\n" for measurement in measurements))
