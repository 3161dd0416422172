"""What people get wrong is refused early, or told in words that help; nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aiostream_engine import DStream, EngineContext, StreamingContext
from aiostream_engine.errors import LifecycleError, OptionError
from aiostream_engine.sinks.callback import CallbackSink

DEADLINE_S = 30.0


async def coroutine_function(*_: Any) -> int:
    return 1


async def async_generator_function(*_: Any):
    yield 1


class AsyncCallable:
    async def __call__(self, *_: Any) -> int:
        return 1


STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "map": lambda data, f: data.map(f),
    "flat_map": lambda data, f: data.flat_map(f),
    "filter": lambda data, f: data.filter(f),
    "map_values": lambda data, f: data.map_values(f),
    "map_partitions": lambda data, f: data.map_partitions(f),
    "map_batches": lambda data, f: data.map_batches(f),
    "reduce_by_key": lambda data, f: data.reduce_by_key(f),
    "key_by": lambda data, f: data.key_by(f),
}
STREAM_STEPS = STEPS | {
    "update_state_by_key": lambda data, f: data.update_state_by_key(f),
    "map_with_state": lambda data, f: data.map_with_state(f),
    "reduce_by_key_and_window": lambda data, f: data.reduce_by_key_and_window(f, None, 1),
    "foreach_partition": lambda data, f: data.foreach_partition(f),
}


@pytest.mark.parametrize(
    "function",
    [coroutine_function, async_generator_function, AsyncCallable()],
    ids=lambda f: type(f).__name__,
)
@pytest.mark.parametrize("step", STEPS)
async def test_a_coroutine_function_in_a_step_of_an_rdd_is_refused_with_advice(step: str, function: Any):
    with pytest.raises(OptionError, match=rf"{step}.*map_async"):
        STEPS[step](EngineContext("local").parallelize([1]), function)


@pytest.mark.parametrize("step", STREAM_STEPS)
async def test_a_coroutine_function_in_a_step_of_a_stream_is_refused_with_advice(step: str):
    stream: DStream[Any] = StreamingContext(0.1, "local").queue_stream()
    with pytest.raises(OptionError, match=rf"{step}.*map_async"):
        STREAM_STEPS[step](stream, coroutine_function)


async def test_a_port_must_be_a_number():
    ssc = StreamingContext(0.1, "local")
    for open_stream in (ssc.socket_text_stream, ssc.socket_server_stream):
        with pytest.raises(OptionError, match="port is '9999'"):
            open_stream("127.0.0.1", "9999")  # type: ignore[arg-type]


async def test_a_broadcast_before_the_start_says_what_to_do():
    with pytest.raises(LifecycleError, match="start it first"):
        EngineContext("local").broadcast(1)


async def test_an_error_of_an_output_names_the_output_and_the_batch():
    def refuse(records: list[Any]) -> None:
        raise RuntimeError("the database is down")

    async with StreamingContext(0.05, "local") as ssc:
        ssc.queue_stream([[1]]).to(CallbackSink(refuse), name="orders")
        with pytest.raises(RuntimeError, match="database") as caught:
            async with asyncio.timeout(DEADLINE_S):
                await ssc.run()
    (note,) = caught.value.__notes__
    assert "output 'orders' of batch 20" in note


async def test_the_log_names_the_output_that_failed(caplog: pytest.LogCaptureFixture):
    def refuse(records: list[Any]) -> None:
        raise RuntimeError("the database is down")

    async with StreamingContext(0.05, "local") as ssc:
        ssc.queue_stream([[1]]).to(CallbackSink(refuse), name="orders")
        with pytest.raises(RuntimeError):
            async with asyncio.timeout(DEADLINE_S):
                await ssc.run()
    assert any("database is down" in text and "'orders'" in text for text in caplog.messages)


async def test_a_receiver_that_cannot_connect_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture, unused_tcp_port: int
):
    async with StreamingContext(0.05, "local") as ssc:
        ssc.socket_text_stream("127.0.0.1", unused_tcp_port).pprint()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            while not any(
                "socket text" in text and "Connect call failed" in text for text in caplog.messages
            ):
                await asyncio.sleep(0.01)
        assert await ssc.stop()


async def test_a_receiver_that_fails_again_and_again_does_not_flood_the_log(caplog: pytest.LogCaptureFixture):
    failures = 0

    async def broken():
        nonlocal failures
        failures += 1
        raise ConnectionError("gone")
        yield

    from aiostream_engine import RetryPolicy

    async with StreamingContext(0.05, "local") as ssc:
        retry = RetryPolicy(attempts_max=None, wait_s=0.001, wait_max_s=0.001)
        ssc.receiver_stream(broken, retry=retry).pprint()
        await ssc.start()
        async with asyncio.timeout(DEADLINE_S):
            while failures < 100:
                await asyncio.sleep(0.01)
        await ssc.stop()
    assert 1 <= sum("gone" in text for text in caplog.messages) <= 10
