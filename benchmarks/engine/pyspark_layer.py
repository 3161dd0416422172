"""Runs the PySpark program ``script`` on this engine, as ``python -m aiostream_engine pyspark`` does."""

from __future__ import annotations

import sys
from pathlib import Path

from common.program import parameters

from aiostream_engine.cli.pyspark import run_script

if __name__ == "__main__":
    run_script(str(Path(__file__).parents[1] / parameters()["script"]), sys.argv[1:])
