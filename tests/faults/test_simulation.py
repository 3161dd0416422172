"""The runtime on a disk with faults, from seeds; seeds that once failed are kept."""

from __future__ import annotations

import pytest

from tests.faults.simulation import run_seed, run_swept_seed

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.mark.parametrize("seed", range(10_000, 10_030))
def test_whatever_fails_nothing_is_lost_or_doubled(seed: int) -> None:
    """B1 to B6, B10 to B13, C1 to C4, C10, C16, D1, H1, H7, H11: one life after the other, with faults."""
    run_seed(seed)


@pytest.mark.parametrize(
    "seed",
    [
        1,  # a batch that was begun in a new layout, before the state was written in it
        9,
        10,  # a full disk at the first record of a segment
        21,
        20_058,  # no room for the head's directory entry, and a stop before there was: not at every run
    ],
)
def test_seeds_that_failed_once(seed: int) -> None:
    """As above."""
    run_seed(seed)


@pytest.mark.parametrize("first", range(20_000, 20_012, 4))
def test_snapshots_in_slices_lose_and_double_nothing(first: int) -> None:
    """C14, D2, H7: a driver may die in the middle of a snapshot, and the next one begins it anew."""
    assert sum(len(run_swept_seed(seed)) for seed in range(first, first + 4))
