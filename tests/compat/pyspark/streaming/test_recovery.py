"""Streams with a SparkContext of their own: what ends with it, and what a restart finds."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from aiostream_engine.compat.pyspark.context import SparkContext
from aiostream_engine.compat.pyspark.streaming import StreamingContext
from tests.compat.pyspark.streaming.cases import DEADLINE_S, wait_for
from tests.compat.pyspark.streaming.conftest import INTERVAL_S


def ignore(rdd):
    pass


def add_up(new, total):
    return sum(new) + (total or 0)


def test_stopping_takes_the_spark_context_along_unless_told_otherwise():
    """Row CTX-10, also of a stream that was never started."""
    sc = SparkContext("local[1]", "alone")
    ssc = StreamingContext(sc, INTERVAL_S)
    assert ssc.sparkContext is sc
    ssc.stop(stopSparkContext=False)
    assert sc.parallelize([1]).count() == 1
    ssc.stop()
    assert SparkContext._active_spark_context is None


def test_a_stopped_spark_context_ends_its_stream():
    sc = SparkContext("local[1]", "alone")
    ssc = StreamingContext(sc, INTERVAL_S)
    ssc.queueStream([[1]]).foreachRDD(ignore)
    ssc.start()
    sc.stop()
    assert ssc.awaitTerminationOrTimeout(DEADLINE_S) is True
    assert StreamingContext.getActive() is None


class Lines:
    """A TCP server that sends what it is given to whoever is connected."""

    def __init__(self):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()
        self._connections = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                self._connections.append(self._server.accept()[0])
            except OSError:
                return

    def send(self, text):
        wait_for(lambda: self._connections)
        self._connections[-1].sendall(text.encode())

    def drop(self):
        while self._connections:
            self._connections.pop().close()

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(DEADLINE_S)
        self._server.close()
        self.drop()


@pytest.fixture
def lines():
    server = Lines()
    yield server
    server.close()


class Program:
    """A word count with a state, made as programs with getOrCreate make it."""

    def __init__(self, checkpoint, lines, fails=()):
        self.checkpoint, self.lines, self.fails = str(checkpoint), lines, list(fails)
        self.state, self.window = {}, {}

    def build(self):
        ssc = StreamingContext(SparkContext.getOrCreate(), INTERVAL_S)
        words = ssc.socketTextStream(*self.lines.address).map(lambda word: (word, 1))
        words.updateStateByKey(add_up, 2).foreachRDD(self.take)
        return ssc

    def take(self, rdd):
        found = dict(rdd.collect())
        if self.fails and found.get("fail"):
            raise self.fails.pop()
        self.state = found

    def get_or_create(self):
        return StreamingContext.getOrCreate(self.checkpoint, self.build)


@pytest.fixture
def stops():
    yield
    active = StreamingContext.getActive()
    if active is not None:
        active.stop(stopSparkContext=False)
    context = SparkContext._active_spark_context
    if context is not None:
        context.stop()


def test_state_goes_on_after_a_restart(tmp_path, lines, stops):
    """Rows CTX-21, CKP-13: the function is called again, the data comes from the directory."""
    SparkContext("local[2]", "first")
    program = Program(tmp_path / "checkpoint", lines)
    ssc = program.get_or_create()
    ssc.start()
    lines.send("a\nb\na\n")
    wait_for(lambda: program.state == {"a": 2, "b": 1})
    ssc.stop()
    lines.drop()
    SparkContext("local[2]", "second")
    again = Program(tmp_path / "checkpoint", lines)
    ssc = again.get_or_create()
    ssc.start()
    wait_for(lambda: again.state == {"a": 2, "b": 1})
    lines.send("a\n")
    wait_for(lambda: again.state == {"a": 3, "b": 1})


def test_without_get_or_create_a_start_begins_anew(tmp_path, lines, stops):
    SparkContext("local[2]", "anew")
    for expected in ({"a": 1}, {"a": 1}):
        program = Program(tmp_path / "checkpoint", lines)
        ssc = program.build()
        ssc.checkpoint(program.checkpoint)
        ssc.start()
        lines.send("a\n")
        wait_for(lambda expected=expected, program=program: program.state == expected)
        ssc.stop(stopSparkContext=False)
        lines.drop()
    assert len(os.listdir(tmp_path / "checkpoint")) == 2


def test_old_runs_are_removed(tmp_path, lines, stops):
    SparkContext("local[2]", "runs")
    for _ in range(4):
        program = Program(tmp_path / "checkpoint", lines)
        ssc = program.build()
        ssc.checkpoint(program.checkpoint)
        ssc.start()
        ssc.stop(stopSparkContext=False)
    assert len(os.listdir(tmp_path / "checkpoint")) == 2


def test_a_batch_that_failed_runs_again_after_a_restart(tmp_path, lines, stops):
    """Row CKP-10: a stream from getOrCreate stops at an error, so that nothing is lost."""
    SparkContext("local[2]", "failing")
    program = Program(tmp_path / "checkpoint", lines, fails=[LookupError("on purpose")])
    ssc = program.get_or_create()
    ssc.start()
    lines.send("a\nfail\n")
    with pytest.raises(LookupError, match="on purpose"):
        ssc.awaitTermination(DEADLINE_S)
    wait_for(lambda: StreamingContext.getActive() is None)
    ssc.stop(stopSparkContext=False)
    lines.drop()
    again = Program(tmp_path / "checkpoint", lines)
    again.get_or_create().start()
    lines.send("b\n")
    wait_for(lambda: again.state.get("b") == 1)
