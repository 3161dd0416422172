from __future__ import annotations

import asyncio
import io
import json
import os

import pytest

from aiostream_engine.errors import OptionError
from aiostream_engine.sinks.stdout import StdoutSink


async def test_a_batch_is_printed_under_one_header_whatever_its_partitions(key, chunks):
    out = io.StringIO()
    sink = StdoutSink(out)
    await sink.write(key(0, 0, 2), chunks([("a", 1)]))
    await sink.write(key(0, 1, 2), chunks([("b", 2)]))
    rule = "-" * 43
    assert out.getvalue() == f"{rule}\nTime: 2023-11-14 22:13:20.000Z\n{rule}\n('a', 1)\n('b', 2)\n\n"


async def test_only_the_first_records_are_shown_and_the_cut_is_marked_once(key, chunks):
    out = io.StringIO()
    sink = StdoutSink(out, records_max=3)
    await sink.write(key(1, 0, 2), chunks([1, 2], [3, 4]))
    await sink.write(key(1, 1, 2), chunks([5]))
    assert out.getvalue().split("\n")[3:] == ["1", "2", "3", "...", "", ""]


async def test_exactly_as_many_records_as_shown_are_not_marked_as_cut(key, chunks):
    out = io.StringIO()
    await StdoutSink(out, records_max=3).write(key(), chunks([1, 2, 3]))
    assert "..." not in out.getvalue()


async def test_a_cut_at_the_border_of_partitions_is_marked(key, chunks):
    out = io.StringIO()
    sink = StdoutSink(out, records_max=2)
    await sink.write(key(1, 0, 2), chunks([1, 2]))
    await sink.write(key(1, 1, 2), chunks([3]))
    assert out.getvalue().split("\n")[3:] == ["1", "2", "...", "", ""]


async def test_json_lines_hold_every_record_and_nothing_else(key, chunks):
    out = io.StringIO()
    sink = StdoutSink(out, format="json")
    await sink.write(key(), chunks([{"word": "é\n"}], [1, [2]]))
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"word": "é\n"}, 1, [2]]


async def test_control_characters_of_a_record_do_not_reach_the_terminal(key, chunks):
    """J4"""
    out = io.StringIO()
    await StdoutSink(out).write(key(), chunks(["\x1b[2Jgone\r\x9b1m"]))
    assert "\\x1b[2Jgone\\x0d\\x9b1m\n" in out.getvalue()
    assert "\x1b" not in out.getvalue()


async def test_standard_output_is_the_one_of_the_moment(key, chunks, capsys):
    await StdoutSink().write(key(), chunks(["seen"]))
    assert "seen" in capsys.readouterr().out


async def test_a_reader_that_does_not_read_holds_up_the_sink_and_not_the_loop(key, chunks):
    """F3"""
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "w") as stream, os.fdopen(read_fd, "rb") as reader:
        sink = StdoutSink(stream, format="json")
        write = asyncio.create_task(sink.write(key(), chunks(["x" * 1000] * 1000)))
        for _ in range(50):  # the loop turns while the pipe is full
            await asyncio.sleep(0)
        assert not write.done()
        received = 0
        while received < 1_003_000:
            received += len(await asyncio.to_thread(reader.read1, 65536))
        await asyncio.wait_for(write, 20)


def test_an_unknown_format_is_refused():
    with pytest.raises(OptionError, match="pprint"):
        StdoutSink(format="xml")
    with pytest.raises(OptionError, match="records_max"):
        StdoutSink(records_max=-1)
