"""The handle of a state refuses what has no meaning (row MWS-2)."""

from __future__ import annotations

import pytest

from aiostream_engine.state.handle import _ABSENT, State


def bound(value: object = _ABSENT, *, timing_out: bool = False) -> State[object]:
    state: State[object] = State()
    state._bind(value, timing_out)
    return state


def test_a_key_without_state() -> None:
    state = bound()
    assert not state.exists()
    assert state.get("default") == "default"
    with pytest.raises(KeyError, match="ask exists"):
        state.get()


def test_a_state_is_read_and_replaced() -> None:
    state = bound(1)
    assert state.exists()
    assert state.get() == state.get(5) == 1
    state.update(2)
    assert state.get() == 2
    assert not state.is_timing_out()


def test_a_removed_state_is_gone_for_the_rest_of_the_call() -> None:
    state = bound(1)
    state.remove()
    assert not state.exists()
    for change in (state.remove, lambda: state.update(3)):
        with pytest.raises(ValueError, match="was removed in the same call"):
            change()


def test_a_state_that_times_out_can_only_be_read() -> None:
    state = bound(1, timing_out=True)
    assert state.is_timing_out()
    assert state.get() == 1
    for change in (state.remove, lambda: state.update(3)):
        with pytest.raises(ValueError, match="is timing out"):
            change()


def test_none_is_no_state() -> None:
    with pytest.raises(ValueError, match=r"call remove\(\)"):
        bound(1).update(None)


def test_a_falsy_state_exists() -> None:
    assert bound(0).exists()
    assert bound("").get("default") == ""
