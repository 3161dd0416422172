"""The commands that look at a checkpoint directory, check it, and mend it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tracemalloc
from pathlib import Path

import pytest

import aiostream_engine as ase
from aiostream_engine.cli import checkpoint as cli_checkpoint
from aiostream_engine.config import CheckpointConfig
from aiostream_engine.durable.checkpoint_directory import CheckpointDirectory
from aiostream_engine.durable.journal_format import RECORD_BYTES
from aiostream_engine.durable.journal_reader import ScanResult, scan
from aiostream_engine.durable.seal import Seal
from aiostream_engine.runtime.checkpoint import CheckpointWriter
from aiostream_engine.runtime.records import Kind, StateChange
from aiostream_engine.sinks.base import TransactionalSink
from aiostream_engine.sinks.memory import ListSink
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink, read_committed
from aiostream_engine.state.store import Changes
from aiostream_engine.types import BlockRef

DEADLINE_S = 40

APP = """
import os
import aiostream_engine as ase
from aiostream_engine.sinks.two_phase_files import TwoPhaseFileSink

def pair(line):
    return line, 1

def add(word, one, total):
    total.update(total.get(0) + one)
    return word, total.get()

def build(ssc):
    pairs = ssc.text_file_stream(os.path.abspath("in"), name="lines").map(pair)
    pairs.map_with_state(add, name="totals").to(TwoPhaseFileSink("out"), name="out")

def build_without_state(ssc):
    ssc.text_file_stream(os.path.abspath("in"), name="lines").to(TwoPhaseFileSink("out"), name="out")
