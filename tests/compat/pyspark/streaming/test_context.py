"""The life of a StreamingContext of the layer."""

from __future__ import annotations

import itertools
import os
import socket
import threading

import pytest

from aiostream_engine.compat.pyspark.conf import SparkConf
from aiostream_engine.compat.pyspark.errors import (
    IllegalArgumentException,
    PythonException,
    SparkRuntimeException,
)
from aiostream_engine.compat.pyspark.streaming import DStream, StreamingContext, StreamingListener
from tests.compat.pyspark.streaming.cases import DEADLINE_S, Batches, wait_for
from tests.compat.pyspark.streaming.conftest import INTERVAL_S


def ignore(rdd):
    pass


def test_batches_come_at_multiples_of_the_interval(ssc):
    """Row CTX-22."""
    batches = Batches(ssc.queueStream([[1], [2, 3]]))
    ssc.start()
    assert batches.first(3) == [[1], [2, 3], []]
    labels = [round(time.timestamp() * 1000) for time in batches.times[:3]]
    assert all(label % 50 == 0 for label in labels)
    assert labels[1] - labels[0] == labels[2] - labels[1] == 50
    assert batches.times[0].tzinfo is None


def test_a_stream_without_outputs_does_not_start(ssc):
    ssc.queueStream([[1]])
    with pytest.raises(IllegalArgumentException, match="No output operations registered, so"):
        ssc.start()


def test_a_second_start_does_nothing_and_a_stopped_one_raises(ssc, caplog):
    """Rows CTX-5, CTX-6."""
    ssc.queueStream([[1]]).foreachRDD(ignore)
    ssc.start()
    ssc.start()
    assert "already been started" in caplog.text
    assert StreamingContext.getActive() is ssc
    ssc.stop(stopSparkContext=False)
    assert StreamingContext.getActive() is None
    with pytest.raises(SparkRuntimeException, match="already been stopped"):
        ssc.start()


def test_only_one_context_may_run(ssc, sc):
    """Row CTX-7: the other one can be started later."""
    ssc.queueStream([[1]]).foreachRDD(ignore)
    ssc.start()
    other = StreamingContext(sc, INTERVAL_S)
    other.queueStream([[1]]).foreachRDD(ignore)
    with pytest.raises(SparkRuntimeException, match="Only one StreamingContext may be started"):
        other.start()
    ssc.stop(stopSparkContext=False)
    other.start()
    other.stop(stopSparkContext=False)


@pytest.mark.parametrize("what", ["input", "step", "output", "window"])
def test_nothing_is_added_after_the_start(ssc, what):
    """Row CTX-17."""
    stream = ssc.queueStream([[1]])
    stream.foreachRDD(ignore)
    ssc.start()
    add = {
        "input": lambda: ssc.queueStream([[1]]),
        "step": lambda: stream.map(str),
        "output": lambda: stream.pprint(),
        "window": lambda: stream.window(1),
    }[what]
    with pytest.raises(SparkRuntimeException, match="after starting a context is not supported"):
        add()


@pytest.mark.parametrize(
    "make",
    [
        lambda pairs: pairs.updateStateByKey(lambda new, old: 1),
        lambda pairs: pairs.reduceByKeyAndWindow(max, min, 0.1, 0.05),
        lambda pairs: pairs.countByWindow(0.1, 0.05),
        lambda pairs: pairs.map(str).checkpoint(0.1),
    ],
)
def test_what_needs_a_checkpoint_directory_does_not_start_without(ssc, make):
    """Rows CKP-2, UST-7."""
    make(ssc.queueStream([[(1, 2)]])).foreachRDD(ignore)
    with pytest.raises(IllegalArgumentException, match="checkpoint directory has not been set"):
        ssc.start()


@pytest.mark.parametrize(("interval", "text"), [(0.01, "lower than its slide"), (0.12, "not a multiple of")])
def test_a_checkpoint_interval_is_checked_at_start(ssc, tmp_path, interval, text):
    ssc.checkpoint(str(tmp_path))
    ssc.queueStream([[1]]).map(str).checkpoint(interval).foreachRDD(ignore)
    with pytest.raises(IllegalArgumentException, match=text):
        ssc.start()


def test_the_error_of_a_callback_reaches_the_waiter_and_the_stream_goes_on(ssc):
    """Rows CTX-15, SCH-6, SCH-8."""

    def fail(time, rdd):
        raise LookupError("on purpose")

    stream = ssc.queueStream([[1]])
    stream.foreachRDD(fail)
    batches = Batches(stream)
    ssc.start()
    with pytest.raises(LookupError, match="on purpose") as caught:
        ssc.awaitTermination(DEADLINE_S)
    assert caught.traceback[-1].name == "fail"
    batches.first(3)
    with pytest.raises(LookupError, match="on purpose"):
        ssc.awaitTerminationOrTimeout(0)


