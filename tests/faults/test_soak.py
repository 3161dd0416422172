"""Two minutes of random kills; not a part of the default run: ``pytest -m soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import soak
from tests.faults.verdict import Verdict


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("master", ["local", "local[2]"])
def test_a_driver_that_is_killed_at_random_loses_and_doubles_nothing(tmp_path: Path, master: str) -> None:
    """B12."""
    figures, verdict = soak(tmp_path, 1.0, master=master, seed=1)
    assert figures.kills > 10
    assert figures.idle_lives == 0, "each driver that lives for a while gets something done"
    assert verdict.letters_repeated <= figures.kills
    verdict.letters_repeated = 0
    assert verdict == Verdict()
