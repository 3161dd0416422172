"""A store on disk gives the answers of the one in memory, batch by batch, whatever happens between."""

from __future__ import annotations

import gc
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiostream_engine.errors import StorageError, UnpicklableError
from aiostream_engine.operators.function import Fn
from aiostream_engine.state import sweep
from aiostream_engine.state.budget import Budget
from aiostream_engine.state.changelog import log_block
from aiostream_engine.state.disk_store import DiskStore
from aiostream_engine.state.specs import (
    ExpiringInverseWindow,
    FilteredInverseWindow,
    InverseWindow,
    MapWithState,
    StateFailure,
    StateSpecification,
    UpdateState,
)
from aiostream_engine.state.store import Changes, MemoryStore
from aiostream_engine.types import BlockRef
from tests.state.test_scratch import file_bytes_max

PADDING = "x" * 400
KEYS = [0, 1, 2, 3, 1.0, -1, -2, "a", "b", (-1, 1), (-2, 1), None]


Chain = list[tuple[int, bytes]]  # version and block


class Harness:
    """The same batches in both stores; they are compared after each."""

    def __init__(self, spec: StateSpecification, bytes_max: int = 4000) -> None:
        self.spec = spec
        self.budget = Budget(bytes_max)
        self.directory = tempfile.gettempdir()  # its files have no names
        self.memory = MemoryStore()
        self.disk = self.new_store()
        self.chains: tuple[Chain, Chain] = [], []
        self.before: list[Chain] = [[], []]
        self.version = 0
        self.was_rolled_back = False

    def new_store(self) -> DiskStore:
        return DiskStore(self.directory, self.budget, "counts")

    def batch(self, inputs: list[list[Any]], time: int, sweep_bytes: int = 0) -> None:
        self.version += 1
        self.before = [list(chain) for chain in self.chains]
        given = []
        for store, chain in zip((self.memory, self.disk), self.chains, strict=True):
            changes = self.spec.update(store, inputs, time)
            assert changes.empty == (not changes.changed and not changes.removed and not changes.touched)
            store.apply(changes, self.version)
            self.log(store, chain, changes, sweep_bytes)
            changes.clear()
            given.append(list(self.spec.output(store, changes)))
        if self.was_rolled_back:  # a key that came back may stand elsewhere
            given = [sorted(records, key=repr) for records in given]
        assert given[0] == given[1]
        self.compare()

    def log(self, store: MemoryStore, chain: Chain, changes: Changes, sweep_bytes: int) -> None:
        """As worker and driver do it together."""
        began = store.sweep.began if store.sweep is not None else 0
        block = log_block(store, changes, sweep_bytes, began)
        if block is None:
            return
        chain.append((self.version, b"".join(block.parts)))
        if block.is_snapshot:
            del chain[:-1]
        elif block.sweep is not None and block.sweep.done:
            chain[:] = [item for item in chain if item[0] >= block.sweep.began]

    def roll_back(self) -> None:
        if not self.memory.can_roll_back_to(self.version - 1):
            return
        assert self.disk.can_roll_back_to(self.version - 1)
        for store, chain, before in zip((self.memory, self.disk), self.chains, self.before, strict=True):
            store.rollback()
            chain[:] = before
        self.version -= 1
        self.was_rolled_back = True
        self.compare()

    def snapshot(self) -> None:
        for store, chain in zip((self.memory, self.disk), self.chains, strict=True):
            chain[:] = [(self.version, b"".join(store.snapshot_block()))]
            store.sweep = None
        self.memory._undo = None  # what is before a snapshot is not in the chain of this test
        self.disk._undo = None

    def lose(self) -> None:
        """The worker dies: each store is made anew, from the chain of the other."""
        self.memory = MemoryStore.restore([block for _, block in self.chains[1]], self.version)
        self.disk = self.new_store()
        self.disk.load([block for _, block in self.chains[0]])
        self.disk.version = self.version
        self.compare()

    def compare(self) -> None:
        assert self.disk.version == self.memory.version
        assert len(self.disk.entries) == len(self.memory.entries)
        pairs = [list(store.entries.items()) for store in (self.disk, self.memory)]
        if self.was_rolled_back:
            pairs = [sorted(part, key=repr) for part in pairs]
        assert pairs[0] == pairs[1]
        times = [list(store.touched.items()) for store in (self.disk, self.memory)]
        assert sorted(times[0], key=repr) == sorted(times[1], key=repr)
        assert [at for _, at in times[0]] == [at for _, at in times[1]]


