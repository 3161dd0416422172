"""Reading a Spark master URL."""

from __future__ import annotations

import re

from ...config import available_cores
from .errors import SparkRuntimeException

__all__ = ["cores_of"]


def cores_of(master: str) -> int:
    """Number of workers of ``local``, ``local[n]``, ``local[*]`` and the same with a number of failures.

    Raises SparkRuntimeException for other masters.
    """
    if master == "local":
        return 1
    match = re.fullmatch(r"local\[\s*(\d+|\*)\s*(?:,\s*\d+\s*)?\]", master)
    if match is None:
        raise SparkRuntimeException(
            f"Could not parse Master URL: '{master}'; this layer runs on one machine: "
            "use 'local', 'local[4]' or 'local[*]'"
        )
    cores = available_cores() if match[1] == "*" else int(match[1])
    if cores < 1:
        raise SparkRuntimeException(f"Asked to run locally with {cores} threads")
    return cores
