"""Every example runs alone, ends by itself, and prints what its docstring says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aiostream_engine.testing.kafka_broker import LocalKafka

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_S = 50

NAMES = sorted(path.stem for path in EXAMPLES.glob("[0-9]*.py"))
WITH_KAFKA = [name for name in NAMES if "_kafka_" in name]

Check = Callable[[list[str]], None]
CHECKS: dict[str, Check] = {}
ARGUMENTS = {"11_exactly_once": ("--kills", "2")}

# What an example logs, which goes to standard error where logging is not set up.
LOGGED = {"06_custom_receiver": r"receiver error .*the broker went away.*\n"}
# The client says when it tries again, as with a topic that was just made.
AIOKAFKA_LOGS = (
    r"((Got error produce response|Topic .* not found|Heartbeat|Group Coordinator|Marking the coord).*\n)*"
)


def prints(name: str) -> Callable[[Check], Check]:
    """The check of the lines that the example ``name`` prints."""

    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add


def run(name: str, directory: Path, *arguments: str) -> list[str]:
    """Lines of standard output; warnings are errors, and nothing unexpected is logged."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logged = AIOKAFKA_LOGS if name in WITH_KAFKA else LOGGED.get(name, "")
    assert re.fullmatch(logged, done.stderr), done.stderr
    return done.stdout.splitlines()


def test_every_example_has_a_check_and_every_check_an_example():
    assert {path.stem for path in EXAMPLES.glob("[0-9]*.py")} == set(CHECKS)


def test_every_example_tells_how_to_run_it_and_what_one_sees():
    for path in EXAMPLES.glob("[0-9]*.py"):
        docstring = path.read_text().split('"""')[1]
        assert f"python examples/{path.name}" in docstring, path.name
        assert "You see" in docstring, path.name


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_KAFKA])
def test_the_example_prints_what_it_promises(name: str, tmp_path: Path):
    CHECKS[name](run(name, tmp_path, *ARGUMENTS.get(name, ())))
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing in the directory it is run in"


@pytest.mark.kafka
@pytest.mark.parametrize("name", WITH_KAFKA)
def test_the_example_with_kafka_prints_what_it_promises(name: str, kafka: LocalKafka, tmp_path: Path):
    CHECKS[name](run(name, tmp_path, kafka.bootstrap, *ARGUMENTS.get(name, ())))
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing in the directory it is run in"


def pairs(lines: list[str]) -> list[tuple[str, int]]:
    return [
        (match[1], int(match[2])) for line in lines if (match := re.fullmatch(r"\('(\w+)', (\d+)\)", line))
    ]


@prints("01_network_word_count")
def word_count(lines: list[str]) -> None:
    totals: dict[str, int] = {}
    for word, count in pairs(lines):
        totals[word] = totals.get(word, 0) + count
    assert totals == dict.fromkeys(["that", "is", "the", "question", "or", "not"], 3) | {"to": 6, "be": 6}
    assert sum(line.startswith("Time: 20") for line in lines) >= 2


@prints("02_windowed_top_n")
def top_n(lines: list[str]) -> None:
    windows = [
        {word: int(count) for word, count in (item.split("=") for item in line.split()[1:])}
        for line in lines
        if "nothing" not in line
    ]
    for window in windows:
        assert window.get("ask", 0) + window.get("answer", 0) == 2 * window["well"]
    assert next(iter(windows[0])) == "ask"
    assert next(iter(windows[-1])) == "answer"
    assert "ask" not in windows[-1]


@prints("03_stateful_sessions")
def sessions(lines: list[str]) -> None:
    clicks: dict[str, list[int]] = {}
    for line in lines:
        user, count, _ = line.split(": ")
        clicks.setdefault(user, []).append(int(count.split()[0]))
    assert {user: sum(counts) for user, counts in clicks.items()} == {"ann": 3, "bob": 2}
    assert len(clicks["ann"]) >= 2
    assert lines[-1] == "ann: 1 clicks: /pay"


