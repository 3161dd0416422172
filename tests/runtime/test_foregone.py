"""Results that need no task are those that the task would give."""

from __future__ import annotations

import pickle

from aiostream_engine.blocks.formats import encode_records
from aiostream_engine.operators.function import Fn
from aiostream_engine.operators.hashing import stable_hash
from aiostream_engine.operators.kernels import first_n, kernel
from aiostream_engine.operators.partitioners import HashPartitioner
from aiostream_engine.operators.structure import (
    Combiner,
    CountTerminal,
    Leaf,
    Partitioned,
    PartitionOp,
    Record,
    RecordOp,
    ToBlocks,
    ToBuckets,
    ToValue,
)
from aiostream_engine.runtime.foregone import DEAL_BYTES_MAX, foregone_result
from aiostream_engine.types import BlockRef

LEAF = Leaf("pickle")
MAPPED = Record(RecordOp("map", "m", Fn(str)), LEAF)


def block(records: list) -> BlockRef:
    return BlockRef("pickle", encode_records(records), records=len(records))


def test_blocks_that_are_only_kept_are_the_result() -> None:
    blocks = (block([1, 2]), block([3]))
    assert foregone_result(LEAF, ToBlocks(), [blocks], 0).outputs == blocks


def test_record_steps_over_nothing_give_nothing() -> None:
    assert foregone_result(MAPPED, ToBlocks(), [()], 0).outputs == ()
    assert pickle.loads(foregone_result(MAPPED, CountTerminal(), [()], 0).value) == 0
    assert pickle.loads(foregone_result(MAPPED, ToValue("t", kernel(first_n, 3)), [()], 0).value) == []


def test_a_function_of_a_partition_is_called_even_for_an_empty_one() -> None:
    """TR-2"""
    whole = Partitioned(PartitionOp("p", Fn(list)), LEAF)
    assert foregone_result(whole, ToBlocks(), [()], 0) is None
    assert foregone_result(MAPPED, ToValue("t", Fn(list)), [()], 0) is None


def test_empty_input_makes_an_empty_segment_for_each_reducer() -> None:
    combiner = Combiner("add", Fn(max), Fn(max))
    outputs = foregone_result(MAPPED, ToBuckets(HashPartitioner(3), combiner), [()], 0).outputs
    assert [ref.records for ref in outputs] == [0, 0, 0]


def test_a_few_pairs_are_dealt_to_where_their_keys_belong() -> None:
    pairs = [("a", 1), ("b", 2), ("c", 3), ("a", 4)]
    outputs = foregone_result(LEAF, ToBuckets(HashPartitioner(2), None), [(block(pairs),)], 0).outputs
    parts = [pickle.loads(ref.data) for ref in outputs]
    assert parts == [[pair for pair in pairs if stable_hash(pair[0]) % 2 == index] for index in (0, 1)]


def test_many_pairs_mapped_pairs_and_bad_keys_are_left_to_a_task() -> None:
    deal = ToBuckets(HashPartitioner(2), None)
    assert foregone_result(LEAF, deal, [(block([("k" * DEAL_BYTES_MAX, 1)]),)], 0) is None
    assert foregone_result(MAPPED, deal, [(block([("a", 1)]),)], 0) is None
    assert foregone_result(LEAF, deal, [(block([([], 1)]),)], 0) is None
