"""The sinks under the real engine, in this process."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

import aiostream_engine as ase
from aiostream_engine.config import RetryPolicy
from aiostream_engine.errors import SinkError
from aiostream_engine.observe.listener import StreamingListener
from aiostream_engine.sinks.callback import CallbackSink
from aiostream_engine.sinks.files import JsonLinesFileSink, TextFileSink, read_committed
from aiostream_engine.sinks.memory import ListSink
from aiostream_engine.sinks.retry import retrying
from aiostream_engine.sinks.stdout import StdoutSink

BATCHES = [list(range(10)), [], list(range(10, 15))]
RECORDS = list(range(15))


async def run(sink, *, listener=None):
    async with asyncio.timeout(30):
        async with ase.StreamingContext(interval=0.05, master="local", parallelism=3) as ssc:
            ssc.queue_stream([*BATCHES]).to(sink)
            if listener is not None:
                ssc.add_listener(listener)
            await ssc.start()
            while not await ssc.await_termination(timeout_s=0.02):
                if ssc.statistics().records_total == len(RECORDS):
                    await ssc.stop()
        return ssc


async def test_a_list_sink_holds_what_went_in():
    sink = ListSink()
    await run(sink)
    assert sink.records == RECORDS
    assert [records for records in sink.batches.values() if records] == [BATCHES[0], BATCHES[2]]


async def test_files_of_whole_batches_hold_what_went_in(tmp_path):
    """F10"""
    await run(TextFileSink(tmp_path / "text", durable=False))
    await run(JsonLinesFileSink(tmp_path / "json", durable=False))
    text = "".join(path.read_text() for path in read_committed(tmp_path / "text"))
    lines = "".join(path.read_text() for path in read_committed(tmp_path / "json"))
    assert text == lines == "".join(f"{number}\n" for number in RECORDS)
    assert not list((tmp_path / "text").glob(".*"))


async def test_a_callback_gets_every_partition_with_its_key():
    got = {}
    await run(CallbackSink(lambda records, key: got.update({(key.batch_id, key.partition): records})))
    assert [number for key in sorted(got) for number in got[key]] == RECORDS


async def test_json_lines_come_in_order():
    out = io.StringIO()
    await run(StdoutSink(out, format="json"))
    assert [json.loads(line) for line in out.getvalue().splitlines()] == RECORDS


async def test_a_sink_that_was_down_misses_nothing_and_counts_nothing_twice():
    """F1, F4"""

    class Down(ListSink):
        tries = 0

        async def write(self, key, records):
            self.tries += 1
            await super().write(key, records)
            if self.tries % 3:
                raise ConnectionError("no reply")

    sink = Down()
    await run(retrying(sink, RetryPolicy(attempts_max=None, wait_s=0)))
    assert sink.records == RECORDS


async def test_a_sink_that_stays_down_ends_the_stream_with_an_error_that_names_it():
    """F1"""

    def refuse(records):
        raise ConnectionError("refused")

    sink = retrying(CallbackSink(refuse, name="database"), RetryPolicy(attempts_max=2, wait_s=0))
    with pytest.raises(SinkError, match=r"'database' failed on batch \d+ .*partition 0 of 3 after 2 tries"):
        await run(sink)


async def test_a_listener_hears_the_life_of_the_stream_and_statistics_agree():
    """LIS-1 … LIS-9"""
    heard = []

    class Hears(StreamingListener):
        def on_event(self, event):
            heard.append(type(event).__name__)

    ssc = await run(ListSink(), listener=Hears())
    assert heard.index("StreamingStarted") < heard.index("BatchSubmitted")
    assert heard[-1] == "StreamingStopped"
    assert heard.count("BatchSubmitted") == heard.count("BatchStarted") == heard.count("BatchCompleted") >= 2
    assert heard.index("BatchSubmitted") < heard.index("BatchStarted") < heard.index("BatchCompleted")
    figures = ssc.statistics()
    assert figures.batches_completed == heard.count("BatchCompleted")
    assert figures.records_total == 15
    assert not figures.active
