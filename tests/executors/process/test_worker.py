from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.executors.process.pool import ProcessExecutor
from tests.executors.programs import answering, task, values

ROOT = Path(__file__).parents[3]


async def test_a_worker_loads_neither_asyncio_nor_the_runtime(directory: BlockDirectory) -> None:
    stage = answering(lambda task: sorted(sys.modules))
    async with ProcessExecutor(1, directory) as executor:
        (loaded,) = await values(executor, stage, [task(stage)])
    rooms = (
        "runtime",
        "planner",
        "plan",
        "sources",
        "sinks",
        "engine",
        "context",
        "dstream",
        "rdd",
        "ui",
        "cli",
    )
    forbidden = {f"aiostream_engine.{room}" for room in rooms}
    assert not {name for name in loaded if name.split(".")[0] in ("asyncio", "uvloop")}
    assert not {name for name in loaded if ".".join(name.split(".")[:2]) in forbidden}


@pytest.mark.parametrize("module", ["worker", "machine", "wire"])
def test_the_synchronous_modules_do_not_import_asyncio(module: str) -> None:
    code = (
        f"import sys, aiostream_engine.executors.process.{module}; "
        "sys.exit(' '.join(name for name in sys.modules if name == 'asyncio') or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


async def test_a_worker_sees_the_search_path_and_arguments_of_the_driver(
    directory: BlockDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)

    def look(task: object) -> object:
        import only_here  # type: ignore[import-not-found]

        return only_here.answer, sys.argv

    stage = answering(look)
    async with ProcessExecutor(1, directory) as executor:
        assert await values(executor, stage, [task(stage)]) == [(42, sys.argv)]
