"""Keyed state needs pairs; what is none is named in the error."""

from __future__ import annotations

from typing import Any

import pytest

from aiostream_engine.operators.function import Fn
from aiostream_engine.state.specs import MapWithState, StateFailure, UpdateState
from aiostream_engine.state.store import MemoryStore

SPECS = [UpdateState(Fn(lambda values, old: old)), MapWithState(Fn(lambda key, value, state: key))]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("record", ["abc", 7, ([], 1)])
def test_a_record_that_is_no_pair_is_named(spec: Any, record: Any) -> None:
    with pytest.raises(StateFailure) as failure:
        spec.update(MemoryStore(), [[("a", 1), record]], 0)
    assert failure.value.record == record
