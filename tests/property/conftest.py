"""The profile of the property tests, and an engine in this process that examples share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.property.engines import Engine

# The same examples in every run, so that a red build is red again at home; deeper with
# HYPOTHESIS_PROFILE=search, which tries new ones each time.
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("search", settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    """The engine as it is by default."""
    engine = Engine(parallelism=3)
    yield engine
    engine.close()


@pytest.fixture
def plain_engine() -> Iterator[Engine]:
    """The engine without any rule of the planner."""
    engine = Engine(parallelism=3, rules=())
    yield engine
    engine.close()
