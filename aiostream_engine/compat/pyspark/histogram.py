"""The bounds of a histogram's buckets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...operators.kernels import kernel
from . import kernels

if TYPE_CHECKING:
    from .rdd import RDD

__all__ = ["buckets_of"]

_EVEN_WITHIN = 1e-10


def buckets_of(
    rdd: RDD[Any], buckets: int | list[Any] | tuple[Any, ...]
) -> tuple[Sequence[Any], float | None, list[int] | None]:
    """(bounds, width of even buckets or None, counts where they are known already).

    Raises ValueError or TypeError as PySpark does.
    """
    if isinstance(buckets, int):
        return _numbered(rdd, buckets)
    if not isinstance(buckets, list | tuple):
        raise TypeError("buckets should be a list or tuple or number(int or long)")
    if len(buckets) < 2:
        raise ValueError("buckets should have more than one value")
    if any(map(kernels.is_missing, buckets)):
        raise ValueError("can not have None or NaN in buckets")
    if sorted(buckets) != list(buckets):
        raise ValueError("buckets should be sorted")
    if len(set(buckets)) != len(buckets):
        raise ValueError("buckets should not contain duplicated values")
    return buckets, _width_of(buckets), None


def _width_of(bounds: Sequence[Any]) -> float | None:
    try:
        steps = [high - low for low, high in itertools.pairwise(bounds)]
    except TypeError:
        return None
    if max(steps) - min(steps) < _EVEN_WITHIN:
        width: float = (bounds[-1] - bounds[0]) / (len(bounds) - 1)
        return width
    return None


def _numbered(rdd: RDD[Any], count: int) -> tuple[Sequence[Any], float | None, list[int] | None]:
    if count < 1:
        raise ValueError("number of buckets must be >= 1")
    present = rdd._next(rdd._core.filter(kernel(kernels.is_present)))
    ends = [pair for pair in present._partials(kernel(kernels.extremes), "histogram") if pair]
    if not ends:
        raise ValueError("Can not reduce() empty RDD")
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if low == high or count == 1:
        return [low, high], None, [present.count()]
    try:
        width = (high - low) / count
    except TypeError:
        raise TypeError("Can not generate buckets with non-number in RDD") from None
    if math.isinf(width):
        raise ValueError("Can not generate buckets with infinite value")
    width = int(width) if int(width) * count == high - low else (high - low) * 1.0 / count
    return [*(number * width + low for number in range(count)), high], width, None