@prints("04_async_enrichment")
def enrichment(lines: list[str]) -> None:
    assert lines[0] == "98 orders in order: (0, 'FR') ... (99, 'FR')"
    assert lines[3] == "98 orders in order: (100, 'IT') ... (199, 'IT')"
    letters = [int(line.split()[3].strip(":")) for line in lines if line.startswith("dead letter")]
    assert letters == [13, 63, 113, 163]
    assert lines[1].endswith("after 4 tries")
    assert lines[-1] == "50 calls at a time at most"


@prints("05_directory_of_files")
def directory(lines: list[str]) -> None:
    read = [line for line in lines if line.startswith("batch read")]
    assert re.findall(r"log-\d\.txt", " ".join(read)) == ["log-0.txt", "log-1.txt", "log-2.txt"]
    assert lines[len(read) :] == [f"event {number}-{n}" for number in range(3) for n in (0, 4)]


@prints("06_custom_receiver")
def receivers(lines: list[str]) -> None:
    values = {"thermometer": [], "barometer": []}  # type: dict[str, list[float]]
    for line in lines[:-1]:
        name, value = line.split()
        values[name].append(float(value))
    assert values["thermometer"] == [20.0, 20.5, 21.0, 21.5, 22.0, 22.5]
    assert values["barometer"] == [1013.0, 1012.5, 1012.0, 1011.0, 1010.5]
    assert lines[-1] == "5 messages acknowledged, 1 restart"


@prints("07_actor")
def actor(lines: list[str]) -> None:
    assert lines == ["blue 55", "red 12"]


@prints("08_fastapi_service")
def service(lines: list[str]) -> None:
    assert lines == ["/cart 1", "/home 3", "/pay 1", "health: active"]


@prints("09_notebook_style")
def notebook(lines: list[str]) -> None:
    assert "50 squares, the last one is 2401" in lines
    assert "0 batches failed, the queue is 0% full" in lines
    assert "sum of cubes: 24502500" in lines
    assert "stopped" in lines


@prints("10_rdd_only")
def rdd_only(lines: list[str]) -> None:
    assert re.fullmatch(r"\d{3,4} functions in the modules of asyncio", lines[0])
    counts = [int(line.split(": ")[1]) for line in lines[1:4]]
    assert counts == sorted(counts, reverse=True)
    assert "  ann pays 8" in lines
    assert "  bob pays 5" in lines
    assert [line for line in lines if "every" in line] == [
        f"  every 250000th: {number}" for number in range(0, 1_000_000, 250_000)
    ]


@prints("11_exactly_once")
def exactly_once(lines: list[str]) -> None:
    """B12"""
    assert [line.split(":")[0] for line in lines[:-2]] == ["kill 1", "kill 2"]
    assert re.fullmatch(r"[1-9]\d+ numbers: lost 0, doubled 0", lines[-2])
    assert lines[-1] == "the sums in the state are right"


@prints("12_kafka_word_count")
def kafka_word_count(lines: list[str]) -> None:
    assert lines == ["be: 4", "not: 2", "or: 2", "to: 4"]


@prints("13_kafka_fastapi")
def kafka_service(lines: list[str]) -> None:
    assert lines == [
        "partitions of each instance: [2, 2]",
        "200 orders are there, each instance has some: True",
    ]


@prints("14_kafka_page_views")
def kafka_page_views(lines: list[str]) -> None:
    assert sorted(lines) == [
        "ann: 1 views: /pay (after 5 records)",
        "ann: 2 views: / -> /cart (after 4 records)",
        "bob: 2 views: / -> /help (after 4 records)",
    ]


@prints("15_kafka_enrichment")
def kafka_enrichment(lines: list[str]) -> None:
    assert lines == ["FR 100", "IT 100", "PL 99", "no order: partition 0, offset 200: b'not an order'"]
