from __future__ import annotations

import re
import signal

import pytest

from aiostream_engine.cli.options import bytes_of
from aiostream_engine.cli.run import ContextOptions, StateBackend
from aiostream_engine.config import StateConfig
from aiostream_engine.errors import OptionError

APP = """
import asyncio
import operator
import sys

def words_of(line):
    return line.split()

def pair(word):
    return word, 1

async def show(rdd, time):
    counts = await rdd.collect_as_map()
    if counts:
        print("counts", sorted(counts.items()), flush=True)

def build(ssc):
    lines = ssc.queue_stream([["a b a", "b a"], ["c"]])
    lines.flat_map(words_of).map(pair).reduce_by_key(operator.add).foreach_rdd(show)

async def build_async(ssc, arguments):
    print("arguments", arguments, sys.argv, flush=True)
    await asyncio.sleep(0)
    build(ssc)

def make():
    import aiostream_engine as ase
    ssc = ase.StreamingContext(interval=0.1, master="local")
    build(ssc)
    return ssc

def fails(ssc):
    ssc.queue_stream([["a b"], ["1"]]).map(int).foreach_rdd(show)

def stuck(ssc):
    async def hang(rdd, time):
        print("hanging", flush=True)
        await asyncio.Event().wait()
    ssc.queue_stream([["a"]]).foreach_rdd(hang)

def raises(ssc):
    raise LookupError("no such table")

def empty(ssc):
    pass

def nothing():
    pass

number = 5
"""


@pytest.fixture(autouse=True)
def app_file(tmp_path):
    (tmp_path / "job.py").write_text(APP)


def is_counted(one):
    return "counts [('a', 3), ('b', 2)]" in one.out


@pytest.mark.parametrize("target", ["job:build", "job.py:build", "job:make", "job:build_async"])
def test_a_target_of_each_kind_runs_for_its_duration_and_exits_with_zero(command, target):
    options = [] if target == "job:make" else ["--master", "local[2]", "--interval", "0.1"]
    one = command("run", target, *options, "--duration", "1.5")
    assert one.exit_code() == 0, one.err
    assert is_counted(one)
    assert "drained after 1.5 s" in one.err


def test_arguments_after_the_dashes_reach_the_application(command):
    one = command("run", "job:build_async", "--interval", "0.1", "--duration", "0", "--", "--topic", "x")
    assert one.exit_code() == 0, one.err
    assert "arguments ['--topic', 'x'] ['job:build_async', '--topic', 'x']" in one.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
def test_a_signal_drains_and_exits_with_zero(command, number, loop):
    """I1"""
    one = command("run", "job:build", "--master", "local[1]", "--interval", "0.1", loop)
    one.wait_for(is_counted)
    one.signal(number)
    assert one.exit_code() == 0, one.err
    assert "drained" in one.err


def test_a_second_signal_stops_at_once_and_exits_with_three(command):
    """I1"""
    one = command("run", "job:stuck", "--master", "local", "--interval", "0.1")
    one.wait_for(lambda c: "hanging" in c.out)
    one.signal()
    one.wait_for(lambda c: "once more" in c.err)
    assert one.process.poll() is None
    one.signal()
    assert one.exit_code() == 3
    assert "stopped by force" in one.err


def test_a_drain_that_takes_too_long_exits_with_three(command):
    """I1, F7"""
    one = command("run", "job:stuck", "--master", "local", "--interval", "0.1", "--stop-timeout", "0.3")
    one.wait_for(lambda c: "hanging" in c.out)
    one.signal()
    assert one.exit_code() == 3
    assert "not drained within 0.3 s" in one.err


def test_a_failing_stream_exits_with_one_and_says_step_and_record(command):
    one = command("run", "job:fails", "--master", "local[1]", "--interval", "0.1")
    assert one.exit_code() == 1
    assert "StepError" in one.err
    assert "'a b'" in one.err


def test_an_application_that_cannot_be_built_exits_with_one_and_its_traceback(command):
    one = command("run", "job:raises")
    assert one.exit_code() == 1
    assert "LookupError: no such table" in one.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["job:bild"], "it has: build"),
        (["job"], "module:function"),
        (["nothing:x"], "no module"),
        (["job:number"], "not a function"),
        (["job:nothing"], "must return a StreamingContext"),
        (["job:make", "--interval", "1"], "--interval would be ignored"),
        (["job:build", "--master", "spark://x"], "not understood"),
        (["job:build", "--interval", "-1"], "--interval"),
        (["job:build", "--trigger", "never"], "--trigger"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what_is_right(command, arguments, text):
    one = command("run", *arguments)
    assert one.exit_code() == 2, one.err
    assert text in re.sub(r"[\s│]+", " ", one.err)
    assert "Traceback" not in one.err


def test_the_view_writes_lines_and_a_summary(command):
    one = command("run", "job:build", "--master", "local", "--interval", "0.1", "--duration", "2.5", "--view")
    assert one.exit_code() == 0, one.err
    assert "batches=" in one.err
    assert "summary of job:build" in one.err


def test_explain_prints_graph_and_plans_and_starts_nothing(command):
    one = command("explain", "job:build")
    assert one.exit_code() == 0, one.err
    assert "reduce_by_key" in one.out
    assert "counts" not in one.out


def test_explain_of_a_wrong_target_exits_with_two(command):
    one = command("explain", "job:number")
    assert one.exit_code() == 2


def test_state_goes_on_disk_where_the_options_say_so():
    options = ContextOptions(None, None, None, state=StateBackend.DISK, state_memory="64MB")
    assert options.names == ["--state"]
    assert options.make().engine._state == StateConfig("disk", 64_000_000)


@pytest.mark.parametrize(
    ("text", "size"), [("70000", 70_000), ("1.5 KiB", 1536), ("512mb", 512_000_000), ("2GiB", 2 << 30)]
)
def test_a_size_is_written_with_or_without_a_unit(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "5 apples", "1e3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(OptionError, match="is no size"):
        bytes_of(text)


@pytest.mark.parametrize(
    "arguments", [["--state-memory", "64MB"], ["--state", "disk", "--state-memory", "1"]]
)
def test_a_bound_of_memory_that_means_nothing_is_wrong_usage(invoke, arguments):
    assert invoke("run", "app.py:build", *arguments).exit_code == 2