def test_the_error_of_a_worker_comes_with_its_traceback(ssc):
    def divide(x):
        return 1 // x

    Batches(ssc.queueStream([[0]]).map(divide))
    ssc.start()
    with pytest.raises(PythonException, match=r"(?s)in divide.*ZeroDivisionError"):
        ssc.awaitTermination(DEADLINE_S)


def test_the_error_of_a_transform_leaves_its_batch_without_outputs(ssc):
    """Rows TR-15, SCH-7: the outputs of other streams do not run either, the next batch does."""
    calls = []

    def fail_once(rdd):
        calls.append(1)
        if len(calls) == 1:
            raise LookupError("on purpose")
        return rdd

    stream = ssc.queueStream([[1], [2]])
    before = Batches(stream)
    after = Batches(stream.transform(fail_once))
    ssc.start()
    assert after.first(1) == [[2]]
    assert before.first(1) == [[2]]
    with pytest.raises(LookupError, match="on purpose"):
        ssc.awaitTermination(DEADLINE_S)


def test_sys_exit_in_a_callback_is_an_error_of_the_stream(ssc):
    ssc.queueStream([[1]]).foreachRDD(lambda rdd: os.sys.exit(3))
    ssc.start()
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        ssc.awaitTermination(DEADLINE_S)


def test_waiting_ends_with_the_stop(ssc):
    ssc.queueStream([[1]]).foreachRDD(ignore)
    ssc.start()
    assert ssc.awaitTerminationOrTimeout(0.01) is False
    assert ssc.awaitTermination(0.01) is None
    threading.Timer(0.01, ssc.stop, [False]).start()
    ssc.awaitTermination()
    assert ssc.awaitTerminationOrTimeout(0) is True


def test_a_callback_may_stop_its_own_stream(ssc):
    """Rows CTX-12, CTX-13."""
    ssc.queueStream([[1]]).foreachRDD(lambda rdd: ssc.stop(stopSparkContext=False))
    ssc.start()
    assert ssc.awaitTerminationOrTimeout(DEADLINE_S) is True


def test_outputs_run_one_by_one_in_order_in_one_thread(ssc):
    """Row OUT-2."""
    calls = []

    def note(name):
        return lambda rdd: calls.append((name, rdd.count(), threading.current_thread().name))

    stream = ssc.queueStream([[1], [2, 3]])
    stream.foreachRDD(note("a"))
    stream.foreachRDD(note("b"))
    ssc.start()
    wait_for(lambda: len(calls) >= 4)
    assert [call[:2] for call in calls[:4]] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {call[2] for call in calls} == {"streaming-outputs"}


def test_a_graceful_stop_leaves_the_queue_and_finishes_what_was_cut(ssc):
    """Row STP-6."""
    batches = Batches(ssc.queueStream([[number] for number in range(1000)]))
    ssc.start()
    batches.first(2)
    ssc.stop(stopSparkContext=False, stopGraceFully=True)
    assert batches.contents == [[number] for number in range(len(batches.contents))]
    assert len(batches.contents) < 1000


def test_get_active_or_create(ssc):
    """Row CTX-21."""
    with pytest.raises(TypeError, match="callable"):
        StreamingContext.getActiveOrCreate(None, "no function")
    assert StreamingContext.getActiveOrCreate(None, lambda: ssc) is ssc
    ssc.queueStream([[1]]).foreachRDD(ignore)
    ssc.start()
    assert StreamingContext.getActiveOrCreate(None, lambda: None) is ssc


def test_union_is_checked(ssc):
    stream = ssc.queueStream([[1]])
    assert ssc.union(stream) is stream
    with pytest.raises(ValueError, match="at least one"):
        ssc.union()
    with pytest.raises(ValueError, match="same slide duration"):
        ssc.union(stream, stream.window(0.1, 0.1))
    with pytest.raises(ValueError, match="same slide duration"):
        stream.union(stream.window(0.1, 0.1))


def test_a_batch_duration_must_be_above_zero(sc):
    with pytest.raises(IllegalArgumentException, match="batch duration"):
        StreamingContext(sc, 0.0001)


def test_lines_of_a_socket(ssc):
    with socket.create_server(("127.0.0.1", 0)) as server:
        batches = Batches(ssc.socketTextStream(*server.getsockname()).flatMap(str.split))
        ssc.start()
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"to be\nor not\n")
            wait_for(lambda: batches.records() == ["to", "be", "or", "not"])


def test_files_that_appear(ssc, tmp_path):
    inbox = tmp_path / "in"
    inbox.mkdir()
    (inbox / "old").write_text("old\n")
    lines = Batches(ssc.textFileStream(f"file://{inbox}"))
    records = Batches(ssc.binaryRecordsStream(str(inbox), 2))
    ssc.start()
    (tmp_path / "new").write_text("a\n")
    os.replace(tmp_path / "new", inbox / "new")
    wait_for(lambda: lines.records() == ["a"] and records.records() == [b"a\n"])


