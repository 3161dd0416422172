from __future__ import annotations

import asyncio
import dataclasses
import io
import subprocess
import sys

import pytest
from rich.console import Console

from aiostream_engine.observe import events as ev
from aiostream_engine.observe.statistics import StreamStatistics
from aiostream_engine.observe.terminal import TerminalView, format_bytes, format_count, format_seconds


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=110, height=40, color_system=None)


def text_of(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.fixture
def figures(completed):
    statistics = StreamStatistics()
    statistics.observe(ev.StreamingStarted(1_700_000_000_000))
    for number in range(1, 11):
        statistics.observe(completed(number, records=6000, delay_s=0.02))
    return statistics.snapshot([ev.ReceiverInfo(0, "socket-text", True, queue_records=12, queue_fill=0.25)])


def test_the_picture_shows_rate_delays_queue_batches_and_rankings(figures):
    screen = console()
    view = TerminalView(lambda: figures, title="word count", console=screen)
    view.set_top("top words", [("the", 12345), ("of", 7)], note="since the start")
    screen.print(view.render(figures))
    text = text_of(screen)
    for part in (
        "word count · running",
        "12k records/s",
        "20.0 ms",
        "scheduling delay",
        "2.0 ms",
        "10 done",
        "queue",
        "25%",
        "top words",
        "12,345",
        "since the start",
    ):
        assert part in text, part


def test_the_picture_fits_a_screen_of_80_by_24(figures):
    screen = Console(file=io.StringIO(), width=80, height=24, color_system=None)
    view = TerminalView(lambda: figures, title="word count · 127.0.0.1:12345 · local[2]", console=screen)
    for title in ("top words", "top words, last 10 s"):
        view.set_top(title, [(f"word{number}", 10**6) for number in range(10)], note="until 12:00:00 UTC")
    view.set_hint("Ctrl-C drains and shows a summary")
    screen.print(view.render(figures))
    assert len(text_of(screen).splitlines()) < 24


def test_several_queues_are_told_apart_by_name(figures):
    screen = console()
    both = tuple(ev.ReceiverInfo(number, f"socket-{number}", True) for number in (1, 2))
    screen.print(
        TerminalView(lambda: figures, console=screen).render(dataclasses.replace(figures, receivers=both))
    )
    assert "queue socket-1" in text_of(screen)
    assert "queue socket-2" in text_of(screen)


def test_text_of_the_stream_neither_is_markup_nor_moves_the_cursor(figures):
    """J4"""
    hostile = "[bold]x[/bold]\x1b[2J\r\n<script>"
    screen = console(terminal=True)
    bad = dataclasses.replace(
        figures,
        last_failures=(hostile,),
        receivers=(ev.ReceiverInfo(0, hostile, True), ev.ReceiverInfo(1, hostile, True)),
    )
    view = TerminalView(lambda: bad, title=hostile, console=screen)
    view.set_top(hostile, [(hostile, hostile)], note=hostile)
    screen.print(view.render(bad))
    screen.print(view.line(bad))
    view.summary(outcome=hostile)
    text = text_of(screen)
    assert "[bold]x[/bold]\\x1b[2J\\r\\n" in text
    assert "\x1b[2J" not in text
    assert "\r" not in text


def test_secrets_are_masked_on_the_screen(figures):
    """J9"""
    screen = console()
    bad = dataclasses.replace(figures, last_failures=("kafka://me:CANARY@host",))
    view = TerminalView(lambda: bad, title="postgres://me:CANARY@db", console=screen)
    view.set_top("token=CANARY", [("password=CANARY", 1)])
    screen.print(view.render(bad))
    screen.print(view.line(bad))
    view.summary(outcome="password=CANARY")
    assert "CANARY" not in text_of(screen)


def test_failures_stopped_receivers_and_lost_workers_are_said(figures):
    screen = console()
    bad = dataclasses.replace(
        figures,
        batches_failed=2,
        workers_lost=3,
        ticks_coalesced=4,
        receivers=(ev.ReceiverInfo(0, "socket", False, restarts=5),),
        last_failures=("StepError: boom",),
    )
    screen.print(TerminalView(lambda: bad, console=screen).render(bad))
    text = text_of(screen)
    for part in ("2 failed", "workers lost", "4 ticks coalesced", "5 restarts", "stopped", "StepError: boom"):
        assert part in text, part


def test_the_lag_of_a_log_is_shown_with_its_worst_partition(figures):
    screen = console()
    info = ev.ReceiverInfo(0, "kafka", True, lag={"t[0]": 5, "t[1]": 3000}, held_back=7)
    behind = dataclasses.replace(figures, receivers=(info,))
    view = TerminalView(lambda: behind, console=screen)
    screen.print(view.render(behind))
    shown = " ".join(text_of(screen).split())
    assert "lag 3,005" in shown
    assert "most 3,000 in t[1]" in shown
    assert "7 uncommitted" in shown
    assert "lag=3005" in str(view.line(behind))


async def run_until(view: TerminalView, reached, then=lambda: None) -> None:
    task = asyncio.create_task(view.run())
    try:
        async with asyncio.timeout(20):
            while not reached():
                await asyncio.sleep(0.005)
        then()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_away_from_a_terminal_plain_lines_are_written(figures):
    screen = console()
    view = TerminalView(lambda: figures, console=screen, lines_s=0.01)
    view.set_top("top words", [("the", 2)])
    assert not view.is_live
    await run_until(view, lambda: text_of(screen).count("\n") >= 2)
    line = text_of(screen).splitlines()[0]
    assert "batches=10" in line
    assert "rate_in=12000/s" in line
    assert "top words=[the:2]" in line


async def test_on_a_terminal_the_picture_is_redrawn_and_the_last_one_stays(figures):
    screen = console(terminal=True)
    current = [figures]
    view = TerminalView(lambda: current[0], console=screen, refresh_s=0.01)
    assert view.is_live
    await run_until(view, lambda: text_of(screen).count("batch time") >= 2)
    assert text_of(screen).endswith("\x1b[?25h")  # the cursor is shown again


async def test_the_last_picture_has_the_last_figures(figures):
    screen = console(terminal=True)
    current, last = [figures], dataclasses.replace(figures, batches_completed=999)
    view = TerminalView(lambda: current[-1], console=screen, refresh_s=30)
    await run_until(view, lambda: "10 done" in text_of(screen), then=lambda: current.append(last))
    assert "999 done" in text_of(screen)


def test_the_summary_tells_the_whole_run(figures):
    screen = console()
    view = TerminalView(lambda: figures, title="word count", console=screen)
    view.set_top("top words", [("the", 2)])
    view.summary(outcome="drained")
    text = text_of(screen)
    for part in ("summary of word count", "10 done, 0 failed", "60k", "drained", "the"):
        assert part in text, part


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_count(950), "950"),
        (format_count(9_999), "9,999"),
        (format_count(12_345), "12.3k"),
        (format_count(4_560_000), "4.56M"),
        (format_count(2e9), "2G"),
        (format_bytes(512), "512 B"),
        (format_bytes(12.3 * 1024**2), "12.3 MiB"),
        (format_bytes(5 * 1024**3), "5.0 GiB"),
        (format_seconds(0.0014), "1.4 ms"),
        (format_seconds(2.5), "2.50 s"),
    ],
)
def test_figures_are_written_for_people(shown, expected):
    assert shown == expected


def test_only_the_terminal_view_needs_rich():
    rooms = "bus, events, listener, logs, redaction, statistics"
    code = f"import sys; from aiostream_engine.observe import {rooms}; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=45).returncode == 0
