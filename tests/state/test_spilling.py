"""A dict that moves its cold part to disk is still that dict: same keys, same order, same values."""

from __future__ import annotations

import gc
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiostream_engine.errors import UnpicklableError
from aiostream_engine.state.budget import Budget
from aiostream_engine.state.scratch import ScratchFile
from aiostream_engine.state.spilling import SpillingDict

# Equal keys of different types, different keys with the same hash, keys without order between them.
KEYS = [0, 1, 1.0, True, -1, -2, (-1, 7), (-2, 7), 2**61 - 1, "a", "b", b"a", None, (1, ("x", None)), 10**30]
SMALL = 1500  # bytes: room for four keys or so


def spilling(directory: object, bytes_max: int = SMALL) -> SpillingDict:
    return SpillingDict(ScratchFile(str(directory), "counts"), Budget(bytes_max), "counts")


class Dicts(RuleBasedStateMachine):
    """Does the same to a dict and to one that spills."""

    directory: str

    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[Any, Any] = {}
        self.file = ScratchFile(self.directory, "counts")
        self.found = SpillingDict(self.file, Budget(SMALL), "counts")

    def teardown(self) -> None:
        self.file.close()

    @rule(key=st.sampled_from(KEYS), value=st.integers() | st.text(max_size=300))
    def put(self, key: Any, value: Any) -> None:
        self.expected[key] = self.found[key] = value

    @rule(key=st.sampled_from(KEYS))
    def get(self, key: Any) -> None:
        assert self.found.get(key, "none") == self.expected.get(key, "none")
        assert (key in self.found) == (key in self.expected)

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: Any) -> None:
        assert self.found.pop(key, "none") == self.expected.pop(key, "none")

    @rule(key=st.sampled_from(KEYS))
    def discard(self, key: Any) -> None:
        self.found.discard(key)
        self.expected.pop(key, None)

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def remove_and_put_back(self, data: Any) -> None:
        key = data.draw(st.sampled_from(list(self.expected)))
        found = self.found.entry(key)
        assert found is not None
        value, place, _ = found
        del self.found[key]
        self.found.put_back(key, value, place)

    @rule()
    def flush(self) -> None:
        self.found.flush()

    @rule()
    def evict_all(self) -> None:
        self.found.evict(self.found.bytes)
        assert self.found.bytes == 0

    @rule()
    def clear(self) -> None:
        self.expected.clear()
        self.found.clear()

    @invariant()
    def they_are_equal(self) -> None:
        assert len(self.found) == len(self.expected)
        assert list(self.found.items()) == list(self.expected.items())
        assert [type(key) for key in self.found] == [type(key) for key in self.expected]


def test_it_is_the_dict_whatever_is_done_to_it(tmp_path: Path) -> None:
    machine = type("InPlace", (Dicts,), {"directory": str(tmp_path)}).TestCase
    machine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
    machine().runTest()


def test_memory_is_bounded_and_the_rest_is_on_disk(tmp_path: Path) -> None:
    found = spilling(tmp_path, 100_000)
    for number in range(3000):
        found[number] = "x" * 1000
        assert found.bytes <= 100_000
    assert len(found) == 3000
    assert all(value == "x" * 1000 for _, value in found.items())
    assert found.bytes <= 100_000


def test_keys_in_use_are_found_in_memory(tmp_path: Path) -> None:
    found = spilling(tmp_path, 100_000)
    for number in range(1000):
        found[number] = "x" * 1000
        assert found[0]
    assert found.misses == 0
    assert found[500]
    assert (found.hits, found.misses) == (1000, 1)


def test_one_value_over_the_bound_is_kept_too(tmp_path: Path) -> None:
    found = spilling(tmp_path)
    found["large"] = "x" * 10_000_000
    assert found.bytes == 0
    assert len(found["large"]) == 10_000_000


def test_caches_of_one_budget_share_it(tmp_path: Path) -> None:
    budget = Budget(100_000)
    first, second = (SpillingDict(ScratchFile(str(tmp_path), "x"), budget, "x") for _ in range(2))
    for number in range(1000):
        first[number] = second[number] = "x" * 1000
    assert first.bytes + second.bytes <= 100_000
    assert min(first.bytes, second.bytes) > 20_000


def test_the_budget_gets_back_what_a_dict_had_that_is_gone(tmp_path: Path) -> None:
    budget = Budget(100_000)
    first, second = (SpillingDict(ScratchFile(str(tmp_path), "x"), budget, "x") for _ in range(2))
    for number in range(50):
        first[number] = "x" * 1000
    del first
    for number in range(50):
        second[number] = "x" * 1000
    assert second.bytes > 60_000


def test_what_cannot_be_pickled_is_named_and_stays(tmp_path: Path) -> None:
    found = spilling(tmp_path)
    found["door"] = threading.Lock()
    with pytest.raises(UnpicklableError, match=r"'door' of step 'counts'.*cannot pickle"):
        found.flush()
    assert found["door"].acquire(False)


def test_an_unhashable_key_is_refused_as_by_a_dict(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        spilling(tmp_path)[[1]] = 1


def test_many_keys_with_one_hash_are_told_apart(tmp_path: Path) -> None:
    found = spilling(tmp_path)
    keys = [number * (2**61 - 1) for number in range(50)]
    assert len(set(map(hash, keys))) == 1
    random.Random(1).shuffle(keys)
    for key in keys:
        found[key] = str(key)
    assert list(found.items()) == [(key, str(key)) for key in keys]
    assert all(found[key] == str(key) for key in keys)


def open_files(directory: Path) -> list[str]:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return [link for link in links if link.startswith(str(directory))]


def test_its_file_has_no_name_and_is_gone_with_it(tmp_path: Path) -> None:
    found = spilling(tmp_path)
    for number in range(100):
        found[number] = "x" * 1000
    assert os.listdir(tmp_path) == []
    assert [link.endswith("(deleted)") for link in open_files(tmp_path)] == [True]
    del found
    gc.collect()
    assert open_files(tmp_path) == []


def test_a_dict_that_fits_makes_no_file(tmp_path: Path) -> None:
    found = spilling(tmp_path, 1_000_000)
    for number in range(100):
        found[number] = "x" * 1000
    assert len(list(found.items())) == 100
    assert open_files(tmp_path) == []


def test_what_was_removed_gives_its_room_to_what_comes(tmp_path: Path) -> None:
    file = ScratchFile(str(tmp_path), "x")
    found = SpillingDict(file, Budget(SMALL), "x")
    sizes = []
    for turn in range(6):
        for number in range(500):
            found[turn, number] = "x" * 1000
        found.flush()
        sizes.append(file.size)
        if turn % 2:
            found.clear()
        else:
            for key in list(found):
                del found[key]
    assert sizes[-1] <= 1.5 * sizes[0]
