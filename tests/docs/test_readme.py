"""What README.md and the pages say is run, or looked up, and so stays true."""

from __future__ import annotations

import operator
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import aiostream_engine as ase

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEADLINE_S = 50


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks(README, "sh") for line in block.splitlines() if "-m venv" in line]


def without_time(output: str) -> list[str]:
    return re.sub(r"Time: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z", "Time: …", output.rstrip()).splitlines()


def test_the_ten_lines_print_what_the_readme_shows(tmp_path: Path):
    program, (shown,) = blocks(README, "python")[0], blocks(README, "text")
    text = re.search(r'^echo "(.*)" \| ', README, re.MULTILINE)
    assert text is not None
    feed = [sys.executable, "-m", "aiostream_engine", "feed", "-", "--port", "0"]
    with subprocess.Popen(
        feed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as feeder:
        assert feeder.stdin is not None
        assert feeder.stdout is not None
        port = feeder.stdout.readline().split()[-1]
        (tmp_path / "word_count.py").write_text(program.replace("9999", port))
        feeder.stdin.write(f"{text[1]}\n")
        feeder.stdin.close()
        done = subprocess.run(
            [sys.executable, "-W", "error", "word_count.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        feeder.terminate()
    assert done.stderr == ""
    printed = without_time(done.stdout)
    assert printed[: len(without_time(shown))] == without_time(shown)


def test_the_program_of_the_readme_has_ten_lines():
    program = blocks(README, "python")[0]
    assert len([line for line in program.splitlines() if line.strip()]) == 10


async def test_the_lines_on_kafka_make_a_stream_to_a_transactional_sink():
    (lines,) = [block for block in blocks(README, "python") if "kafka_stream" in block]
    ssc = ase.StreamingContext(0.1, "local")
    exec(lines, {"operator": operator, "ssc": ssc})
    assert "to(kafka counts) (transactional)" in ssc.explain()
    await ssc.stop()


def test_the_readme_has_one_command_for_the_demo_and_one_for_the_tests():
    venv = "python3 -m venv .venv && .venv/bin/pip install -q"
    assert commands() == [
        f"{venv} '.[cli]' && .venv/bin/python -m aiostream_engine demo",
        f"{venv} -e '.[test]' && .venv/bin/python -m pytest",
    ]


def test_the_extras_that_the_commands_install_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in commands():
        for extra in re.findall(r"'\.\[(\w+)\]'", command):
            assert extra in extras


def test_the_demo_of_the_command_exists():
    command = [sys.executable, "-m", "aiostream_engine", "demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr


def test_the_continuous_integration_runs_the_very_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    found = re.search(r'sed -n "(s/.*?/p)" README\.md', script)
    if found is None:
        assert commands()[1] in script
        return
    taken = subprocess.run(
        ["sed", "-n", found[1], str(ROOT / "README.md")], capture_output=True, text=True, check=True
    )
    assert taken.stdout.splitlines()[0] == commands()[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_the_pages_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_the_pages_compiles(page: Path):
    import ast

    for number, block in enumerate(blocks(page.read_text(), "python"), 1):
        compile(block, f"{page.name} block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