def counted(time: int, key: Any, value: int | None, state: Any) -> Any:
    if value is None:
        return key, "idle", state.get()[0]
    count = state.get((0, ""))[0] + value
    if count % 7 == 3 and state.exists():
        state.remove()
    else:
        state.update((count, PADDING))
    return key, count


def kept(key: Any, values: list[int], old: Any) -> Any:
    count = sum(values) + (old[0] if old else 0)
    return None if count % 7 == 3 else (count, PADDING)


def added(one: int, other: int) -> int:
    return one + other


def taken(one: int, other: int) -> int:
    return one - other


def is_odd(pair: Any) -> bool:
    return bool(pair[1] % 2)


SPECS: dict[str, StateSpecification] = {
    "map_with_state": MapWithState(Fn(counted), timeout_ms=2000, with_time=True),
    "without timeout": MapWithState(Fn(counted), with_time=True),
    "update_state_by_key": UpdateState(Fn(kept), with_key=True),
    "window": InverseWindow(Fn(added), Fn(taken)),
    "filtered window": FilteredInverseWindow(Fn(added), Fn(taken), Fn(is_odd)),
    "expiring window": ExpiringInverseWindow(Fn(added), Fn(taken), Fn(is_odd)),
}
SLICES = st.sampled_from([1, 1, 1000, 100_000])
records = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-3, 9)), max_size=12)
steps = st.lists(
    st.sampled_from(["batch"] * 3 + ["slice"] * 5 + ["roll back", "snapshot", "lose"]),
    min_size=2,
    max_size=20,
)


