"""``feed``: serve text on a TCP port, as a source for streams."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CorruptionError
from ..sinks.threads import ThreadSlots
from .corpus import Corpus, default_corpus
from .exit_code import ExitCode
from .feeder import Drip, Feeder, StandardInputFeeder
from .letters import Letters
from .loop import run_loop
from .options import Duration, Uvloop
from .session import say
from .signals import StopSignals

__all__ = ["feed"]

Texts = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE|DIRECTORY|-]...",
        help="What to serve; - is standard input. Default: the project's pages and Python's own sources.",
        show_default=False,
    ),
]
DeadLetters = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIRECTORY",
        help="Serve the records of dead letters that were written as JSON lines, once.",
        show_default=False,
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 lets the system choose.")]
Host = Annotated[str, typer.Option(help="Address to listen on; loopback unless you say otherwise.")]
Rate = Annotated[float, typer.Option(min=0, help="Lines per second for each client; 0 for no limit.")]
Loop = Annotated[
    bool, typer.Option("--loop/--once", help="Begin again at the end of the text, or close there.")
]
DripBytes = Annotated[
    int | None, typer.Option(min=1, help="Send in pieces of this many bytes, so lines arrive torn.")
]
DripPause = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Pause between two such pieces.")]
UntilEof = Annotated[
    bool, typer.Option("--until-stdin-closes", hidden=True, help="End when standard input is closed.")
]


def feed(
    texts: Texts = None,
    dead_letters: DeadLetters = None,
    port: Port = 9999,
    host: Host = "127.0.0.1",
    rate: Rate = 1000.0,
    loop: Loop = True,
    drip_bytes: DripBytes = None,
    drip_pause: DripPause = 0.05,
    duration: Duration = None,
    uvloop: Uvloop = True,
    until_stdin_closes: UntilEof = False,
) -> None:
    """Serve lines of text on TCP at a rate, to any number of clients.

    Each client gets the whole text from its beginning at its own pace; one that reads slowly
    stalls no other. Standard input is served once, to the clients that are connected. The
    address is printed on standard output; Ctrl-C ends it.

    Examples:

    `python -m aiostream_engine feed --rate 5000` and, elsewhere, `nc 127.0.0.1 9999`

    `tail -F access.log | python -m aiostream_engine feed - --rate 0`

    `python -m aiostream_engine feed book.txt --drip-bytes 7 --drip-pause 0.01`

    `python -m aiostream_engine feed --dead-letters rejected/ --rate 100`, once the fault is mended
    """
    paths = texts or []
    drip = None if drip_bytes is None else Drip(drip_bytes, drip_pause)
    if Path("-") in paths and (len(paths) > 1 or until_stdin_closes):
        raise typer.BadParameter("standard input is served alone", param_hint="-")
    if dead_letters is not None and (paths or until_stdin_closes):
        raise typer.BadParameter("dead letters are served alone", param_hint="--dead-letters")
    corpus = (
        None if paths == [Path("-")] else _corpus(paths) if dead_letters is None else _letters(dead_letters)
    )
    lines_per_s = rate or None

    async def main() -> ExitCode:
        if corpus is None:
            feeder: Feeder = StandardInputFeeder(rate=lines_per_s, drip=drip)
        else:
            feeder = Feeder(corpus, rate=lines_per_s, loop=loop and dead_letters is None, drip=drip)
        code = await _serve(feeder, host, port, duration, until_stdin_closes)
        if isinstance(corpus, Letters) and corpus.unsendable:
            say(f"{corpus.unsendable} dead letters cannot be sent as a line: they were left out")
        return code

    raise typer.Exit(run_loop(main(), uvloop=uvloop))


def _corpus(paths: list[Path]) -> Corpus:
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise typer.BadParameter(f"{missing[0]} does not exist", param_hint="FILE|DIRECTORY")
    corpus = Corpus(paths) if paths else default_corpus()
    if not corpus.files:
        raise typer.BadParameter("no text files there", param_hint="FILE|DIRECTORY")
    return corpus


def _letters(path: Path) -> Corpus:
    try:
        letters = Letters(path)
    except (OSError, ValueError, CorruptionError) as exc:
        raise typer.BadParameter(str(exc), param_hint="--dead-letters") from None
    if not letters.files:
        raise typer.BadParameter(f"there is nothing in {path}", param_hint="--dead-letters")
    return letters


async def _serve(
    feeder: Feeder, host: str, port: int, duration_s: float | None, until_stdin_closes: bool
) -> ExitCode:
    with StopSignals(lambda _: None).installed() as signals:
        try:
            address, chosen = await feeder.start(host, port)
        except OSError as exc:
            say(f"Error: cannot listen on {host} port {port}: {exc.strerror or exc}")
            return ExitCode.FAILED
        typer.echo(f"listening on {address} port {chosen}")
        sys.stdout.flush()
        ends = {asyncio.ensure_future(signals.drain.wait())}
        if isinstance(feeder, StandardInputFeeder):
            ends.add(asyncio.ensure_future(feeder.broadcast()))  # type: ignore[arg-type]
        if until_stdin_closes:
            ends.add(asyncio.ensure_future(_stdin_closed()))  # type: ignore[arg-type]
        await asyncio.wait(ends, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await feeder.aclose()
    figures = feeder.statistics
    say(f"served {figures.lines} lines ({figures.bytes} bytes) to {figures.clients_total} clients")
    return ExitCode.OK


async def _stdin_closed() -> None:
    await ThreadSlots(1, "stdin").run(sys.stdin.buffer.read)