"""


def pair(line: str) -> tuple[str, int]:
    return line, 1


def add(word: str, one: int, total: ase.State[int]) -> tuple[str, int]:
    total.update(total.get(0) + one)
    return word, total.get()


class Gate(TransactionalSink):
    """Stops the stream for good in the batch that holds the word."""

    name = "gate"

    def __init__(self, word: str) -> None:
        self._word = word
        self.reached = asyncio.Event()

    async def stage(self, key, records):
        words = [record async for chunk in records for record in chunk]
        if self._word in words:
            self.reached.set()
            await asyncio.Event().wait()

    async def commit(self, batch_id, time, tokens):
        pass

    async def abort(self, batch_id, tokens):
        pass


def feed(directory: Path, name: str, *words: str) -> None:
    (directory / "in").mkdir(exist_ok=True)
    (directory / f".{name}").write_text("".join(f"{word}\n" for word in words))
    (directory / f".{name}").rename(directory / "in" / name)


async def write_directory(directory: Path) -> None:
    """Three words in a state, a window over them, and a batch that was begun and not committed."""
    gate = Gate("stop")
    async with ase.StreamingContext(0.05, "local", checkpoint=str(directory / "checkpoint")) as ssc:
        lines = ssc.text_file_stream(str(directory / "in"), name="lines")
        lines.to(gate, name="gate")
        lines.map(pair).map_with_state(add, name="totals").to(TwoPhaseFileSink(directory / "out"), name="out")
        lines.window(3600, 0.05, name="hour").count().foreach_rdd(lambda rdd: None)
        await ssc.start()
        for name in ("a", "b", "c"):
            feed(directory, name, name, "x")
            async with asyncio.timeout(DEADLINE_S):
                while len(read_committed(directory / "out")) < ord(name) - ord("a") + 1:
                    await asyncio.sleep(0.01)
        feed(directory, "d", "stop")
        await asyncio.wait_for(gate.reached.wait(), DEADLINE_S)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    (directory / "in").mkdir()
    asyncio.run(write_directory(directory))
    return directory


@pytest.fixture
def directory(template, tmp_path) -> Path:
    """A copy of a directory that a stream has left, to look at: copied files are other files."""
    shutil.copytree(template / "checkpoint", tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
async def left(tmp_path) -> Path:
    """A directory that a stream has left, and that another one can go on with."""
    (tmp_path / "in").mkdir()
    (tmp_path / "app.py").write_text(APP)
    await write_directory(tmp_path)
    return tmp_path / "checkpoint"


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def records(directory: Path):
    return list(scan(str(directory / "journal"), ScanResult()))


def flip(directory: Path, number: int) -> None:
    """Damage the metadata of a record."""
    ref = records(directory)[number - 1].payload
    with open(ref.path, "r+b") as file:
        file.seek(ref.offset - 1)
        byte = file.read(1)
        file.seek(ref.offset - 1)
        file.write(bytes([byte[0] ^ 1]))


def tear(directory: Path) -> None:
    path = sorted((directory / "journal").glob("*.log"))[-1]
    path.write_bytes(path.read_bytes() + b"rec\x01 and no more")


def commits(directory):
    """Numbers of the records that commit a batch, oldest first."""
    return [record.payload.number for record in records(directory) if record.kind == Kind.COMMIT]


# -- inspect -----------------------------------------------------------------------------------


def test_inspect_shows_what_there_is_and_changes_nothing(invoke, directory, monkeypatch, tmp_path):
    monkeypatch.delenv("AIOSTREAM_CHECKPOINT_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no key here"))
    before = content(directory)
    result = invoke("checkpoint", "inspect", str(directory))
    assert result.exit_code == 0, result.output
    assert content(directory) == before
    assert not (tmp_path / "no key here").exists()
    shown = re.sub(r"  +", " ", result.output)
    assert re.search(r"^epoch 1$", shown, re.M)
    assert re.search(r"^in use no$", shown, re.M)
    assert re.search(r"^interval 0\.05 s$", shown, re.M)
    assert re.search(r"^last commit batch \d+ of 2\d{3}-\d\d-\d\d ", shown, re.M)
    assert re.search(r"^to run again \d batch(es)?\n batch \d+ of .*: 1 block$", shown, re.M)
    assert re.search(r"^state totals: 1 partition, 4 keys, \d+ bytes in \d+ records$", shown, re.M)
    assert re.search(r"^window hour: batches of .*, \d+ blocks", shown, re.M)
    assert re.search(r"^journal 1 segment, .*, records 1 to \d+$", shown, re.M)


def test_inspect_gives_the_same_as_json(invoke, directory):
    result = invoke("checkpoint", "inspect", "--json", str(directory))
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert (shown["epoch"], shown["holder"], shown["interval_ms"], shown["damage"]) == (1, None, 50, None)
    assert set(shown["states"]) == {"totals"}
    assert set(shown["windows"]) == {"hour"}
    assert shown["pending"][0]["batch"] == shown["last_commit"]["batch"] + 1
    assert (
        shown["pending"][0]["files"] == [str(directory.parent / "in" / "d")] or shown["pending"][0]["files"]
    )
    assert shown["journal"]["last_record"] == len(records(directory))


def test_inspect_and_verify_say_that_a_file_is_gone_that_a_batch_needs(invoke, directory):
    shown = json.loads(invoke("checkpoint", "inspect", "--json", str(directory)).output)
    (needed,) = shown["pending"][0]["files"]
    os.rename(needed, f"{needed}.away")
    try:
        result = invoke("checkpoint", "inspect", str(directory))
        assert f"needs {needed}, which is GONE" in result.output
        result = invoke("checkpoint", "verify", str(directory))
        assert result.exit_code == 1
        assert needed in result.output
    finally:
        os.rename(f"{needed}.away", needed)


def test_inspect_and_verify_are_safe_while_a_driver_writes(command, left):
    """B7, C14: no lock is taken, and what the driver removes meanwhile is no damage."""
    stream = command(
        "run", "app.py:build", "--checkpoint", "checkpoint", "--interval", "0.01", "--master", "local",
        "--drop-unknown-state",
    )  # fmt: skip
    out = left.parent / "out"
    stream.wait_for(lambda c: "totals" in c.err or len(read_committed(out)) > 3)
    for name in ("inspect", "verify", "export"):
        one = command("checkpoint", name, "checkpoint")
        assert one.exit_code() == 0, one.err
        if name == "inspect":
            assert re.search(rf"in use +by process {stream.process.pid} on ", one.out)
    assert stream.process.poll() is None
    stream.signal(signal.SIGKILL)
    assert stream.exit_code() == -signal.SIGKILL
    one = command("checkpoint", "inspect", "checkpoint")
    assert one.exit_code() == 0, one.err
    assert re.search(rf"in use +no; left behind by process {stream.process.pid} ", one.out)


@pytest.mark.parametrize("name", ["inspect", "verify", "export", "repair", "reset"])
def test_what_is_no_checkpoint_directory_is_wrong_usage_and_left_alone(invoke, tmp_path, name):
    """C12"""
    (tmp_path / "precious").write_text("mine")
    result = invoke("checkpoint", name, str(tmp_path))
    assert result.exit_code == 2
    assert "is no checkpoint directory" in re.sub(r"[\s│]+", " ", result.output)
    assert content(tmp_path) == {"precious": b"mine"}
    assert invoke("checkpoint", name, str(tmp_path / "missing")).exit_code == 2
    assert not (tmp_path / "missing").exists()


# -- verify ------------------------------------------------------------------------------------


def test_verify_of_a_good_directory_counts_its_records(invoke, directory):
    before = content(directory)
    result = invoke("checkpoint", "verify", str(directory))
    assert result.exit_code == 0, result.output
    assert f"{len(records(directory))} records are whole" in result.output
    assert content(directory) == before


def test_verify_names_the_file_the_byte_and_the_last_good_record_of_a_flipped_bit(invoke, directory):
    """C6"""
    ref = records(directory)[3].payload
    start = ref.offset - RECORD_BYTES - len(records(directory)[3].meta)
    flip(directory, 4)
    for name in ("verify", "inspect"):
        result = invoke("checkpoint", name, str(directory))
        assert result.exit_code == 1
        text = " ".join(result.output.split())
        assert f"{ref.path} is corrupt at byte {start}: " in text
        assert "the last good record is 3" in text


def test_verify_finds_what_was_written_with_another_key(invoke, directory, monkeypatch):
    """J7"""
    monkeypatch.setenv("AIOSTREAM_CHECKPOINT_KEY", "another key that is long enough")
    result = invoke("checkpoint", "verify", str(directory))
    assert result.exit_code == 1
    assert "was not written with this key" in " ".join(result.output.split())


def test_verify_without_any_key_says_so_and_makes_none(invoke, directory, monkeypatch, tmp_path):
    monkeypatch.delenv("AIOSTREAM_CHECKPOINT_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    result = invoke("checkpoint", "verify", str(directory))
    assert result.exit_code == 1
    assert "there is no key" in result.output
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("missing", ["META", "EPOCH", "journal/HEAD"])
def test_verify_names_what_is_missing(invoke, directory, missing):
    """C8"""
    os.unlink(directory / missing)
    for path in (directory / "journal").glob("*.log"):
        if missing.endswith("HEAD"):
            path.rename(path.with_name(path.name.replace("-00000000000000000001-", "-00000000000000000002-")))
    result = invoke("checkpoint", "verify", str(directory))
    assert result.exit_code == 1
    assert missing.rpartition("/")[2] in result.output


def test_a_torn_end_is_told_and_is_no_damage(invoke, directory):
    """C5"""
    tear(directory)
    result = invoke("checkpoint", "verify", str(directory))
    assert result.exit_code == 0
    assert "16 bytes at byte " in result.output
    assert "torn end" in invoke("checkpoint", "inspect", str(directory)).output


# -- export ------------------------------------------------------------------------------------


def test_export_prints_the_state_as_json_lines_and_warns(command, directory):
    """J7"""
    one = command("checkpoint", "export", "checkpoint")
    assert one.exit_code() == 0, one.err
    entries = [json.loads(line) for line in one.out.splitlines()]
    assert {entry["key"]: entry["value"] for entry in entries} == {"a": 1, "b": 1, "c": 1, "x": 3}
    assert {entry["state"] for entry in entries} == {"totals"}
    assert "trusts everybody who has the key" in one.err
    assert "4 keys as of batch " in one.err


def test_export_of_a_state_that_is_not_there_names_those_that_are(invoke, directory):
    assert invoke("checkpoint", "export", str(directory), "--state", "totals").exit_code == 0
    result = invoke("checkpoint", "export", str(directory), "--state", "other")
    assert result.exit_code == 1
    assert "there is: totals" in result.output


def test_export_unpickles_nothing_that_was_not_sealed_with_the_key(invoke, directory, monkeypatch):
    """J7"""
    monkeypatch.setenv("AIOSTREAM_CHECKPOINT_KEY", "another key that is long enough")
    monkeypatch.setattr("pickle.loads", lambda *_: pytest.fail("unpickled"))
    result = invoke("checkpoint", "export", str(directory))
    assert result.exit_code == 1
    assert "was not written with this key" in " ".join(result.output.split())


async def write_state(path, batches, keys):
    """A directory with a state of so many keys a batch, each of half a kilobyte."""
    writer = CheckpointWriter(CheckpointDirectory(str(path)), 0, 0, Seal(None))
    await writer.opened(0, 1000)
    for number in range(1, batches + 1):
        entries = {key: f"{key:0500}" for key in range(number * keys, (number + 1) * keys)}
        data = Changes(changed=entries).dump()
        block = BlockRef("pickle", data, "", 0, len(data))
        change = StateChange("state of totals", 0, 1, number, number == 1, block)
        content = {"zero_ms": 0, "interval_ms": 1000, "fired": {}, "horizons": {}, "tokens": {}}
        await writer.commit(number, 1000 * number, [change], [], content)
    await writer.aclose()


async def test_export_holds_no_more_in_memory_than_its_bound(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIOSTREAM_CHECKPOINT_KEY", "a key that is long enough")
    monkeypatch.setattr(cli_checkpoint, "EXPORT_BYTES_MAX", 1024 * 1024)
    monkeypatch.setattr(sys, "path", list(sys.path))
    await write_state(tmp_path / "checkpoint", batches=40, keys=500)
    keys = []
    monkeypatch.setattr(cli_checkpoint.typer, "echo", lambda line, **_: keys.append(line[:60]))
    tracemalloc.start()
    try:
        await asyncio.to_thread(cli_checkpoint.export, tmp_path / "checkpoint", None, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines = [line for line in keys if line.startswith('{"state":"totals","partition":0,"key":')]
    assert [int(line.split(":")[3].split(",")[0]) for line in lines] == list(range(500, 20_500))
    assert peak < 8_000_000  # of a state of 11 MB and more in memory; 20000 lines are kept by this test


# -- repair ------------------------------------------------------------------------------------


def test_repair_of_a_good_directory_has_nothing_to_do(invoke, directory):
    before = {name: data for name, data in content(directory).items() if "journal" in name}
    result = invoke("checkpoint", "repair", str(directory))
    assert (result.exit_code, "nothing to repair" in result.output) == (0, True)
    assert {name: data for name, data in content(directory).items() if "journal" in name} == before


def test_repair_cuts_a_torn_end_and_keeps_it(invoke, directory):
    """C5, C7"""
    before = content(directory / "journal")
    tear(directory)
    result = invoke("checkpoint", "repair", str(directory))
    assert result.exit_code == 0, result.output
    assert content(directory / "journal") == before
    (backup,) = directory.glob("removed-*")
    assert b"rec\x01 and no more" in content(backup).values()


def test_repair_gives_up_nothing_unless_it_is_told_from_where(invoke, directory):
    """C6: data loss is an explicit act."""
    flip(directory, 4)
    before = content(directory / "journal")
    result = invoke("checkpoint", "repair", str(directory), "--yes")
    assert result.exit_code == 1
    assert "--give-up-from 4" in " ".join(result.output.split())
    assert content(directory / "journal") == before


def test_repair_asks_and_tells_to_which_batch_the_stream_goes_back(invoke, directory):
    damaged = commits(directory)[-1]
    flip(directory, damaged)
    before = content(directory / "journal")
    result = invoke("checkpoint", "repair", str(directory), "--give-up-from", str(damaged))
    assert result.exit_code == 1, "nobody answers"
    assert re.search(r"goes back to batch \d+ of 2\d{3}-", " ".join(result.output.split()))
    assert content(directory / "journal") == before


def test_a_stream_goes_on_from_the_commit_before_the_damage(command, left):
    """C6: the damaged place and what stands behind it are lost, and nothing else."""
    damaged = commits(left)[-1]
    flip(left, damaged)
    refused = command(*run("build"), "--duration", "1")
    assert refused.exit_code() == 1
    assert "is corrupt at byte" in refused.err
    one = command("checkpoint", "repair", "checkpoint", "--give-up-from", str(damaged), "--yes")
    assert one.exit_code() == 0, one.err
    assert command("checkpoint", "verify", "checkpoint").exit_code() == 0
    stream = command(*run("build"))
    out = left.parent / "out"
    stream.wait_for(lambda _: any('["stop",1]' in path.read_text() for path in read_committed(out)))
    stream.signal()
    assert stream.exit_code() == 0, stream.err
    one = command("checkpoint", "export", "checkpoint")
    assert one.exit_code() == 0, one.err
    totals = {entry["key"]: entry["value"] for entry in map(json.loads, one.out.splitlines())}
    assert totals == {"a": 1, "b": 1, "c": 1, "x": 3, "stop": 1}


@pytest.mark.parametrize("number", ["0", "999999"])
def test_a_record_that_is_not_there_cannot_be_given_up(invoke, directory, number):
    before = content(directory / "journal")
    assert invoke("checkpoint", "repair", str(directory), "--give-up-from", number, "--yes").exit_code == 2
    assert content(directory / "journal") == before


@pytest.mark.parametrize("name", ["repair", "reset"])
def test_what_changes_a_directory_is_refused_while_a_driver_has_it(invoke, directory, name):
    """B7"""
    driver = CheckpointDirectory(str(directory))
    before = content(directory)
    result = invoke("checkpoint", name, str(directory), "--yes")
    assert result.exit_code == 1
    assert f'"pid": {os.getpid()}' in result.output
    assert content(directory) == before
    driver.close()


# -- reset -------------------------------------------------------------------------------------


def test_reset_moves_the_content_aside_and_a_stream_begins_anew(command, left):
    before = content(left / "journal")
    one = command("checkpoint", "reset", "checkpoint")
    assert one.exit_code() == 0, one.err
    (aside,) = left.parent.glob("checkpoint.reset-*")
    assert content(aside / "journal") == before
    stream = command(*run("build"), "--duration", "1.5")
    assert stream.exit_code() == 0, stream.err
    one = command("checkpoint", "export", "checkpoint")
    assert one.exit_code() == 0, one.err
    totals = {entry["key"]: entry["value"] for entry in map(json.loads, one.out.splitlines())}
    assert totals == {"a": 1, "b": 1, "c": 1, "x": 3, "stop": 1}
    again = command("checkpoint", "verify", aside.name)
    assert again.exit_code() == 0, again.err


def test_reset_deletes_only_when_told_and_asks_before(invoke, directory):
    before = content(directory)
    assert invoke("checkpoint", "reset", str(directory), "--delete").exit_code == 1
    assert content(directory) == before
    assert invoke("checkpoint", "reset", str(directory), "--delete", "--yes").exit_code == 0
    assert not (directory / "journal").exists()
    assert list(directory.parent.glob("checkpoint.reset-*")) == []


# -- run ---------------------------------------------------------------------------------------


def run(target: str) -> list[str]:
    """Options of the stream that left the directory."""
    return [
        "run", f"app.py:{target}", "--checkpoint", "checkpoint", "--interval", "0.05", "--master", "local",
        "--drop-unknown-state", "--log-level", "warning",
    ]  # fmt: skip


def test_state_of_a_step_that_is_gone_is_lost_only_when_asked_for(command, left):
    """H3"""
    options = [option for option in run("build_without_state") if option != "--drop-unknown-state"]
    refused = command(*options, "--duration", "1")
    assert refused.exit_code() != 0
    assert "totals" in refused.err
    lost = command(*run("build_without_state"), "--duration", "1")
    assert lost.exit_code() == 0, lost.err
    one = command("checkpoint", "export", "checkpoint")
    assert (one.exit_code(), one.out) == (0, ""), one.err


def test_dropping_state_needs_a_checkpoint(invoke, directory):
    assert invoke("run", "app.py:build", "--drop-unknown-state").exit_code == 2


def test_a_second_stream_on_the_directory_is_refused_and_told_who_has_it(command, left):
    """B7"""
    first = command(*run("build"))
    out = left.parent / "out"
    first.wait_for(lambda _: any('"stop"' in path.read_text() for path in read_committed(out)))
    second = command(*run("build"))
    assert second.exit_code() == 1
    assert f'"pid": {first.process.pid}' in second.err
    assert "Traceback" not in second.err
    first.signal()
    assert first.exit_code() == 0, first.err


STUCK = """
import time
from aiostream_engine.sinks.callback import CallbackSink

