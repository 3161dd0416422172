"""``demo``: a word count over a live TCP text stream, with its own feeder or the user's socket."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..config import Master
from ..errors import ConfigurationError, OptionError
from .exit_code import ExitCode
from .loop import run_loop
from .options import Duration, LogLevel, LogLevelName, StopTimeout, Uvloop
from .run import set_up_logging
from .session import Session, say, say_failure
from .signals import StopSignals
from .word_count import build_word_count

__all__ = ["demo"]

FEEDER_START_S = 30.0
FEEDER_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class _Demo:
    """What was asked for."""

    text: tuple[Path, ...]
    rate: float
    connect: tuple[str, int] | None
    master: str
    interval_s: float
    window_s: float
    slide_s: float
    top: int
    duration_s: float | None
    drain_timeout_s: float
    live: bool | None


Text = Annotated[
    list[Path] | None,
    typer.Option(
        help="A text file or directory to replay; may be repeated. Default: the project's pages and Python's "
        "own sources.",
        show_default=False,
    ),
]
DemoRate = Annotated[float, typer.Option(min=1, help="Lines per second that the feeder sends.")]
Connect = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Read from your own socket instead, such as of nc -lk 9999."),
]
DemoMaster = Annotated[str, typer.Option(help="Where operators run: local[2] is two worker processes.")]
DemoInterval = Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Time between two batches.")]
Window = Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Length of the window.")]
Slide = Annotated[
    float | None,
    typer.Option(min=0.01, metavar="SECONDS", help="Time between two windows; default: two batches."),
]
Top = Annotated[int, typer.Option(min=1, max=50, help="How many words are shown.")]
Live = Annotated[
    bool | None,
    typer.Option("--live/--plain", help="A live table, or plain lines; default: live on a terminal."),
]


def demo(
    text: Text = None,
    rate: DemoRate = 10_000.0,
    connect: Connect = None,
    master: DemoMaster = "local[2]",
    interval: DemoInterval = 0.5,
    window: Window = 10.0,
    slide: Slide = None,
    top: Top = 10,
    duration: Duration = None,
    stop_timeout: StopTimeout = 20.0,
    live: Live = None,
    log_level: LogLevel = LogLevelName.WARNING,
    uvloop: Uvloop = True,
) -> None:
    """Count the words of a live text stream: in all, and over a sliding window.

    Starts a feeder on loopback that replays real text, receives it over TCP, cuts a batch every
    half second, counts on two worker processes, and shows rate, batch time, delay, queue and
    the most frequent words. Ctrl-C drains and prints a summary.

    Examples:

    `python -m aiostream_engine demo`

    `python -m aiostream_engine demo --text ~/books --rate 50000 --duration 30`

    `nc -lk 9999 < book.txt`, and then `python -m aiostream_engine demo --connect 127.0.0.1:9999`
    """
    set_up_logging(log_level)
    try:
        Master.parse(master)
    except OptionError as exc:
        raise typer.BadParameter(str(exc), param_hint="--master") from None
    missing = [path for path in text or [] if not path.exists()]
    if missing:
        raise typer.BadParameter(f"{missing[0]} does not exist", param_hint="--text")
    asked = _Demo(
        text=tuple(path.resolve() for path in text or []),
        rate=rate,
        connect=None if connect is None else parse_address(connect),
        master=master,
        interval_s=interval,
        window_s=window,
        slide_s=2 * interval if slide is None else slide,
        top=top,
        duration_s=duration,
        drain_timeout_s=stop_timeout,
        live=live,
    )
    raise typer.Exit(run_loop(_demo(asked), uvloop=uvloop))


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises typer.BadParameter."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT", param_hint="--connect")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _demo(asked: _Demo) -> ExitCode:
    with StopSignals(say, stop_timeout_s=asked.drain_timeout_s).installed() as signals:
        try:
            async with _address(asked) as (host, port):
                return await _count(asked, host, port, signals)
        except _FeederError as exc:
            say(f"Error: {exc}")
            return ExitCode.FAILED


async def _count(asked: _Demo, host: str, port: int, signals: StopSignals) -> ExitCode:
    from ..context import StreamingContext
    from ..observe.terminal import TerminalView

    try:
        ssc = StreamingContext(interval=asked.interval_s, master=asked.master)
        view = TerminalView(ssc.statistics, title=_title(asked, host, port), live=asked.live, redirect=True)
        view.set_hint("Ctrl-C drains and shows a summary")
        if view.is_live:
            signals.say = view.set_hint
        build_word_count(
            ssc,
            host,
            port,
            window_s=asked.window_s,
            slide_s=asked.slide_s,
            top=asked.top,
            show=lambda title, rows, note: view.set_top(title, rows, note=note),
        )
    except ConfigurationError as exc:
        say_failure(exc)
        return ExitCode.USAGE
    session = Session(
        ssc, signals, duration_s=asked.duration_s, drain_timeout_s=asked.drain_timeout_s, view=view
    )
    return (await session.run()).code


def _title(asked: _Demo, host: str, port: int) -> str:
    return f"word count · {host}:{port} · {asked.master} · every {asked.interval_s:g} s"


class _FeederError(Exception):
    """The feeder process did not come up."""


@contextlib.asynccontextmanager
async def _address(asked: _Demo) -> AsyncIterator[tuple[str, int]]:
    """The user's socket, or that of a feeder process which lives as long as this block."""
    if asked.connect is not None:
        yield asked.connect
        return
    process = await asyncio.create_subprocess_exec(
        *_feeder_command(asked),
        stdin=asyncio.subprocess.PIPE,  # its end, however we end, is the feeder's end
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: what we drain must not vanish first
    )
    try:
        yield await _listening_address(process)
    finally:
        await _end(process)


def _feeder_command(asked: _Demo) -> list[str]:
    options = ["--port", "0", "--rate", f"{asked.rate:g}", "--loop", "--until-stdin-closes"]
    texts = [str(path) for path in asked.text]
    return [sys.executable, "-m", "aiostream_engine", "feed", *options, "--", *texts]


async def _listening_address(process: asyncio.subprocess.Process) -> tuple[str, int]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(FEEDER_START_S):
            line = (await process.stdout.readline()).decode(errors="replace").split()
    except TimeoutError:
        raise _FeederError(f"the feeder did not start within {FEEDER_START_S:g} s") from None
    if line[:2] != ["listening", "on"]:
        raise _FeederError("the feeder did not start: is there text to replay?")
    return line[2], int(line[4])


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(FEEDER_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
