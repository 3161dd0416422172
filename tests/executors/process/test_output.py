from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from aiostream_engine.executors.process.output import LINE_BYTES_MAX, OutputLog, RateLimit


class Pipe:
    """An output log whose time and step the test sets."""

    def __init__(self, lines_per_s_max: int = 1000) -> None:
        reader, self.writer = os.pipe()
        os.set_blocking(reader, False)
        self.now = 10.0
        self.step = "step"
        self.limit = RateLimit(lines_per_s_max)
        self.log = OutputLog(reader, logging.INFO, 3, lambda: self.step, self.limit, lambda: self.now)

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)
        self.log.read()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(lines_per_s_max=5)
    yield pipe
    os.close(pipe.writer)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.INFO, "aiostream_engine.worker")
    return _Messages(caplog)


class _Messages(list[str]):
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __eq__(self, other: object) -> bool:
        return [record.getMessage() for record in self._caplog.records] == other

    __hash__ = None  # type: ignore[assignment]


def test_lines_are_put_together_from_pieces_and_named_by_step(pipe: Pipe, lines: list[str]) -> None:
    pipe.write(b"hel")
    pipe.write(b"lo\nwor")
    pipe.step = "next"
    pipe.write(b"ld\n")
    assert lines == ["[worker 3, step] hello", "[worker 3, next] world"]
    pipe.log.close()


def test_a_last_line_without_end_is_told_at_close(pipe: Pipe, lines: list[str]) -> None:
    pipe.write(b"unfinished")
    assert lines == []
    pipe.log.close()
    assert lines == ["[worker 3, step] unfinished"]


def test_lines_over_the_rate_are_dropped_counted_and_reported(pipe: Pipe, lines: list[str]) -> None:
    """A12"""
    pipe.write(b"a\n" * 8)
    pipe.write(b"b\n" * 100)
    pipe.now = 11.0
    pipe.write(b"c\n")
    assert pipe.limit.dropped == 103
    assert lines == [
        *["[worker 3, step] a"] * 5,
        "[worker 3] 103 lines of output dropped: over output_lines_per_s_max",
        "[worker 3, step] c",
    ]
    pipe.log.close()


def test_control_characters_cannot_fake_lines_or_steer_a_terminal(pipe: Pipe, lines: list[str]) -> None:
    """J4"""
    pipe.write(b"a\rb\x1b[2Jc\x00\xff\n")
    assert lines == ["[worker 3, step] a\\x0db\\x1b[2Jc\\x00\ufffd"]
    pipe.log.close()


def test_a_line_without_end_takes_bounded_memory(pipe: Pipe, lines: list[str]) -> None:
    for _ in range(4):
        pipe.write(b"x" * LINE_BYTES_MAX)
    pipe.log.close()
    assert lines == [f"[worker 3, step] {'x' * LINE_BYTES_MAX}"] * 4


def test_the_tail_is_kept_for_error_messages_even_over_the_rate(pipe: Pipe) -> None:
    pipe.write(b"a\n" * 10)
    pipe.write(b"the cause\n")
    assert pipe.log.tail.endswith("the cause")
    pipe.log.close()
