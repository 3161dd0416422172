"""However the input is cut into batches and partitions, a stream gives what plain Python gives."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiostream_engine.testing import run_batches
from tests.property.engines import Engine
from tests.stage import Stage

keys = st.sampled_from("abc")
pairs = st.lists(st.tuples(keys, st.integers(1, 9)), max_size=5)
batches_of_pairs = st.lists(pairs, min_size=1, max_size=8)


def run(engine: Engine, build: Any, *inputs: Any, parallelism: int = 2, **options: Any) -> list[Any]:
    """What a stream on a shared engine gives for each batch; it leaves nothing on the engine."""
    engine.context.default_parallelism = parallelism
    got = engine.run(run_batches(build, *inputs, engine=engine.context, **options))
    statistics = engine.context.statistics()
    assert (statistics.blocks.files, statistics.states) == (0, ())
    return got  # type: ignore[no-any-return]


def cut(records: list[Any], cuts: list[int]) -> list[list[Any]]:
    """``records`` in batches that end at ``cuts``."""
    ends = sorted(min(end, len(records)) for end in cuts)
    return [records[a:b] for a, b in zip([0, *ends], [*ends, len(records)], strict=True)]


@given(
    records=st.lists(st.integers(-50, 50), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    partitions=st.integers(1, 5),
    parallelism=st.integers(1, 4),
)
def test_steps_record_by_record_do_not_see_where_the_input_was_cut(
    engine, records, cuts, partitions, parallelism
):
    def build(s: Any) -> Any:
        return s.map(lambda x: x * 3).filter(lambda x: x % 2).flat_map(lambda x: [x, -x]).map(str)

    got = run(engine, build, cut(records, cuts), partitions=partitions, parallelism=parallelism)
    expected = [str(y) for x in records if x * 3 % 2 for y in (x * 3, -x * 3)]
    assert [record for batch in got for record in batch] == expected


@given(
    records=st.lists(st.tuples(keys, st.integers(-9, 9)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    partitions=st.integers(1, 5),
    parallelism=st.integers(1, 4),
)
def test_sums_by_key_of_the_batches_add_up_to_the_sums_of_all(engine, records, cuts, partitions, parallelism):
    """PR-2."""
    got = run(
        engine,
        lambda s: s.reduce_by_key(operator.add),
        cut(records, cuts),
        partitions=partitions,
        parallelism=parallelism,
    )
    for batch, given_records in zip(got, cut(records, cuts), strict=True):
        assert dict(batch) == sums(given_records)
        assert len(batch) == len(dict(batch))


def sums(records: Any) -> dict[Any, int]:
    totals: dict[Any, int] = {}
    for key, value in records:
        totals[key] = totals.get(key, 0) + value
    return totals


@given(left=batches_of_pairs, right=batches_of_pairs, parallelism=st.integers(1, 3))
def test_joins_are_the_products_of_each_key_within_the_batch(engine, left, right, parallelism):
    """PR-6, PR-7."""
    count = min(len(left), len(right))
    got = run(engine, lambda a, b: a.join(b), left, right, batches=count, parallelism=parallelism)
    for batch, a, b in zip(got, left, right, strict=False):
        assert Counter(batch) == Counter((k, (v, w)) for k, v in a for k2, w in b if k == k2)


# -- windows ---------------------------------------------------------------------------------------


def inside(labels: list[int], batches: list[Any], begin: int, end: int) -> list[Any]:
    return [
        record
        for label, batch in zip(labels, batches, strict=True)
        if begin < label <= end
        for record in batch
    ]


@given(
    batches=batches_of_pairs, window=st.integers(1, 5), slide=st.integers(1, 5), partitions=st.integers(1, 3)
)
def test_a_window_is_what_brute_force_says(engine, batches, window, slide, partitions):
    """WIN-1 … WIN-5, H10."""
    got = run(engine, lambda s: s.window(window, slide), batches, partitions=partitions)
    labels = list(range(1, len(batches) + 1))
    for label, batch in zip(labels, got, strict=True):
        expected = inside(labels, batches, label - window, label) if label % slide == 0 else None
        assert batch == expected


@given(
    batches=batches_of_pairs,
    window=st.integers(1, 5),
    slide=st.integers(1, 5),
    inverse=st.booleans(),
    filtered=st.booleans(),
    parallelism=st.integers(1, 3),
)
def test_a_reduced_window_is_what_brute_force_says(
    engine, batches, window, slide, inverse, filtered, parallelism
):
    """WIN-13 … WIN-19: with and without inverse and filter, also with slides longer than the window."""

    def build(s: Any) -> Any:
        return s.reduce_by_key_and_window(
            operator.add,
            operator.sub if inverse else None,
            window,
            slide,
            filter_function=(lambda pair: pair[1] > 3) if filtered else None,
        )

    got = run(engine, build, batches, parallelism=parallelism)
    labels = list(range(1, len(batches) + 1))
    for label, batch in zip(labels, got, strict=True):
        if label % slide:
            assert batch is None
            continue
        assert len(batch) == len(dict(batch))
        expected = sums(inside(labels, batches, label - window, label))
        if filtered:
            expected = {key: value for key, value in expected.items() if value > 3}
        shown = {key: value for key, value in batch if value or not inverse}
        assert shown == expected


def coalesced(
    engine: Engine, build: Any, batches: list[Any], gaps: list[int], parallelism: int = 2, **options: Any
) -> tuple[list[int], dict[int, Any]]:
    """Run batches that are ``gaps`` intervals apart, as after stalls; their labels and what came of them."""
    labels = [sum(gaps[: number + 1]) for number in range(len(gaps))]

    async def play() -> dict[int, Any]:
        stage = Stage(batches, engine=engine.context, **options)
        stage.look(build(stage.stream))
        async with stage.started():
            await stage.clock.settle()
            for number, gap in enumerate(gaps, start=1):
                await stage.clock.jump(gap)
                await stage.until(lambda: len(stage.commits) >= number)  # noqa: B023
        await stage.ssc.await_termination()
        assert [int(time) // 1000 for time in stage.commits] == labels
        return {int(time) // 1000: records for time, records in stage.seen.items()}

    engine.context.default_parallelism = parallelism
    return labels, engine.run(play())


stalled = st.lists(st.tuples(pairs, st.sampled_from([1, 1, 1, 2, 3, 7])), min_size=1, max_size=8)


@given(stalled=stalled, window=st.integers(1, 5), slide=st.integers(1, 5), inverse=st.booleans())
def test_windows_over_stalls_end_at_their_slides(engine, stalled, window, slide, inverse):
    """D2, WIN-3: each batch answers the last slide up to its label; a tumbling window those before, too."""
    batches, gaps = [list(batch) for batch, _ in stalled], [gap for _, gap in stalled]
    labels, seen = coalesced(
        engine,
        lambda s: s.reduce_by_key_and_window(operator.add, operator.sub if inverse else None, window, slide),
        batches,
        gaps,
    )
    previous = 0
    for label in labels:
        end = label // slide * slide
        if end <= previous:
            assert label not in seen
        else:
            begin = previous // slide * slide if window == slide else end - window
            shown = {key: value for key, value in seen[label] if value or not inverse}
            assert shown == sums(inside(labels, batches, begin, end))
        previous = label


@given(stalled=stalled, length=st.integers(1, 4), inverse=st.booleans())
def test_a_tumbling_window_has_each_record_once_whatever_the_stalls(engine, stalled, length, inverse):
    """WIN-5, D2."""
    batches, gaps = [list(batch) for batch, _ in stalled], [gap for _, gap in stalled]
    batches.extend([[], []])
    gaps.extend([length, length])  # so that all windows are answered
    _, seen = coalesced(
        engine,
        lambda s: s.reduce_by_key_and_window(operator.add, operator.sub if inverse else None, length, length),
        batches,
        gaps,
    )
    total = sums(pair for batch in seen.values() for pair in batch)
    assert {key: value for key, value in total.items() if value} == sums(pair for b in batches for pair in b)


# -- state -----------------------------------------------------------------------------------------


def remember(new: list[int], old: tuple[int, int] | None) -> tuple[int, int] | None:
    """Sum and age; dropped when it was left alone three times."""
    total, age = old or (0, 0)
    if new:
        return total + sum(new), 0
    return None if age == 2 else (total, age + 1)


@given(
    batches=batches_of_pairs,
    initial=st.dictionaries(keys, st.tuples(st.integers(1, 9), st.integers(0, 2)), max_size=3),
    partitions=st.integers(1, 3),
    parallelism=st.integers(1, 3),
)
def test_state_is_what_a_dict_would_hold(engine, batches, initial, partitions, parallelism):
    """UST-1 … UST-9."""
    got = run(
        engine,
        lambda s: s.update_state_by_key(remember, initial=list(initial.items())),
        batches,
        partitions=partitions,
        parallelism=parallelism,
    )
    model: dict[str, Any] = dict(initial)
    for given_records, batch in zip(batches, got, strict=True):
        updated = {}
        for key in {*model, *(key for key, _ in given_records)}:
            new = remember([value for k, value in given_records if k == key], model.get(key))
            if new is not None:
                updated[key] = new
        model = updated
        assert sorted(batch) == sorted(model.items())


actions = st.sampled_from(["set", "read", "drop"])


def act(key: str, value: tuple[str, int] | None, state: Any) -> tuple[Any, ...]:
    if state.is_timing_out():
        return ("idle", key, state.get())
    action, number = value  # type: ignore[misc]
    before = state.get(None)
    if action == "set":
        state.update(number)
    elif action == "drop" and state.exists():
        state.remove()
    return (action, key, before)


class Model:
    """What map_with_state promises, in the plainest words."""

    def __init__(self, timeout: int | None) -> None:
        self.timeout = timeout
        self.values: dict[str, int] = {}
        self.touched: dict[str, int] = {}

    def batch(self, label: int, records: list[tuple[str, tuple[str, int]]]) -> list[tuple[Any, ...]]:
        out: list[tuple[Any, ...]] = []
        for key, (action, number) in records:
            out.append((action, key, self.values.get(key)))
            if action == "set":
                self.values[key] = number
            elif action == "drop":
                self.values.pop(key, None)
            if key in self.values:
                self.touched[key] = label
        if self.timeout is not None:
            for key in [key for key in self.values if self.touched[key] < label - self.timeout]:
                out.append(("idle", key, self.values.pop(key)))
        return out


@given(
    stalled=st.lists(
        st.tuples(
            st.lists(st.tuples(keys, st.tuples(actions, st.integers(1, 9))), max_size=4),
            st.sampled_from([1, 1, 1, 2, 5]),
        ),
        min_size=1,
        max_size=8,
    ),
    timeout=st.sampled_from([None, 1, 2, 4]),
    parallelism=st.integers(1, 3),
)
def test_mapped_state_with_timeouts_is_what_a_model_says(engine, stalled, timeout, parallelism):
    """MWS-1 … MWS-8, H12: over stalls as well."""
    batches, gaps = [list(batch) for batch, _ in stalled], [gap for _, gap in stalled]
    labels, seen = coalesced(
        engine,
        lambda s: s.map_with_state(act, timeout_s=timeout),
        batches,
        gaps,
        parallelism=parallelism,
        partitions=1,
    )
    model = Model(timeout)
    for label, batch in zip(labels, batches, strict=True):
        expected = model.batch(label, batch)
        for key in "abc":  # in order for a key; keys lie in partitions
            assert [out for out in seen[label] if out[1] == key] == [out for out in expected if out[1] == key]
        assert len(seen[label]) == len(expected)
