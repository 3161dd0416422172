"""When each rule applies, and that it keeps its hands off otherwise. See also tests/property."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.operators import kernels
from aiostream_engine.operators.codegen import compile_stage
from aiostream_engine.operators.function import Fn
from aiostream_engine.operators.kernels import kernel
from aiostream_engine.operators.partitioners import HashPartitioner
from aiostream_engine.operators.structure import (
    Combiner,
    Concat,
    CountTerminal,
    ErrorPolicy,
    Leaf,
    Merge,
    Record,
    Structure,
    Terminal,
    ToBlocks,
    ToBuckets,
    ToValue,
    Words,
)
from aiostream_engine.planner.programs import ProgramCache
from aiostream_engine.planner.rules.additions import add_in_c, is_addition
from aiostream_engine.planner.rules.chunks_in_c import runs_in_c
from aiostream_engine.planner.rules.count_values import count_values
from aiostream_engine.planner.rules.distinct_keys import distinct_keys
from aiostream_engine.planner.rules.inline_lambdas import inline_lambdas
from aiostream_engine.planner.rules.split_words import split_words
from aiostream_engine.types import OnError
from tests.operators.stages import LINES, PICKLES, StageRunner, op, pickled, steps

SKIP = ErrorPolicy(OnError.SKIP)


def summing(
    add: Callable[..., Any] = operator.add, create: Fn | None = None, map_side: bool = True
) -> ToBuckets:
    return ToBuckets(HashPartitioner(2), Combiner("sum", Fn(add), Fn(add), create, map_side))


def code_of(structure: Structure, terminal: Terminal) -> str:
    return compile_stage(*ProgramCache().optimised(structure, terminal)).source


# -- additions -------------------------------------------------------------------------------------


def plus(left: Any, right: Any) -> Any:
    return left + right


@pytest.mark.parametrize("call", [operator.add, plus, lambda a, b: a + b, lambda x, y: x + y])
def test_functions_that_only_add_are_recognised(call: Any) -> None:
    assert is_addition(call)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: b + a,
        lambda a, b: a - b,
        lambda a, b: a + a,
        lambda a, b=1: a + b,
        lambda a, b, *c: a + b,
        lambda a: a + a,
        lambda a, b: a + b + 0,
        operator.iadd,
        sum,
        partial(operator.add, 1),
    ],
)
def test_nothing_else_is_taken_for_an_addition(call: Any) -> None:
    assert not is_addition(call)


def test_additions_before_and_after_a_shuffle_and_in_reduce_are_done_in_c() -> None:
    combiner = Combiner("sum", Fn(plus), Fn(lambda a, b: a + b))
    structure, terminal = add_in_c(Merge(combiner), ToBuckets(HashPartitioner(2), combiner))
    assert isinstance(structure, Merge)
    assert structure.combiner is not None
    assert structure.combiner.merge_combiners.call is operator.add
    assert isinstance(terminal, ToBuckets)
    assert terminal.combiner is not None
    assert terminal.combiner.merge_value.call is operator.add
    _, terminal = add_in_c(PICKLES, ToValue("reduce", kernel(kernels.reduced, Fn(plus))))
    assert terminal == ToValue("reduce", kernel(kernels.reduced, Fn(operator.add)))


def test_other_merges_stay_as_they_are() -> None:
    combiner = Combiner("max", Fn(max), Fn(max))
    trees = Merge(combiner), ToBuckets(HashPartitioner(2), combiner)
    assert add_in_c(*trees) == trees
    value = ToValue("first", kernel(kernels.first_n, 3))
    assert add_in_c(PICKLES, value) == (PICKLES, value)


# -- counting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [lambda w: (w, 1), lambda word: (word, 1), kernels.pair_with_one])
@pytest.mark.parametrize("add", [operator.add, lambda a, b: a + b])
def test_pairs_with_one_that_are_added_up_are_counted(pair: Any, add: Any) -> None:
    structure, terminal = count_values(steps(op("map", pair)), summing(add))
    assert structure == PICKLES
    assert isinstance(terminal, ToBuckets)
    assert terminal.counter
    assert "count_into(acc" in code_of(steps(op("map", pair)), summing(add))


@pytest.mark.parametrize(
    ("structure", "terminal"),
    [
        (steps(op("map", lambda w: (w, 2))), summing()),
        (steps(op("map", lambda w: (w, True))), summing()),
        (steps(op("map", lambda w: (w, 1.0))), summing()),
        (steps(op("map", lambda w: (1, w))), summing()),
        (steps(op("map", lambda w: [w, 1])), summing()),
        (steps(op("map", lambda w: (w, 1), policy=SKIP)), summing()),
        (steps(op("flat_map", lambda w: (w, 1))), summing()),
        (steps(op("map", lambda w: (w, 1))), summing(operator.mul)),
        (steps(op("map", lambda w: (w, 1))), summing(create=Fn(str))),
        (steps(op("map", lambda w: (w, 1))), summing(map_side=False)),
        (steps(op("map", lambda w: (w, 1))), ToBlocks()),
        (steps(op("map", lambda w: (w, 1))), ToBuckets(HashPartitioner(2), None)),
        (PICKLES, summing()),
    ],
)
def test_nothing_else_is_counted(structure: Structure, terminal: Terminal) -> None:
    assert count_values(structure, terminal) == (structure, terminal)


# -- splitting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [str.split, lambda line: line.split()])
def test_lines_that_are_split_at_white_space_are_read_as_words(split: Any) -> None:
    chain = steps(op("flat_map", split), op("map", str.upper), over=LINES)
    structure, _ = split_words(Concat((chain, chain)), ToBlocks())
    assert structure == Concat((Record(op("map", str.upper), Words()),) * 2)


@pytest.mark.parametrize(
    "structure",
    [
        steps(op("flat_map", lambda line: line.split(" ")), over=LINES),
        steps(op("flat_map", lambda line: line.split(None)), over=LINES),
        steps(op("flat_map", str.splitlines), over=LINES),
        steps(op("map", str.split), over=LINES),
        steps(op("flat_map", str.split, policy=SKIP), over=LINES),
        steps(op("flat_map", str.split), over=PICKLES),
        steps(op("flat_map", str.split), over=Leaf("bytes-lines")),
        steps(op("map", str), op("flat_map", str.split), over=LINES),
    ],
)
def test_other_splits_stay_as_they_are(structure: Structure) -> None:
    assert split_words(structure, ToBlocks()) == (structure, ToBlocks())


# -- inlining --------------------------------------------------------------------------------------


def test_a_lambda_becomes_part_of_the_loop() -> None:
    code = code_of(steps(op("filter", lambda line: "ERROR" in line), op("map", lambda x: len(x))), ToBlocks())
    assert "if not ('ERROR' in x1): continue" in code
    assert "x3 = (len(x1))" in code
    assert "f1(" not in code


def test_a_pair_that_is_taken_apart_at_once_is_not_made() -> None:
    code = code_of(steps(op("map", lambda w: (w.lower(), len(w)))), summing(lambda a, b: max(a, b)))
    assert "k, v = ((x1.lower(), len(x1)))" in code
    assert "if k in acc: acc[k] = max(acc[k], v)" in code


def test_a_merge_that_names_the_old_value_twice_looks_it_up_once() -> None:
    code = code_of(PICKLES, summing(lambda a, b: a if a > b else b))
    assert "if k in acc: a = acc[k]; acc[k] = a if a > v else v" in code


def test_a_traceback_shows_the_inlined_expression_and_where_it_comes_from(tmp_path: Path) -> None:
    chain, terminal = ProgramCache().optimised(steps(op("map", lambda x: 1 // x, "bad")), ToBlocks())
    failure = StageRunner(tmp_path).failure(chain, [pickled(2, 0)], terminal=terminal)
    assert (failure.step, failure.record) == ("bad", "0")
    assert "x2 = (1 // x1)  # lambda@test_rules.py:" in failure.traceback


def test_a_merge_that_fails_names_the_pair_that_was_never_made(tmp_path: Path) -> None:
    trees = ProgramCache().optimised(steps(op("map", lambda x: ("k", x))), summing(lambda a, b: a // b))
    failure = StageRunner(tmp_path).failure(trees[0], [pickled(2, 0)], terminal=trees[1])
    assert (failure.step, failure.record) == ("sum", "('k', 0)")


def test_steps_with_a_policy_keep_their_function() -> None:
    guarded = steps(op("map", lambda x: x + 1, policy=SKIP))
    assert inline_lambdas(guarded, ToBlocks()) == (guarded, ToBlocks())


def test_a_merge_without_combining_before_the_shuffle_is_left_alone() -> None:
    terminal = summing(lambda a, b: a - b, map_side=False)
    assert inline_lambdas(PICKLES, terminal) == (PICKLES, terminal)


# -- chunks in C -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", [len, str, int, bool, repr, str.upper, bytes.decode, str.split, operator.itemgetter(1), abs]
)
def test_pure_functions_that_are_written_in_c_are_known(call: Any) -> None:
    assert runs_in_c(call)


@pytest.mark.parametrize(
    "call",
    [print, list.pop, dict.get, set.add, max, sorted, operator.attrgetter("x"), plus, lambda x: x, "a".join],
)
def test_others_are_not_trusted(call: Any) -> None:
    assert not runs_in_c(call)


def test_a_single_step_takes_a_chunk_at_a_time() -> None:
    assert "out.extend(map(f1, it))" in code_of(steps(op("map", len)), ToBlocks())
    assert "out.extend(filter(f1, it))" in code_of(steps(op("filter", bool)), ToBlocks())
    counting = steps(op("map", str.lower), op("map", lambda w: (w, 1)))
    assert "count(acc, map(f1, it))" in code_of(counting, summing())
    assert "yield from flatten(map(f2, it))" in code_of(
        steps(op("flat_map", str.split)), ToValue("value", kernel(kernels.counted))
    )


def test_a_step_that_may_explode_is_not_taken_at_once() -> None:
    """G5: results of one chunk are handed on piece by piece."""
    assert "extend" not in code_of(steps(op("flat_map", tuple)), ToBlocks())


@pytest.mark.parametrize(
    ("chain", "given", "step", "record"),
    [
        ([op("map", int, "bad")], ["1", "x", "4"], "bad", "'x'"),
        ([op("filter", int, "bad")], ["1", "x", "4"], "bad", "'x'"),
        ([op("map", int, "good"), op("map", lambda n: 1 // n, "bad")], ["1", "0", "4"], "bad", "0"),
        ([op("map", str.strip, "good"), op("map", int, "bad")], ["1", "x ", "4"], "bad", "'x'"),
        ([op("flat_map", operator.itemgetter(1), "bad")], ["12", "1", "13"], "bad", "'1'"),
    ],
)
@pytest.mark.parametrize(
    "terminal", [ToBlocks(), ToValue("list", kernel(kernels.first_n, 99)), CountTerminal()], ids=repr
)
def test_the_record_of_an_error_within_a_chunk_is_found(
    tmp_path: Path, chain: list[Any], given: list[str], step: str, record: str, terminal: Terminal
) -> None:
    trees = ProgramCache().optimised(steps(*chain), terminal)
    failure = StageRunner(tmp_path).failure(trees[0], [pickled("55"), pickled(*given)], terminal=trees[1])
    assert (failure.step, failure.record) == (step, record)


# -- distinct --------------------------------------------------------------------------------------


def keeping_first(
    pair: Any = kernels.pair_with_none, merge: Any = kernels.keep_first
) -> tuple[Structure, ToBuckets]:
    return steps(op("map", pair)), ToBuckets(HashPartitioner(1), Combiner("distinct", Fn(merge), Fn(merge)))


def test_distinct_keeps_keys_without_pairs(tmp_path: Path) -> None:
    structure, terminal = ProgramCache().optimised(*keeping_first())
    assert structure == PICKLES
    result = StageRunner(tmp_path).run(structure, terminal, [pickled(1, "a", True, 1.0, "a")])
    (segment,) = [pickle.loads(ref.data or b"") for ref in result.outputs]
    assert list(map(repr, segment)) == ["1", "'a'"]  # of equal keys the first


def test_distinct_names_a_record_that_is_no_key(tmp_path: Path) -> None:
    """H9: with its repr."""
    structure, terminal = ProgramCache().optimised(*keeping_first())
    failure = StageRunner(tmp_path).failure(structure, [pickled(1, [2])], terminal=terminal)
    assert failure.kind == "key"
    assert "[2] cannot be a key" in failure.message


def test_other_merges_of_pairs_with_none_are_not_distinct() -> None:
    for trees in (keeping_first(merge=max), keeping_first(pair=lambda x: (x, None))):
        assert distinct_keys(*trees) == trees


# -- all of them -----------------------------------------------------------------------------------


def test_without_rules_a_tree_stays_as_it_is() -> None:
    trees = steps(op("flat_map", str.split), op("map", lambda w: (w, 1)), over=LINES), summing()
    assert ProgramCache(()).optimised(*trees) == trees
    assert ProgramCache().optimised(*trees) != trees
