from __future__ import annotations

import asyncio
import contextvars
import functools
import threading

import pytest

from aiostream_engine.errors import OptionError
from aiostream_engine.sinks.base import IdempotentSink, PlainSink
from aiostream_engine.sinks.callback import CallbackSink, IdempotentCallbackSink, callback_sink


async def test_a_plain_function_of_one_parameter_gets_the_records(key, chunks):
    got = []
    await CallbackSink(got.append).write(key(), chunks([1], [2, 3]))
    assert got == [[1, 2, 3]]


async def test_a_function_of_two_parameters_gets_the_key_as_well(key, chunks):
    got = []

    async def write(records, key):
        got.append((records, key))

    await CallbackSink(write).write(key(7), chunks([1]))
    assert got == [([1], key(7))]


async def test_a_second_parameter_with_a_default_is_left_alone(key, chunks):
    got = []

    def write(records, separator=","):
        got.append((records, separator))

    await CallbackSink(write).write(key(), chunks([1]))
    assert got == [([1], ",")]


async def test_an_optional_second_parameter_named_key_is_filled(key, chunks):
    got = []

    def write(records, key=None):
        got.append(key)

    await CallbackSink(write).write(key(3), chunks([]))
    assert got == [key(3)]


async def test_a_coroutine_from_a_plain_function_is_awaited(key, chunks):
    got = []

    async def write(kind, records):
        got.append((kind, records))

    await CallbackSink(lambda records: write("a", records)).write(key(), chunks([1]))
    await CallbackSink(functools.partial(write, "b")).write(key(), chunks([2]))
    assert got == [("a", [1]), ("b", [2])]


async def test_a_plain_function_runs_off_the_loop_with_the_context_of_the_caller(key, chunks):
    name = contextvars.ContextVar("name")
    name.set("here")
    seen = []

    def write(records):
        seen.append((threading.current_thread() is threading.main_thread(), name.get()))

    await CallbackSink(write).write(key(), chunks([1]))
    assert seen == [(False, "here")]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_no_more_plain_calls_run_at_once_than_allowed(key, chunks, concurrency):
    lock, running, peaks = threading.Lock(), [0], []
    all_in = threading.Barrier(concurrency)

    def write(records):
        with lock:
            running[0] += 1
            peaks.append(running[0])
        all_in.wait(timeout=20)
        with lock:
            running[0] -= 1

    sink = CallbackSink(write, concurrency_max=concurrency)
    await asyncio.gather(*(sink.write(key(i), chunks([i])) for i in range(4)))
    assert max(peaks) == concurrency


async def test_what_the_function_raises_fails_the_write(key, chunks):
    """F6"""

    def write(records):
        raise ConnectionError("down")

    with pytest.raises(ConnectionError, match="down"):
        await CallbackSink(write).write(key(), chunks([1]))


@pytest.mark.parametrize("raised", [StopIteration, SystemExit, KeyboardInterrupt])
async def test_even_an_exit_raised_in_the_thread_is_just_a_failed_write(key, chunks, raised):
    """F6"""

    def write(records):
        raise raised

    with pytest.raises(RuntimeError, match=raised.__name__):
        await CallbackSink(write).write(key(), chunks([1]))


async def test_a_hanging_function_does_not_hold_up_whoever_gives_up(key, chunks):
    """F7"""
    release = threading.Event()
    sink = CallbackSink(lambda records: release.wait(30))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sink.write(key(), chunks([1]))
    release.set()
    await asyncio.wait_for(sink.write(key(), chunks([1])), 20)


@pytest.mark.parametrize("function", [lambda: None, lambda a, b, c: None, 5])
def test_a_function_that_cannot_be_called_this_way_is_refused_at_once(function):
    with pytest.raises(OptionError):
        CallbackSink(function)


async def test_the_kind_says_what_is_promised(key, chunks):
    got = {}
    sink = IdempotentCallbackSink(lambda records, key: got.update({key: records}))
    for _ in range(2):
        await sink.write(key(), chunks([1]))
    assert got == {key(): [1]}
    assert isinstance(sink, IdempotentSink)
    assert isinstance(CallbackSink(print), PlainSink)
    with pytest.raises(OptionError, match="key"):
        IdempotentCallbackSink(lambda records: None)


async def test_a_callback_is_idempotent_only_when_its_user_says_so(key, chunks):
    requests = {}

    def post(records, key):
        requests.setdefault(key.text, records)

    assert isinstance(callback_sink(post), PlainSink)
    sink = callback_sink(post, idempotent=True, name="orders")
    assert isinstance(sink, IdempotentSink)
    assert sink.name == "orders"
    for _ in range(2):
        await sink.write(key(1), chunks([1]))
    await sink.write(key(2), chunks([2]))
    assert requests == {
        "out-1700000000500-0000000001-00000": [1],
        "out-1700000001000-0000000002-00000": [2],
    }


def test_a_callback_without_a_key_cannot_be_declared_idempotent():
    with pytest.raises(OptionError, match="without the key"):
        callback_sink(lambda records: None, idempotent=True)