def test_directories_of_other_file_systems_are_refused(ssc):
    with pytest.raises(NotImplementedError, match="only local directories"):
        ssc.textFileStream("hdfs://name/in")


def test_a_duration_must_be_given(sc):
    with pytest.raises(AssertionError, match="batch duration"):
        StreamingContext(sc)


def test_a_callback_may_return_something_and_must_take_one_or_two_arguments(ssc):
    stream, called = ssc.queueStream([[1, 2]]), []
    stream.foreachRDD(lambda rdd: called.append(rdd.collect()) or [1])
    with pytest.raises(AssertionError, match="one or two arguments"):
        stream.foreachRDD(lambda a, b, c: None)
    ssc.start()
    wait_for(lambda: len(called) >= 2)
    assert called[0] == [1, 2]
    assert ssc.awaitTerminationOrTimeout(0) is False


class Heard(StreamingListener):
    def __init__(self):
        self.events = []

    def onStreamingStarted(self, streamingStarted):
        self.events.append(("started", streamingStarted.time > 0))

    def onBatchCompleted(self, batchCompleted):
        info = batchCompleted.batchInfo()
        self.events.append(("batch", info.batchTime().milliseconds() % 50, info.processingDelay() >= 0))
        raise RuntimeError("a listener must not disturb")

    def onOutputOperationCompleted(self, outputOperationCompleted):
        info = outputOperationCompleted.outputOperationInfo()
        self.events.append(("output", info.name(), info.failureReason()))


def test_listeners_hear_of_batches_and_outputs(ssc):
    """Rows LIS-1 … LIS-13."""
    heard = Heard()
    ssc.addStreamingListener(heard)
    ssc.queueStream([[1]]).foreachRDD(ignore)
    ssc.start()
    wait_for(lambda: len(heard.events) >= 5)
    output, batch = ("output", "foreachRDD", None), ("batch", 0, True)
    assert heard.events[:5] == [("started", True), output, batch, output, batch]


def test_listeners_hear_of_inputs_but_for_queues(ssc, tmp_path):
    """Spark's queues report no input."""
    inputs = []

    class Inputs(StreamingListener):
        def onBatchCompleted(self, batchCompleted):
            inputs.append(batchCompleted.batchInfo().streamIdToInputInfo())

    ssc.addStreamingListener(Inputs())
    ssc.queueStream([[1]]).union(ssc.textFileStream(str(tmp_path))).foreachRDD(ignore)
    ssc.start()
    wait_for(lambda: inputs)
    assert inputs[0].size() == 1


def test_batches_without_outputs_have_no_events(ssc):
    """Row LIS-16."""
    times = []

    class Times(StreamingListener):
        def onBatchSubmitted(self, batchSubmitted):
            times.append(int(batchSubmitted.batchInfo().batchTime()))

    ssc.addStreamingListener(Times())
    batches = Batches(ssc.queueStream([[1]]).window(0.1, 0.1))
    ssc.start()
    batches.first(3)
    assert [later - earlier for earlier, later in itertools.pairwise(times[:3])] == [100, 100]


def test_conf_says_how_missed_ticks_and_jobs_are_treated(sc):
    from aiostream_engine.compat.pyspark.streaming.settings import backpressure_of, scheduler_of

    conf = SparkConf().set("spark.aiostream.missedTicks", "every").set("spark.streaming.concurrentJobs", "3")
    conf.set("spark.streaming.gracefulStopTimeout", "2s").set("spark.streaming.receiver.maxRate", "10")
    scheduler = scheduler_of(conf, 1.0)
    assert (scheduler.missed_ticks, scheduler.concurrent_batches) == ("every", 3)
    assert scheduler.stop_timeout_s == 2.0
    assert (backpressure_of(conf).enabled, backpressure_of(conf).rate_max) == (False, 10.0)
    conf.set("spark.streaming.backpressure.enabled", "true")
    assert (backpressure_of(conf).enabled, backpressure_of(conf).initial_rate) == (True, 10.0)
    with pytest.raises(IllegalArgumentException, match="missedTicks is 'never'"):
        scheduler_of(conf.set("spark.aiostream.missedTicks", "never"), 1.0)
    with pytest.raises(IllegalArgumentException, match="gracefulStopTimeout is 'soon'"):
        scheduler_of(SparkConf().set("spark.streaming.gracefulStopTimeout", "soon"), 1.0)


def test_streams_stay_in_the_driver(ssc):
    stream = ssc.queueStream([[1]])
    assert isinstance(stream, DStream)
    assert stream.context() is ssc
    Batches(stream.map(lambda x: stream))
    ssc.start()
    with pytest.raises(Exception, match="DStream"):
        ssc.awaitTermination(DEADLINE_S)
