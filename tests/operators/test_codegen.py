"""What the generated code of a stage promises: the steps' answers, and the blame for what they raise."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.operators import kernels
from aiostream_engine.operators.codegen import RECORDS_BUFFERED_MAX, compile_stage
from aiostream_engine.operators.kernels import kernel
from aiostream_engine.operators.partitioners import HashPartitioner, RoundRobin
from aiostream_engine.operators.structure import (
    Combiner,
    Concat,
    CountTerminal,
    ErrorPolicy,
    Merge,
    Multi,
    PartitionOp,
    RecordOp,
    Structure,
    Terminal,
    ToBlocks,
    ToBuckets,
    ToValue,
)
from aiostream_engine.types import OnError
from tests.operators.stages import (
    LINES,
    PICKLES,
    StageRunner,
    combiner,
    op,
    partition_op,
    pickled,
    records_of,
    steps,
    text,
)


@pytest.fixture
def stage(tmp_path: Path) -> StageRunner:
    return StageRunner(tmp_path)


def source_of(structure: Structure, terminal: Terminal | None = None) -> str:
    return compile_stage(structure, terminal or ToBlocks()).source


# -- each kind of step ---------------------------------------------------------------------------

PAIRS = [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("step", "given", "expected"),
    [
        (op("map", lambda x: x + 1), [1, 2], [2, 3]),
        (op("filter", lambda x: x % 2), [1, 2, 3], [1, 3]),
        (op("flat_map", range), [0, 2, 3], [0, 1, 0, 1, 2]),
        (op("map_values", lambda v: v * 10), PAIRS, [("a", 10), ("b", 20)]),
        (op("flat_map_values", range), PAIRS, [("a", 0), ("b", 0), ("b", 1)]),
        (op("key_by", str), [1, 2], [("1", 1), ("2", 2)]),
        (op("keys"), PAIRS, ["a", "b"]),
        (op("values"), PAIRS, [1, 2]),
    ],
    ids=lambda value: value.kind if isinstance(value, RecordOp) else None,
)
@pytest.mark.parametrize("policy", [None, ErrorPolicy(OnError.SKIP)], ids=["plain", "guarded"])
def test_each_kind_of_step_gives_its_records(
    stage: StageRunner, step: RecordOp, given: list[Any], expected: list[Any], policy: ErrorPolicy | None
) -> None:
    guarded = RecordOp(step.kind, step.step, step.fn, policy if step.fn else None)
    assert stage.records(steps(guarded), [pickled(*given)]) == expected


def test_an_expression_takes_the_place_of_the_call(stage: StageRunner) -> None:
    inlined = RecordOp("map", "double", expression="{x} + {x}")
    assert stage.records(steps(inlined), [pickled(1, 2)]) == [2, 4]


def test_a_filter_behind_a_flat_map_drops_the_item_and_not_the_record(stage: StageRunner) -> None:
    structure = steps(op("flat_map", range), op("filter", lambda x: x != 1), op("map", str))
    assert stage.records(structure, [pickled(3, 2)]) == ["0", "2", "0"]


def test_a_partition_step_sees_the_records_of_the_steps_below_it(stage: StageRunner) -> None:
    structure = steps(op("map", lambda x: x * 2), partition_op(sum_of), op("map", str))
    assert stage.records(structure, [pickled(1, 2), pickled(3)]) == ["12"]


def sum_of(records: Iterable[int]) -> list[int]:
    return [sum(records)]


def test_steps_read_all_blocks_of_an_input_in_order(stage: StageRunner) -> None:
    assert stage.records(steps(op("map", abs)), [pickled(-1), pickled(), pickled(-2, 3)]) == [1, 2, 3]


def test_lines_come_without_their_ends(stage: StageRunner) -> None:
    assert stage.records(steps(op("map", str.upper), over=LINES), [text("a\nb c\r\n\nd")]) == [
        "A",
        "B C",
        "",
        "D",
    ]


def test_several_inputs_follow_one_another(stage: StageRunner) -> None:
    structure = Concat((steps(op("map", str)), PICKLES, steps(partition_op(sum_of))))
    assert stage.records(structure, [pickled(1)], [pickled(2)], [pickled(3, 4)]) == ["1", 2, 7]


def test_a_function_of_several_inputs_gets_them_in_order(stage: StageRunner) -> None:
    structure = Multi(PartitionOp("zip", kernel(kernels.zipped)), (PICKLES, steps(op("map", str))))
    assert stage.records(structure, [pickled(1, 2)], [pickled(3, 4)]) == [(1, "3"), (2, "4")]


def test_each_indexed_step_gets_the_index_of_its_own_partition(stage: StageRunner) -> None:
    tagged = steps(partition_op(lambda index, records: [(index, list(records))], passes="index"))
    structure = steps(
        partition_op(lambda index, records: [(index, *records)], passes="index"),
        over=Concat((tagged, tagged)),
    )
    given = stage.records(structure, [pickled("a")], [pickled("b")], index=9, params={"indices": (3, 5, 7)})
    assert given == [(7, (3, ["a"]), (5, ["b"]))]


# -- fusion --------------------------------------------------------------------------------------


def test_a_chain_of_record_steps_is_one_loop() -> None:
    chain = steps(op("map", str), op("filter", len), op("map_values", int), op("key_by", str))
    code = source_of(chain)
    assert code.count("for ") == 2  # over chunks, and over the records of a chunk
    assert "parts" not in code
    assert "yield" not in code


def test_steps_below_a_partition_step_are_fused_into_one_generator() -> None:
    code = source_of(steps(op("map", str), op("filter", len), partition_op(sum_of)))
    assert code.count("yield") == 1


def test_any_number_of_steps_that_give_many_records_can_be_chained(stage: StageRunner) -> None:
    chain = steps(*[op("flat_map", lambda x: [x + 1], f"step {n}") for n in range(40)])
    assert stage.records(chain, [pickled(0, 10)]) == [40, 50]


def test_any_number_of_partition_steps_can_be_chained(stage: StageRunner) -> None:
    chain = steps(*[partition_op(lambda records: [x + 1 for x in records], f"step {n}") for n in range(60)])
    assert stage.records(chain, [pickled(0)]) == [60]


def test_a_long_result_is_kept_in_pieces_that_are_quick_to_read(stage: StageRunner) -> None:
    result = stage.run(steps(op("flat_map", range)), ToBlocks(), [pickled(2 * RECORDS_BUFFERED_MAX, 5)])
    (ref,) = result.outputs
    assert ref.records == result.records_out == 2 * RECORDS_BUFFERED_MAX + 5
    assert [len(chunk) for chunk in read_chunks(ref)] == [RECORDS_BUFFERED_MAX] * 2 + [5]
    assert records_of([ref]) == [*range(2 * RECORDS_BUFFERED_MAX), *range(5)]


def test_a_very_long_result_is_kept_in_several_blocks(
    stage: StageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiostream_engine.executors.stage.BLOCK_BYTES", 20_000)
    result = stage.run(steps(op("flat_map", range)), ToBlocks(), [pickled(10 * RECORDS_BUFFERED_MAX)])
    assert len(result.outputs) > 2
    assert records_of(result.outputs) == list(range(10 * RECORDS_BUFFERED_MAX))


def test_a_record_that_explodes_is_handed_on_piece_by_piece(stage: StageRunner) -> None:
    """G5: what one record becomes need not fit in memory, as long as the blocks do."""

    class Counted:
        count = peak = 0

        def __init__(self) -> None:
            Counted.count += 1
            Counted.peak = max(Counted.peak, Counted.count)

        def __del__(self) -> None:
            Counted.count -= 1

        def __reduce__(self) -> Any:
            return int, ()

    def explode(n: int) -> Iterator[Counted]:
        return (Counted() for _ in range(n))

    for chain in (
        steps(op("flat_map", explode)),
        steps(op("flat_map", lambda n: [n // 2, n // 2]), op("flat_map", explode), op("map", lambda x: x)),
        steps(partition_op(lambda records: (x for n in records for x in explode(n)))),
    ):
        Counted.peak = Counted.count
        assert stage.records(chain, [pickled(10 * RECORDS_BUFFERED_MAX)]) == [0] * 10 * RECORDS_BUFFERED_MAX
        assert Counted.peak <= 2 * RECORDS_BUFFERED_MAX


@pytest.mark.parametrize("how", [None, combiner(min, map_side=False)], ids=["moved", "combined later"])
def test_a_long_segment_of_a_shuffle_is_read_in_pieces(stage: StageRunner, how: Combiner | None) -> None:
    pairs = [(n % 1000, n) for n in range(2 * RECORDS_BUFFERED_MAX + 5)]
    result = stage.run(PICKLES, ToBuckets(HashPartitioner(1), how), [pickled(*pairs)])
    (ref,) = result.outputs
    assert [len(chunk) for chunk in read_chunks(ref)] == [RECORDS_BUFFERED_MAX] * 2 + [5]
    merged = stage.records(Merge(how), [ref])
    assert merged == (pairs if how is None else [(n, n) for n in range(1000)])


# -- terminals -------------------------------------------------------------------------------------


def test_buckets_hold_each_key_in_one_place(stage: StageRunner) -> None:
    result = stage.run(
        PICKLES, ToBuckets(HashPartitioner(3), None), [pickled(*[(n % 7, n) for n in range(70)])]
    )
    segments = [pickle.loads(ref.data or b"") for ref in result.outputs]
    assert sorted(pair for segment in segments for pair in segment) == sorted((n % 7, n) for n in range(70))
    places = [{key for key, _ in segment} for segment in segments]
    assert sum(map(len, places)) == 7


def test_records_are_dealt_out_in_turn_from_another_place_for_each_partition(stage: StageRunner) -> None:
    def dealt(index: int) -> list[list[Any]]:
        result = stage.run(
            PICKLES, ToBuckets(RoundRobin(3), None), [pickled("a", "b", "c", "d")], index=index
        )
        return [pickle.loads(ref.data or b"") for ref in result.outputs]

    assert dealt(0) == [["a", "d"], ["b"], ["c"]]
    assert dealt(1) == [["c"], ["a", "d"], ["b"]]


def test_values_are_combined_before_they_are_sent(stage: StageRunner) -> None:
    terminal = ToBuckets(HashPartitioner(1), combiner(lambda a, b: a + b))
    result = stage.run(PICKLES, terminal, [pickled(("a", 1), ("b", 2), ("a", 3))])
    assert pickle.loads(result.outputs[0].data or b"") == {"a": 4, "b": 2}


def test_the_first_value_of_a_key_becomes_its_combiner(stage: StageRunner) -> None:
    lists = Combiner(
        "lists", kernel(kernels.appended), kernel(kernels.extended), kernel(kernels.in_list), map_side=True
    )
    result = stage.run(PICKLES, ToBuckets(HashPartitioner(1), lists), [pickled(("a", 1), ("a", 2))])
    assert pickle.loads(result.outputs[0].data or b"") == {"a": [1, 2]}


@pytest.mark.parametrize(
    "structure",
    [PICKLES, steps(op("flat_map", list)), steps(op("map", lambda x: x), op("filter", lambda x: True))],
)
def test_a_counter_counts_whatever_the_steps_before_it_are(stage: StageRunner, structure: Structure) -> None:
    terminal = ToBuckets(HashPartitioner(1), combiner(lambda a, b: a + b), counter=True)
    result = stage.run(structure, terminal, [pickled("a", "b", "a")])
    assert pickle.loads(result.outputs[0].data or b"") == {"a": 2, "b": 1}


def test_a_value_is_what_the_function_gives_for_all_records(stage: StageRunner) -> None:
    terminal = ToValue("sum", kernel(sum))
    assert pickle.loads(stage.run(steps(op("map", abs)), terminal, [pickled(-1, 2)]).value) == 3


def test_a_value_function_that_asks_for_it_gets_the_number_of_the_task(stage: StageRunner) -> None:
    terminal = ToValue("index", partition_op(lambda index, records: (index, *records)).fn, "index")
    assert pickle.loads(stage.run(PICKLES, terminal, [pickled("a")], index=4).value) == (4, "a")


@pytest.mark.parametrize(
    ("structure", "refs", "count"),
    [
        (PICKLES, [pickled(1, 2), pickled(3)], 3),
        (LINES, [text("a\nb\nc")], 3),
        (steps(op("filter", lambda x: x > 1)), [pickled(1, 2, 3)], 2),
        (steps(op("flat_map", range)), [pickled(2, 3)], 5),
        (Concat((PICKLES,)), [pickled(1, 2)], 2),
    ],
)
def test_records_are_counted_without_being_kept(
    stage: StageRunner, structure: Structure, refs: list[Any], count: int
) -> None:
    result = stage.run(structure, CountTerminal(), refs)
    assert pickle.loads(result.value) == count
    assert result.outputs == ()


def test_reducers_merge_what_the_mappers_combined(stage: StageRunner) -> None:
    merge = Merge(combiner(lambda a, b: a + b))
    segments = [pickled_dict({"a": 1, "b": 2}), pickled_dict({"a": 10})]
    assert sorted(stage.records(steps(op("map_values", str), over=merge), segments)) == [
        ("a", "11"),
        ("b", "2"),
    ]


def test_reducers_combine_pairs_that_the_mappers_left_alone(stage: StageRunner) -> None:
    merge = Merge(combiner(lambda a, b: a + b, map_side=False))
    assert stage.records(merge, [pickled(("a", 1), ("a", 2)), pickled(("a", 4))]) == [("a", 7)]


def pickled_dict(content: dict[Any, Any]) -> Any:
    return pickled()._replace(data=pickle.dumps(content), records=len(content))


# -- blame -----------------------------------------------------------------------------------------


def boom(x: Any) -> Any:
    return 1 // (x - 3)


def values_of(call: Callable[[Any], Any]) -> Callable[[Iterable[Any]], Iterator[Any]]:
    def visit(records: Iterable[Any]) -> Iterator[Any]:
        for record in records:
            yield call(record)

    return visit


CHAINS: dict[str, Structure] = {
    "map": steps(op("map", abs, "first"), op("map", boom, "bad"), op("map", str, "last")),
    "filter": steps(op("map", abs, "first"), op("filter", boom, "bad")),
    "flat_map": steps(op("map", abs, "first"), op("flat_map", lambda x: [boom(x)], "bad")),
    "lazy flat_map": steps(op("map", abs, "first"), op("flat_map", lambda x: (boom(y) for y in [x]), "bad")),
    "key_by": steps(op("map", abs, "first"), op("key_by", boom, "bad")),
    "an expression": steps(op("map", abs, "first"), RecordOp("map", "bad", expression="1 // ({x} - 3)")),
    "before a partition step": steps(
        op("map", abs, "first"), op("map", boom, "bad"), partition_op(list, "last")
    ),
    "behind a partition step": steps(partition_op(list, "first"), op("map", boom, "bad")),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_an_error_names_its_step_and_the_record_in_hand(stage: StageRunner, chain: str) -> None:
    failure = stage.failure(CHAINS[chain], [pickled(1, 2, 3, 4)])
    assert (failure.step, failure.record) == ("bad", "3")
    assert failure.error_type == "ZeroDivisionError"
    assert "ZeroDivisionError" in failure.traceback


def test_the_record_in_hand_is_the_one_that_the_step_was_given(stage: StageRunner) -> None:
    chain = steps(op("map", lambda x: x + 1), op("map", boom, "bad"))
    assert stage.failure(chain, [pickled(0, 1, 2)]).record == "3"


@pytest.mark.parametrize("kind", ["map_values", "flat_map_values"])
def test_a_step_over_values_shows_the_whole_pair(stage: StageRunner, kind: str) -> None:
    failure = stage.failure(steps(op(kind, lambda v: [boom(v)], "bad")), [pickled(("k", 4), ("k", 3))])
    assert (failure.step, failure.record) == ("bad", "('k', 3)")


def test_a_record_that_is_no_pair_is_the_fault_of_the_step_that_needs_one(stage: StageRunner) -> None:
    assert stage.failure(steps(op("keys", None, "keys")), [pickled(("a", 1), 5)]).record == "5"
    terminal = ToBuckets(HashPartitioner(1), combiner(lambda a, b: a))
    failure = stage.failure(PICKLES, [pickled(("a", 1), 5)], terminal=terminal)
    assert (failure.step, failure.record) == ("reduce", "5")


def test_a_partition_step_is_blamed_when_it_is_called(stage: StageRunner) -> None:
    chain = steps(partition_op(lambda records: sorted([*records, "x"]), "bad"), partition_op(list, "last"))
    assert stage.failure(chain, [pickled(1, 2)]).step == "bad"


def test_a_function_in_c_is_blamed_when_it_is_called(stage: StageRunner) -> None:
    chain = steps(partition_op(sorted, "bad"), partition_op(list, "last"))
    assert stage.failure(chain, [pickled(1, "x")]).step == "bad"


@pytest.mark.parametrize("inner", [values_of(boom), lambda records: (boom(x) for x in records)])
def test_a_lazy_partition_step_is_blamed_although_a_later_one_asked_for_its_records(
    stage: StageRunner, inner: Any
) -> None:
    chain = steps(partition_op(inner, "bad"), partition_op(lambda records: [*records], "last"))
    assert stage.failure(chain, [pickled(1, 3)]).step == "bad"


def test_a_key_that_cannot_be_hashed_is_named_with_its_record(stage: StageRunner) -> None:
    """H9: the error of an unhashable key names the record."""
    for terminal in (ToBuckets(HashPartitioner(2), None), ToBuckets(HashPartitioner(2), combiner(max))):
        failure = stage.failure(PICKLES, [pickled(("a", 1), ([], 2))], terminal=terminal)
        assert (failure.kind, failure.record) == ("key", "([], 2)")


def test_a_merge_function_is_blamed_with_the_pair_it_was_given(stage: StageRunner) -> None:
    def refuse(a: int, b: int) -> int:
        raise ValueError("no")

    terminal = ToBuckets(HashPartitioner(1), combiner(refuse))
    failure = stage.failure(PICKLES, [pickled(("a", 1), ("a", 2))], terminal=terminal)
    assert (failure.step, failure.record) == ("reduce", "('a', 2)")
    failure = stage.failure(Merge(combiner(refuse)), [pickled_dict({"a": 1}), pickled_dict({"a": 2})])
    assert (failure.step, failure.record) == ("reduce", "('a', 2)")


def test_an_error_whose_text_cannot_be_made_is_still_reported(stage: StageRunner) -> None:
    """A16: whatever the exception does, there is a report."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def refuse(x: Any) -> Any:
        raise Silent

    failure = stage.failure(steps(op("map", refuse, "bad")), [pickled(1)])
    assert failure.step == "bad"
    assert "unprintable" in failure.message