@pytest.fixture(autouse=True)
def _no_open_files() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("name", SPECS)
def test_both_give_the_same_answers_whatever_happens_between(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches run again, lost workers and snapshots at any place, and such as take several batches.

    Keys of any type, most of them on disk.
    """
    spec = SPECS[name]
    monkeypatch.setattr(sweep, "_KEYS", (1, 3))

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def check(data: st.DataObject) -> None:
        harness, entering = Harness(spec), list[list[Any]]()
        for number, step in enumerate(data.draw(steps), 1):
            if step in ("batch", "slice"):
                inputs = [data.draw(records)]
                if "window" in name:
                    inputs = [list(dict(inputs[0]).items())]
                    entering.append(inputs[0])
                    inputs.append(entering.pop(0) if len(entering) > 3 else [])
                harness.batch(inputs, 1000 * number, data.draw(SLICES) if step == "slice" else 0)
            elif step == "roll back":
                if "window" not in name:  # there the window would have to go back as well
                    harness.roll_back()
            elif step == "snapshot":
                harness.snapshot()
            else:
                harness.lose()

    check()


@pytest.mark.parametrize("name", ["map_with_state", "without timeout", "window"])
@pytest.mark.parametrize("seed", range(2))
def test_a_snapshot_in_slices_is_the_state_while_it_changes(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few keys change in a batch; some go, some come again; the chain is cut at each end of a sweep."""
    monkeypatch.setattr(sweep, "_KEYS", (1, 3))
    rng, harness, cuts = random.Random(seed), Harness(SPECS[name]), 0
    sweep_bytes = 150 if name == "window" else 2500  # a few of its keys
    inputs: list[list[Any]] = [[(key, 1) for key in range(30)]]
    harness.batch([*inputs, []] if name == "window" else inputs, 1000)
    for number in range(2, 60):
        inputs = [[(rng.randrange(40), rng.randrange(5)) for _ in range(3)]]
        before = len(harness.chains[0])
        harness.batch([*inputs, []] if name == "window" else inputs, 1000 + 50 * number, sweep_bytes)
        cuts += len(harness.chains[0]) < before
        if rng.random() < 0.06 and name != "window":
            harness.roll_back()
        elif rng.random() < 0.08:
            harness.lose()
    harness.lose()
    assert cuts


@pytest.mark.parametrize("name", ["map_with_state", "update_state_by_key"])
def test_initial_pairs_are_the_same(name: str) -> None:
    """UST-9, MWS-3: with a state that is larger than the cache."""
    harness = Harness(SPECS[name])
    initial = [(key, (key, PADDING)) for key in range(50)]
    harness.batch([[(3, 1), (70, 1)], initial], 1000)
    harness.batch([[(4, 1)], [(4, (9, PADDING)), (99, (1, PADDING))]], 2000)
    harness.batch([[(99, 1)]], 3000)


def test_a_tumbling_window_is_the_same() -> None:
    harness = Harness(InverseWindow(Fn(added), Fn(taken), tumbling=True))
    for number in range(1, 6):
        harness.batch([[(key, number) for key in range(30 * number)], []], 1000 * number)


def test_a_state_with_a_timeout_only_now_counts_from_now() -> None:
    """MWS-2: its keys have no times yet."""
    harness = Harness(SPECS["without timeout"])
    harness.batch([[(key, 1) for key in range(100)]], 1000)
    harness.spec = SPECS["map_with_state"]
    for number in range(2, 7):
        harness.batch([[(number, 1)]], 1000 * number)
    assert 90 not in harness.disk.entries


def test_changes_of_a_batch_larger_than_the_cache_are_undone() -> None:
    harness = Harness(SPECS["update_state_by_key"], 100_000)
    harness.batch([[(key, 8) for key in range(2000)]], 1000)
    harness.batch([[(key, 1) for key in range(1000, 3000)]], 2000)
    harness.roll_back()
    assert harness.budget.bytes <= 100_000
    assert harness.disk.usage[0] <= 100_000


def test_a_batch_that_raises_leaves_the_store_as_it_was() -> None:
    def fails(key: Any, values: list[int], old: Any) -> Any:
        if key == 1500:
            raise ValueError("no")
        return (sum(values), PADDING)

    harness = Harness(SPECS["update_state_by_key"], 100_000)
    harness.batch([[(key, 8) for key in range(2000)]], 1000)
    before = dict(harness.disk.entries.items())
    with pytest.raises(StateFailure):
        UpdateState(Fn(fails), with_key=True).update(harness.disk, [[(5, 1)]], 2000)
    assert dict(harness.disk.entries.items()) == before
    harness.batch([[(5, 1)]], 2000)


def test_blocks_are_read_and_written_in_small_pieces(tmp_path: Path) -> None:
    """A snapshot is never in memory as a whole."""
    harness = Harness(SPECS["update_state_by_key"], 100_000)
    harness.batch([[(key, 8) for key in range(10_000)]], 1000)
    pieces = list(harness.disk.snapshot_block())
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 2_000_000
    path = tmp_path / "block"
    path.write_bytes(b"before" + b"".join(pieces) + b"behind")
    block = BlockRef("pickle", None, str(path), 6, sum(map(len, pieces)))
    restored = harness.new_store()
    restored.load([block])
    assert restored.usage[0] <= 100_000
    assert list(restored.entries.items()) == list(harness.memory.entries.items())


def test_the_snapshot_of_an_empty_store_is_a_block() -> None:
    harness = Harness(SPECS["update_state_by_key"])
    payload = b"".join(harness.disk.snapshot_block())
    assert payload
    harness.disk.load([payload, BlockRef("pickle", payload)])
    assert len(harness.disk.entries) == 0


def test_a_store_whose_disk_is_full_is_not_used_any_more() -> None:
    """C16: half of a batch is in it."""
    harness = Harness(SPECS["update_state_by_key"], 100_000)
    harness.batch([[(key, 8) for key in range(100)]], 1000)
    with file_bytes_max(2_000_000), pytest.raises((StorageError, StateFailure)) as caught:
        for number in range(20):
            harness.batch([[((number, key), 8) for key in range(2000)]], 1)
    error = caught.value.__cause__ if isinstance(caught.value, StateFailure) else caught.value
    assert isinstance(error, StorageError)
    assert isinstance(harness.disk.failure, StorageError)
    assert "'counts'" in str(harness.disk.failure)


def test_a_batch_cut_short_while_it_is_applied_spoils_the_store() -> None:
    harness = Harness(SPECS["update_state_by_key"], 600)
    harness.batch([[(key, 8) for key in range(100)]], 1000)
    changes = harness.disk.changes()
    changes.changed["door"] = 1
    with pytest.raises(UnpicklableError, match=r"'lock' of step 'counts'"):
        changes.changed["lock"] = _Unpicklable()
    assert harness.disk.failure is None
    with pytest.raises(UnpicklableError, match=r"'lock' of step 'counts'"):
        harness.disk.apply(changes, 2)
    assert isinstance(harness.disk.failure, UnpicklableError)


class _Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("it stays here")
