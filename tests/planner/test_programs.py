"""Programs are found again by content: a steady pipeline is planned once."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from typing import Any

import pytest

from aiostream_engine.errors import UnpicklableError
from aiostream_engine.executors.stage import StageProgram
from aiostream_engine.operators.structure import Structure, Terminal, ToBlocks
from aiostream_engine.planner.programs import ProgramCache
from tests.operators.stages import op, steps


def chain(n: int) -> Structure:
    return steps(op("map", lambda x: x + n))


def test_a_tree_of_equal_content_is_found_again() -> None:
    cache = ProgramCache()
    first = cache.program(chain(1), ToBlocks(), "stage")
    assert cache.program(chain(1), ToBlocks(), "stage") is first
    assert cache.program(chain(2), ToBlocks(), "stage") is not first
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.size) == (1, 2, 2)


def test_a_program_is_named_by_its_content() -> None:
    one, two = (ProgramCache().program(chain(1), ToBlocks(), "stage") for _ in range(2))
    assert one.id == two.id
    assert one.step == "stage"
    assert isinstance(pickle.loads(one.payload), StageProgram)


def test_the_least_recently_used_program_goes_first() -> None:
    cache = ProgramCache(size_max=2)
    first = cache.program(chain(1), ToBlocks(), "stage")
    cache.program(chain(2), ToBlocks(), "stage")
    cache.program(chain(1), ToBlocks(), "stage")
    cache.program(chain(3), ToBlocks(), "stage")
    assert cache.program(chain(1), ToBlocks(), "stage") is first
    cache.program(chain(2), ToBlocks(), "stage")
    assert cache.statistics().misses == 4
    assert cache.statistics().size == 2


def test_the_cache_does_not_hold_what_functions_captured() -> None:
    class Large:
        pass

    large = Large()
    cache = ProgramCache()
    first = cache.program(steps(op("map", lambda x, large=large: x)), ToBlocks(), "stage")
    held = weakref.ref(large)
    assert cache.program(steps(op("map", lambda x, large=large: x)), ToBlocks(), "stage").id != ""
    assert first.payload
    del large
    gc.collect()
    assert held() is None


def test_rules_run_in_their_order() -> None:
    order = []

    def first(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
        order.append("first")
        return steps(op("map", str), over=structure), terminal

    def second(structure: Structure, terminal: Terminal) -> tuple[Structure, Terminal]:
        order.append("second")
        return steps(op("map", len), over=structure), terminal

    structure, _ = ProgramCache([first, second]).optimised(chain(1), ToBlocks())
    assert order == ["first", "second"]
    assert structure == steps(op("map", str), op("map", len), over=chain(1))


def test_what_cannot_be_sent_is_refused_with_the_step_at_fault() -> None:
    """A18: named before anything is sent."""
    lock: Any = threading.Lock()
    tree = steps(op("map", str, "fine"), op("map", lambda x: (x, lock), "guarded"))
    with pytest.raises(UnpicklableError, match=r"step 'guarded'.*'lock'"):
        ProgramCache().program(tree, ToBlocks(), "stage")
