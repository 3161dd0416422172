"""However the input is cut, key-wise error policies give up the same and leave the same (A3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_streams import cut, run

POISON = 0
records = st.lists(st.tuples(st.sampled_from("abc"), st.integers(POISON, 5)), max_size=30)
cuts = st.lists(st.integers(0, 30), max_size=4)
partitions = st.integers(1, 4)
parallelism = st.integers(1, 4)


class Bad(Exception):
    """A value that no function takes."""


def with_letters(step: Any) -> Any:
    """What the step gives and what it gives up, as one stream."""
    given_up = step.dead_letters().map(lambda letter: ("letter", letter.record))
    return step.map(lambda result: ("result", result)).union(given_up)


def split(batch: list[tuple[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Results and letters of a batch."""
    return tuple([record for kind, record in batch if kind == wanted] for wanted in ("result", "letter"))  # type: ignore[return-value]


def values_of(groups: list[Any]) -> dict[Any, Counter[Any]]:
    return {key: Counter(values) for key, values in groups}


def by_key(pairs: list[Any]) -> dict[Any, Counter[Any]]:
    groups: defaultdict[Any, Counter[Any]] = defaultdict(Counter)
    for key, value in pairs:
        groups[key][value] += 1
    return dict(groups)


def mapping(key: str, value: int, state: Any) -> tuple[str, int, int]:
    kept = state.get([0, 0])
    kept[0] += value
    kept[1] += 1  # changed in place, before it may raise
    if value == POISON:
        raise Bad
    state.update(kept)
    return key, value, kept[1]


def update(values: list[int], old: list[int] | None) -> list[int]:
    kept = [] if old is None else old
    for value in values:
        kept.append(value)
        if value == POISON:
            raise Bad
    return kept


def add(a: int, b: int) -> int:
    if POISON in (a, b):
        raise Bad
    return a + b


@given(records=records, cuts=cuts, partitions=partitions, parallelism=parallelism)
def test_a_mapping_with_state_gives_up_the_same_records_and_counts_the_same_others(
    engine, records, cuts, partitions, parallelism
):
    """A3: any cut into batches and partitions."""

    def build(s: Any) -> Any:
        return with_letters(s.map_with_state(mapping, on_error="dead-letter"))

    batches = run(engine, build, cut(records, cuts), partitions=partitions, parallelism=parallelism)
    results, letters = split([record for batch in batches for record in batch])
    assert Counter(letters) == Counter(pair for pair in records if pair[1] == POISON)
    good = by_key([pair for pair in records if pair[1] != POISON])
    assert by_key([result[:2] for result in results]) == good
    # The state has counted each good record of its key once, and no other.
    assert sorted((key, count) for key, _, count in results) == sorted(
        (key, n + 1) for key, values in good.items() for n in range(values.total())
    )


@given(records=records, cuts=cuts, partitions=partitions, parallelism=parallelism)
def test_an_update_gives_up_a_key_s_values_of_a_batch_or_keeps_them_all(
    engine, records, cuts, partitions, parallelism
):
    """A3: the same for any number of partitions; with any cut, what is kept and given up is all there is."""

    def build(s: Any) -> Any:
        return with_letters(s.update_state_by_key(update, on_error="dead-letter"))

    inputs = cut(records, cuts)
    state: dict[Any, Counter[Any]] = {}
    batches = run(engine, build, inputs, partitions=partitions, parallelism=parallelism)
    for pairs, batch in zip(inputs, batches, strict=True):
        results, letters = split(batch)
        groups = by_key(pairs)
        bad = {key: values for key, values in groups.items() if POISON in values}
        for key in groups.keys() - bad.keys():
            state[key] = state.get(key, Counter()) + groups[key]
        assert values_of(letters) == bad
        assert values_of(results) == state


@given(records=records, cuts=cuts, partitions=partitions, parallelism=parallelism)
def test_a_reduction_gives_up_the_same_keys_however_their_values_lie(
    engine, records, cuts, partitions, parallelism
):
    """A3: with all their values; a value that is alone is given to no function."""

    def build(s: Any) -> Any:
        return with_letters(s.reduce_by_key(add, on_error="dead-letter"))

    inputs = cut(records, cuts)
    batches = run(engine, build, inputs, partitions=partitions, parallelism=parallelism)
    for pairs, batch in zip(inputs, batches, strict=True):
        results, letters = split(batch)
        groups = by_key(pairs)
        bad = {key: values for key, values in groups.items() if POISON in values and values.total() > 1}
        assert values_of(letters) == bad
        sums = {key: sum(values.elements()) for key, values in groups.items() if key not in bad}
        assert dict(results) == sums
