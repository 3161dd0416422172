"""How much of its allowance a batch takes from each partition: in proportion to the lag (row KAF-7)."""

from __future__ import annotations

from collections.abc import Mapping

from .partition_queue import Place

__all__ = ["shares"]


def shares(
    lags: Mapping[Place, int], allowance: float | None, least: float = 1.0, most: float | None = None
) -> dict[Place, int | None]:
    """Records that a batch may take of each partition; None for as many as there are.

    lags: records that each is behind. allowance: of the batch, None for no limit.
    least, most: of each partition and batch; ``least`` wins over the allowance, so that none starves.
    """
    total = sum(lags.values())
    found: dict[Place, int | None] = {}
    for place, lag in lags.items():
        share = None if allowance is None or not total else allowance * lag / total
        if share is not None:
            share = max(share, least)
        if most is not None:
            share = most if share is None else min(share, most)
        found[place] = None if share is None else max(1, int(share))
    return found