class Deaf(CallbackSink):
    async def aclose(self):
        time.sleep(3600)

def write(records):
    print("writing", flush=True)

def build(ssc):
    ssc.queue_stream([["a"]]).to(Deaf(write))
"""


def test_a_process_that_hangs_while_it_stops_ends_all_the_same(command, tmp_path):
    """I1, F7: within the stop timeout and a little more, though the loop itself never runs again."""
    (tmp_path / "stuck.py").write_text(STUCK)
    stream = command(
        "run", "stuck.py:build", "--interval", "0.05", "--master", "local", "--stop-timeout", "0.1"
    )
    stream.wait_for(lambda c: "writing" in c.out)
    stream.signal()
    assert stream.exit_code() == 3


async def test_nothing_is_given_up_from_which_the_rest_could_not_go_on(invoke, tmp_path):
    """C8: the segments that the older commits need were removed."""
    feed(tmp_path, "a", "x")
    directory = tmp_path / "checkpoint"
    checkpoint = CheckpointConfig(str(directory), segment_bytes=1500)
    async with ase.StreamingContext(0.01, "local", checkpoint=checkpoint) as ssc:
        ssc.text_file_stream(str(tmp_path / "in"), name="lines").to(ListSink(), name="out")
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            while list(directory.glob("journal/journal-00000000000000000001-*")):
                await asyncio.sleep(0.01)
    first = records(directory)[0].payload.number
    before = content(directory / "journal")
    result = invoke("checkpoint", "repair", str(directory), "--give-up-from", str(first + 2), "--yes")
    assert result.exit_code == 1
    assert "is not enough to go on from" in " ".join(result.output.split())
    assert content(directory / "journal") == before
    assert invoke("checkpoint", "verify", str(directory)).exit_code == 0
