"""What waits for a transaction is bounded in memory, without a broker."""

from __future__ import annotations

from aiostream_engine.kafka.packing import PackedBatch
from aiostream_engine.sinks.kafka.staging import SpilledContent, StagedOutput, loaded


def batches(*contents: bytes) -> list[PackedBatch]:
    return [PackedBatch("t", 0, 1, bytearray(content)) for content in contents]


async def contents(staged: StagedOutput, batch_id: int) -> list[bytes]:
    return [bytes((await loaded(batch)).content) for batch in staged.take(batch_id)]


async def test_what_does_not_fit_in_memory_comes_back_from_a_file_in_the_order_of_partitions():
    staged = StagedOutput(bytes_max=10)
    await staged.add(1, 2, batches(b"c" * 6))
    await staged.add(1, 1, batches(b"b" * 4, b"bb"))
    await staged.add(1, 0, batches(b"a" * 9))
    assert (staged.bytes_held, staged.bytes_spilled) == (6, 15)
    assert await contents(staged, 1) == [b"a" * 9, b"b" * 4, b"bb", b"c" * 6]
    assert (staged.bytes_held, staged.bytes_spilled) == (0, 0)


async def test_the_bound_is_that_of_all_batches_together():
    staged = StagedOutput(bytes_max=10)
    await staged.add(1, 0, batches(b"x" * 8))
    await staged.add(2, 0, batches(b"y" * 8))
    assert staged.bytes_held == 8
    assert isinstance(staged.take(2)[0].content, SpilledContent)
    assert await contents(staged, 1) == [b"x" * 8]


async def test_what_is_dropped_leaves_room_for_others():
    staged = StagedOutput(bytes_max=10)
    await staged.add(1, 0, batches(b"x" * 8))
    staged.drop(1)
    await staged.add(2, 0, batches(b"y" * 8))
    assert (staged.bytes_held, staged.bytes_spilled) == (8, 0)


async def test_a_spilled_batch_can_be_read_again_for_another_try():
    staged = StagedOutput(bytes_max=1)
    await staged.add(1, 0, batches(b"again"))
    (batch,) = staged.take(1)
    assert [bytes((await loaded(batch)).content) for _ in range(2)] == [b"again", b"again"]
