"""What was fetched ahead is given in order, once, and held as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.kafka.record_batch import Piece, slice_batches
from aiostream_engine.sources.kafka.partition_queue import Budget, PartitionQueue, merged
from tests.kafka.batches import make_batch


@pytest.fixture(scope="module")
def directory() -> Iterator[BlockDirectory]:
    made = BlockDirectory()
    yield made
    made.close()


def queue_of(directory: BlockDirectory, position: int = 0, **options) -> PartitionQueue:
    return PartitionQueue("t", 0, position, Budget(10_000), directory, **options)


def fetched(first: int, count: int, size: int = 10) -> list[Piece]:
    data = make_batch(first, [b"v" * size] * count)
    return slice_batches(memoryview(data), first)


def stored(directory: BlockDirectory, queue: PartitionQueue, piece: Piece, *, inline: bool = False) -> None:
    if inline:
        piece.data, piece.views = b"".join(piece.views), []
    else:
        piece.path, (piece.offset, *_) = directory.writer.write(piece.views)
        piece.views = []
    directory.ledger.retain([queue.block(piece)])
    queue.append(piece)


def fill(directory: BlockDirectory, queue: PartitionQueue, first: int, count: int, **options) -> None:
    for piece in queue.admit(fetched(first, count)):
        stored(directory, queue, piece, **options)


def offsets(queue: PartitionQueue, pieces: list[Piece]) -> list[int]:
    blocks = [queue.block(piece, "record", "bytes", "bytes") for piece in merged(pieces)]
    return [record.offset for block in blocks for chunk in read_chunks(block) for record in chunk]


def test_records_are_taken_in_order_and_once(directory):
    queue = queue_of(directory)
    fill(directory, queue, 0, 5)
    fill(directory, queue, 5, 5)
    first, second = queue.take(7), queue.take(10)
    assert (offsets(queue, first), offsets(queue, second)) == (list(range(7)), [7, 8, 9])
    assert (queue.taken, queue.ready, queue.bytes) == (10, 10, 0)
    directory.ledger.release([queue.block(piece) for piece in (*first, *second)])
    assert directory.ledger.bytes_held == 0


def test_what_lies_behind_the_stop_is_not_taken(directory):
    queue = queue_of(directory, stop=3)
    fill(directory, queue, 0, 5, inline=True)
    assert queue.fetched_all
    assert (queue.ready, queue.ended) == (3, False)
    assert offsets(queue, queue.take(3)) == [0, 1, 2]
    assert queue.ended


def test_pieces_that_are_stored_in_another_order_are_taken_in_the_right_one(directory):
    """E16: the old leader's answer may still be written when the new one's is there."""
    queue = queue_of(directory)
    (one,), (two,) = queue.admit(fetched(0, 3)), queue.admit(fetched(3, 3))
    stored(directory, queue, two, inline=True)
    assert queue.ready == 0
    stored(directory, queue, one, inline=True)
    assert queue.ready == 6
    assert offsets(queue, queue.take(6)) == list(range(6))


@pytest.mark.parametrize("to", [50, 1])
def test_a_leap_keeps_what_was_fetched_and_goes_on_behind_the_lost(directory, to):
    queue = queue_of(directory)
    (slow,) = queue.admit(fetched(0, 3))
    queue.leap(to)
    fill(directory, queue, to, 2, inline=True)
    assert queue.ready == 0  # the piece before the leap is still on its way
    stored(directory, queue, slow, inline=True)
    assert queue.ready == 3
    assert offsets(queue, queue.take(3)) == [0, 1, 2]
    assert (queue.taken, queue.ready) == (to, to + 2)
    assert offsets(queue, queue.take(to + 2)) == [to, to + 1]


def test_the_budget_counts_all_queues_and_gives_each_its_share(directory):
    budget = Budget(1000)
    queues = [PartitionQueue("t", number, 0, budget, directory) for number in range(2)]
    fill(directory, queues[0], 0, 25, inline=True)
    assert not queues[0].wants_more
    assert queues[1].wants_more
    queues[0].drop()
    assert (budget.bytes, budget.queues) == (0, 1)


def test_dropping_lets_go_of_all_that_no_batch_has(directory):
    before = directory.ledger.bytes_held
    queue = queue_of(directory)
    fill(directory, queue, 0, 5)
    queue.admit(fetched(5, 3))
    (late,) = queue.admit(fetched(8, 3))
    stored(directory, queue, late)
    queue.drop()
    assert directory.ledger.bytes_held == before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=6), st.data())
def test_any_cuts_of_any_fetches_give_each_offset_once(directory, fetches, data):
    before = directory.ledger.bytes_held
    queue = queue_of(directory)
    taken: list[Piece] = []
    seen: list[int] = []
    for count, inline in fetches:
        fill(directory, queue, queue.position, count, inline=inline)
        until = data.draw(st.integers(queue.taken, queue.ready))
        pieces = queue.take(until)
        taken += pieces
        seen += offsets(queue, pieces)
    seen += offsets(queue, last := queue.take(queue.ready))
    assert seen == list(range(sum(count for count, _ in fetches)))
    directory.ledger.release([queue.block(piece) for piece in (*taken, *last) if piece.bases])
    assert (directory.ledger.bytes_held, queue.bytes) == (before, 0)
