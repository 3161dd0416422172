"""Programs as they stand in blogs and answers print what they print under Spark.

What each prints under real PySpark is kept beside it; the soak run looks whether that is still so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.pyspark.real_spark import script_command

SCRIPTS = Path(__file__).with_name("scripts")
TIMEOUT_S = 240
pytestmark = pytest.mark.timeout(900)  # the first run installs PySpark

every_script = pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))


def printed(command: list[str], name: str, directory: Path, environment: dict[str, str]) -> str:
    """What a script prints, without the name of the directory that it was given."""
    done = subprocess.run(
        [*command, str(SCRIPTS / f"{name}.py"), str(directory)],
        cwd=directory,
        env={**os.environ, "PYTHONHASHSEED": "0", **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.replace(str(directory), "DIRECTORY")


@every_script
def test_a_script_prints_what_it_prints_under_spark(name: str, tmp_path: Path) -> None:
    # Windows hold the same batches however slow the machine: as in Spark, each tick has its batch.
    options = ["--master", "local[2]", "--conf", "spark.aiostream.missedTicks=every"]
    command = [sys.executable, "-m", "aiostream_engine", "pyspark", *options]
    assert printed(command, name, tmp_path, {}) == (SCRIPTS / f"{name}.txt").read_text()


@pytest.mark.spark
@pytest.mark.soak
@every_script
def test_what_is_kept_is_what_spark_prints(name: str, tmp_path: Path) -> None:
    command, environment = script_command()
    assert printed(command, name, tmp_path, environment) == (SCRIPTS / f"{name}.txt").read_text()
