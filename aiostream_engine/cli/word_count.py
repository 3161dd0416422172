"""The functions of the demo's graph. Worker processes import this, so it stays light."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..context import StreamingContext
    from ..rdd import RDD
    from ..types import BatchTime

__all__ = ["build_word_count", "words_of"]

_WORD = re.compile(r"[^\W\d_]{2,40}")

ShowTop = Callable[[str, Sequence[tuple[str, int]], str], None]


def words_of(line: str) -> list[str]:
    """The words of a line, in lower case."""
    return _WORD.findall(line.lower())


def one_each(word: str) -> tuple[str, int]:
    return word, 1


def add_to_total(counts: Sequence[int], total: int | None) -> int:
    return sum(counts) + (total or 0)


def is_there(entry: tuple[str, int]) -> bool:
    return entry[1] > 0


def most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def build_word_count(
    ssc: StreamingContext,
    host: str,
    port: int,
    *,
    window_s: float,
    slide_s: float,
    top: int,
    show: ShowTop,
) -> None:
    """Counts of all words since the start, and of the last ``window_s`` seconds every ``slide_s``.

    show: called on the event loop with title, rows and note of the ``top`` first of each.
    """
    ones = ssc.socket_text_stream(host, port).flat_map(words_of).map(one_each)
    counts = ones.reduce_by_key(operator.add)
    totals = counts.update_state_by_key(add_to_total)
    recent = counts.reduce_by_key_and_window(
        operator.add, operator.sub, window_s, slide_s, filter_function=is_there
    )

    async def show_totals(rdd: RDD[Any], time: BatchTime) -> None:
        show("top words", await rdd.take_ordered(top, key=most_first), "since the start")

    async def show_recent(rdd: RDD[Any], time: BatchTime) -> None:
        rows = await rdd.take_ordered(top, key=most_first)
        show(f"top words, last {window_s:g} s", rows, f"until {time.datetime:%H:%M:%S} UTC")

    totals.foreach_rdd(show_totals)
    recent.foreach_rdd(show_recent)
