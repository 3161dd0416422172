"""The contract between a benchmark and a contender's program, both ways as JSON.

Standard library only: programs of peers import it from inside of their own environments.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["RESULT_MARK", "digest_counts", "package_version", "parameters", "report", "stopwatch"]

RESULT_MARK = "BENCHMARK-RESULT "

stopwatch = time.perf_counter


def parameters() -> dict[str, Any]:
    """What the benchmark asks for: the JSON object in the first argument."""
    return json.loads(sys.argv[1])


def report(*, answer: Any, version: str, metrics: Mapping[str, float], **notes: Any) -> None:
    """Print the result where the benchmark looks for it; other output is ignored."""
    result = {"answer": answer, "version": version, "metrics": dict(metrics), "notes": notes}
    sys.stdout.flush()
    print(f"\n{RESULT_MARK}{json.dumps(result)}", flush=True)


def digest_counts(counts: Mapping[str, int]) -> str:
    """A short digest of a word count, equal when and only when the counts are."""
    digest = hashlib.sha256()
    for word in sorted(counts):
        digest.update(f"{word}\t{counts[word]}\n".encode())
    return digest.hexdigest()[:16]


def package_version(distribution: str) -> str:
    """The installed version of a distribution, ``unknown`` when it has none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
