"""Scripted sources."""

import pytest

from aiostream_engine.blocks.directory import BlockDirectory
from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.errors import LifecycleError, SourceError
from aiostream_engine.sources.base import BatchInput, EphemeralSource, ReplayableSource, SourceContext
from aiostream_engine.testing import ABORT, EOF, PAUSE, RAISE, ScriptedReplayableSource, ScriptedSource
from aiostream_engine.types import BatchTime


@pytest.fixture
def context():
    directory = BlockDirectory()
    yield SourceContext(7, directory)
    directory.close()


def records(batch: BatchInput) -> list[object]:
    return [record for block in batch.blocks for chunk in read_chunks(block) for record in chunk]


async def play(source, context: SourceContext, cuts: int) -> list[object]:
    """What each cut gave: records, or the exception."""
    await source.start(context)
    played: list[object] = []
    for number in range(cuts):
        try:
            played.append(records(await source.cut(BatchTime(number + 1))))
        except Exception as error:
            played.append(error)
    return played


async def test_each_cut_plays_one_item(context):
    source = ScriptedSource([[1, 2], PAUSE, ["x"]])
    assert await play(source, context, 4) == [[1, 2], [], ["x"], []]
    assert source.cuts == [1, 2, 3, 4]


async def test_nothing_behind_eof_is_played_and_the_source_is_finished(context):
    source = ScriptedSource([[1], EOF, [2]])
    assert not source.finished
    assert await play(source, context, 3) == [[1], [], []]
    assert source.finished


async def test_a_script_without_eof_is_not_finished_until_the_source_is_stopped(context):
    source = ScriptedSource([[1]])
    await play(source, context, 1)
    assert not source.finished
    await source.stop()
    assert source.finished


async def test_raise_raises_once_and_the_script_goes_on(context):
    error = OSError("no route")
    assert await play(ScriptedSource([RAISE(error), [1]]), context, 2) == [error, [1]]


async def test_abort_kills_the_source_for_good(context):
    source = ScriptedSource([[1], ABORT, [2]])
    first, *others = await play(source, context, 3)
    assert first == [1]
    assert [type(other) for other in others] == [SourceError, SourceError]
    assert not source.info().active


async def test_a_replay_from_a_position_gives_what_came_after_it(context):
    script = [[1], [2], ABORT, [3]]
    source = ScriptedReplayableSource(script)
    await source.start(context)
    positions = [(await source.cut(BatchTime(number))).position for number in (1, 2)]
    assert await play(ScriptedReplayableSource(script, position=positions[0]), context, 1) == [[2]]
    assert await play(ScriptedReplayableSource(script, position=positions[1] + 1), context, 1) == [[3]]


def test_the_two_kinds_differ_in_their_contract():
    assert isinstance(ScriptedSource(), EphemeralSource)
    assert isinstance(ScriptedReplayableSource(), ReplayableSource)


async def test_items_can_be_appended_while_it_runs_and_wake_the_trigger(context):
    woken = []
    context.notify = lambda: woken.append(True)
    source = ScriptedSource()
    await source.start(context)
    assert not source.pending
    assert not woken
    source.append([5])
    assert source.pending
    assert woken
    assert records(await source.cut(BatchTime(1))) == [5]


async def test_records_are_spread_over_partitions_in_order(context):
    source = ScriptedSource([list(range(10)), [1]], partitions=4)
    await source.start(context)
    batch = await source.cut(BatchTime(1))
    assert len(batch.blocks) == 4
    assert records(batch) == list(range(10))
    assert [block.records for block in batch.blocks] == [2, 3, 2, 3]
    assert len((await source.cut(BatchTime(2))).blocks) == 1


async def test_large_batches_lie_in_a_file_that_the_ledger_holds_once(context):
    source = ScriptedSource([["x" * 1000] * 1000 + ["y" * 500_000]])
    await source.start(context)
    (block,) = (await source.cut(BatchTime(1))).blocks
    assert block.data is None
    assert context.directory.ledger.holds(block.path)
    assert next(iter(read_chunks(block)))[-1] == "y" * 500_000
    context.directory.ledger.release([block])
    assert not context.directory.ledger.holds(block.path)


async def test_it_remembers_what_the_engine_did_to_it(context):
    source = ScriptedSource([[1]])
    await source.start(context)
    source.set_rate(5.0)
    await source.on_commit(BatchTime(1))
    await source.aclose()
    assert (source.rates, source.commits, source.closed) == ([5.0], [1], True)
    assert source.info().rate_limit == 5.0


async def test_a_source_that_was_not_started_cannot_be_cut():
    with pytest.raises(LifecycleError, match="not started"):
        await ScriptedSource([[1]]).cut(BatchTime(1))