def test_a_record_whose_repr_fails_or_never_ends_is_cut(stage: StageRunner) -> None:
    failure = stage.failure(steps(op("map", lambda x: 1 // 0)), [pickled("x" * 100_000)])
    assert len(failure.record or "") < 1000


def test_a_system_exit_of_a_function_is_an_error_of_its_step(stage: StageRunner) -> None:
    """A5, A7: SystemExit, KeyboardInterrupt and the like end the task, not the worker."""
    for error in (SystemExit, KeyboardInterrupt, GeneratorExit):

        def leave(x: Any, error: type[BaseException] = error) -> Any:
            raise error

        failure = stage.failure(steps(op("map", leave, "bad")), [pickled(1)])
        assert (failure.kind, failure.step, failure.record) == ("user", "bad", "1")


def test_a_result_that_cannot_be_pickled_is_shown(stage: StageRunner) -> None:
    """A17: the error is the task's, and names the record."""
    failure = stage.failure(steps(op("map", lambda x: iter_of(x) if x == 2 else x)), [pickled(1, 2)])
    assert failure.kind == "unpicklable"
    assert "generator" in (failure.record or "")


def iter_of(x: Any) -> Iterator[Any]:
    yield x


# -- policies --------------------------------------------------------------------------------------


def test_skipping_drops_the_record_and_counts_it(stage: StageRunner) -> None:
    chain = steps(op("map", boom, "bad", ErrorPolicy(OnError.SKIP)), op("map", str))
    result = stage.run(chain, ToBlocks(), [pickled(3, 2, 3)])
    assert records_of(result.outputs) == ["-1"]
    assert result.counters == {"skipped:bad": 2}


def test_dead_letters_say_what_happened_to_which_record(stage: StageRunner) -> None:
    policy = ErrorPolicy(OnError.DEAD_LETTER, attempts=2)
    result = stage.run(
        steps(op("map", boom, "bad", policy)), ToBlocks(), [pickled(2, 3)], index=5, batch=1000
    )
    (letter,) = records_of([result.sides["dead-letters:bad"]])
    assert (letter.step, letter.batch, letter.partition, letter.record) == ("bad", 1000, 5, 3)
    assert (letter.error_type, letter.attempts) == ("ZeroDivisionError", 2)
    assert "boom" in letter.traceback
    assert result.counters == {"retried:bad": 1, "dead_lettered:bad": 1}


def test_a_retry_that_works_keeps_the_record(stage: StageRunner) -> None:
    seen: list[int] = []

    def second_time(x: int) -> int:
        seen.append(x)
        if seen.count(x) < 2:
            raise OSError("not yet")
        return x

    result = stage.run(
        steps(op("map", second_time, "late", ErrorPolicy(attempts=2))), ToBlocks(), [pickled(1, 2)]
    )
    assert records_of(result.outputs) == [1, 2]
    assert result.counters == {"retried:late": 2}


def test_when_no_try_is_left_the_task_fails_with_the_last_error(stage: StageRunner) -> None:
    failure = stage.failure(steps(op("map", boom, "bad", ErrorPolicy(attempts=3))), [pickled(3)])
    assert (failure.step, failure.record, failure.error_type) == ("bad", "3", "ZeroDivisionError")


def test_a_lazy_result_fails_within_its_policy(stage: StageRunner) -> None:
    lazy = op("flat_map", lambda x: (boom(y) for y in [x]), "bad", ErrorPolicy(OnError.SKIP))
    assert stage.records(steps(lazy), [pickled(2, 3, 4)]) == [-1, 1]


def test_a_policy_covers_its_own_step_only(stage: StageRunner) -> None:
    chain = steps(
        op("map", str, "careful", ErrorPolicy(OnError.SKIP)), op("map", lambda x: boom(int(x)), "bad")
    )
    assert stage.failure(chain, [pickled(3)]).step == "bad"


def test_a_filter_with_a_policy_keeps_what_it_could_decide(stage: StageRunner) -> None:
    chain = steps(op("filter", boom, "bad", ErrorPolicy(OnError.SKIP)))
    assert stage.records(chain, [pickled(2, 3, 4, 10)]) == [2, 4]
