"""Both ways to read must do the same."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["raw", "client"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)
