"""``kafka …``: a broker on this machine to try things with, and just enough to look into it."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..errors import AiostreamError, ConfigurationError
from ..observe.logs import neutralise
from ..sinks.threads import ThreadSlots
from .exit_code import ExitCode
from .loop import run_loop
from .options import Duration
from .session import say, say_failure
from .signals import StopSignals

if TYPE_CHECKING:
    from ..kafka.settings import KafkaSettings
    from ..testing.kafka_broker import LocalKafka

__all__ = ["app", "consume", "dev", "lag", "produce", "topics"]

DEFAULT_PORT = 9092
BROKER_POLL_S = 0.25

app = typer.Typer(
    no_args_is_help=True,
    help="""Start a Kafka broker on this machine to try things with, and look into topics.

`dev` needs Java and Maven, and fetches Apache Kafka once; the others need a broker at `--bootstrap`.""",
)

Bootstrap = Annotated[
    str, typer.Option("--bootstrap", "-b", metavar="HOST:PORT,…", help="Addresses of brokers.")
]
Properties = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        "-X",
        metavar="NAME=VALUE",
        help="A setting of the connection by its Kafka name, such as `security.protocol=SSL`.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Settings as lines `name=value`: the place for passwords, which others see on a command line.",
        show_default=False,
    ),
]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)]
Command = Callable[["KafkaSettings"], Coroutine[Any, Any, ExitCode]]
LOCAL = f"127.0.0.1:{DEFAULT_PORT}"


# -- a broker ------------------------------------------------------------------------------------


@app.command()
def dev(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on loopback; 0 lets the system choose.")
    ] = DEFAULT_PORT,
    partitions: Annotated[int, typer.Option(min=1, help="Of topics that come up by being used.")] = 4,
    directory: Annotated[
        Path | None,
        typer.Option(help="Keep the data here; default: gone at the end.", show_default=False),
    ] = None,
    duration: Duration = None,
) -> None:
    """Run Apache Kafka on loopback until Ctrl-C; prints its address on standard output.

    The first time, Maven fetches it (43 MB). Topics come up when they are first used.

    `python -m aiostream_engine kafka dev` and, elsewhere, `python -m aiostream_engine kafka produce words`
    """
    from ..testing.kafka_broker import KafkaUnavailableError, LocalKafka

    if port and not _is_free(port):
        say(f"Error: port {port} of 127.0.0.1 is in use; choose another with --port")
        raise typer.Exit(ExitCode.FAILED)
    settings = {"auto.create.topics.enable": True, "num.partitions": partitions}
    say("starting Apache Kafka")
    with closing(LocalKafka(port=port, directory=directory, properties=settings)) as kafka:
        try:
            kafka.start()
        except KafkaUnavailableError as error:
            say_failure(error)
            raise typer.Exit(ExitCode.FAILED) from None
        code = run_loop(_serve(kafka, duration), uvloop=False)
        kafka.stop()
    raise typer.Exit(code)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _serve(kafka: LocalKafka, duration_s: float | None) -> ExitCode:
    with StopSignals(lambda _: None).installed() as signals:
        typer.echo(f"Kafka at {kafka.bootstrap}")
        sys.stdout.flush()
        say("Ctrl-C ends it")
        try:
            async with asyncio.timeout(duration_s):
                while not signals.drain.is_set():
                    if kafka.pid() is None:
                        say(f"Error: Kafka ended by itself:\n{kafka.log()}")
                        return ExitCode.FAILED
                    await asyncio.sleep(BROKER_POLL_S)
        except TimeoutError:
            pass
    return ExitCode.OK


# -- records -------------------------------------------------------------------------------------


@app.command()
def produce(
    topic: Topic,
    bootstrap: Bootstrap = LOCAL,
    key_separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What stands before it in a line is the key.", show_default=False),
    ] = None,
    property_: Properties = None,
    config: ConfigFile = None,
) -> None:
    """Send the lines of standard input as records, and tell how many.

    `yes to be or not | head -100000 | python -m aiostream_engine kafka produce words`
    """

    async def main(settings: KafkaSettings) -> ExitCode:
        from ..kafka.console import send_lines

        separator = key_separator.encode() if key_separator else None
        count = await send_lines(settings, topic, _stdin_lines(), key_separator=separator)
        say(f"sent {count} records to {topic}")
        return ExitCode.OK

    _run(main, bootstrap, property_, config)


async def _stdin_lines() -> AsyncIterator[bytes]:
    slots = ThreadSlots(1, "stdin")
    while line := await slots.run(sys.stdin.buffer.readline):
        yield line.rstrip(b"\r\n")


@app.command()
def consume(
    topic: Topic,
    bootstrap: Bootstrap = LOCAL,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="All that is there, not only what comes now.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="Leave after so many records.", show_default=False)
    ] = None,
    keys: Annotated[bool, typer.Option("--keys", help="Print the key and a tab before the value.")] = False,
    duration: Duration = None,
    property_: Properties = None,
    config: ConfigFile = None,
) -> None:
    """Print the values of a topic, a line each, until Ctrl-C. Commits no offsets."""

    async def main(settings: KafkaSettings) -> ExitCode:
        with StopSignals(lambda _: None).installed() as signals:
            reading = asyncio.ensure_future(_print_records(settings, topic, from_beginning, count, keys))
            ended = asyncio.ensure_future(signals.drain.wait())
            await asyncio.wait({reading, ended}, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            ended.cancel()
            await asyncio.wait({reading, ended})
            if not reading.cancelled():
                reading.result()
        return ExitCode.OK

    _run(main, bootstrap, property_, config)


async def _print_records(
    settings: KafkaSettings, topic: str, from_beginning: bool, count: int | None, keys: bool
) -> None:
    from ..kafka.console import read_records

    seen = 0
    async with aclosing(read_records(settings, topic, from_beginning=from_beginning)) as records:
        async for record in records:
            value = (record.value or b"").decode(errors="replace")
            key = (record.key or b"").decode(errors="replace")
            line = f"{key}\t{value}" if keys else value
            typer.echo(neutralise(line) if sys.stdout.isatty() else line)
            seen += 1
            if seen == count:
                return


# -- looking -------------------------------------------------------------------------------------


@app.command()
def topics(
    bootstrap: Bootstrap = LOCAL,
    create: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Create this one first.", show_default=False)
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Of the topic to create.")] = 4,
    property_: Properties = None,
    config: ConfigFile = None,
) -> None:
    """List topics with their partitions and the offsets that they hold."""

    async def main(settings: KafkaSettings) -> ExitCode:
        from ..kafka.admin import KafkaAdmin

        async with KafkaAdmin(settings) as admin:
            if create is not None:
                await admin.create_topic(create, partitions)
            counts = await admin.topics()
            bounds = await admin.bounds(counts)
        held: dict[str, int] = {}
        for (name, _), (first, end) in bounds.items():
            held[name] = held.get(name, 0) + end - first
        rows = [[name, str(count), str(held.get(name, "?"))] for name, count in sorted(counts.items())]
        _print_table(["topic", "partitions", "offsets"], rows)
        return ExitCode.OK

    _run(main, bootstrap, property_, config)


@app.command()
def lag(
    group: Annotated[str, typer.Argument(metavar="GROUP", show_default=False)],
    bootstrap: Bootstrap = LOCAL,
    property_: Properties = None,
    config: ConfigFile = None,
) -> None:
    """Show how far a consumer group is behind: committed offset, end and lag of each partition."""

    async def main(settings: KafkaSettings) -> ExitCode:
        from ..kafka.admin import KafkaAdmin

        async with KafkaAdmin(settings) as admin:
            committed = await admin.committed(group)
            bounds = await admin.bounds({topic for topic, _ in committed})
        if not committed:
            say(f"group {group} has committed nothing")
            return ExitCode.FAILED
        rows, total = [], 0
        for place, offset in sorted(committed.items()):
            behind = max(0, bounds[place][1] - offset) if place in bounds else 0
            total += behind
            end = str(bounds[place][1]) if place in bounds else "gone"
            rows.append([place[0], str(place[1]), str(offset), end, str(behind)])
        _print_table(
            ["topic", "partition", "committed", "end", "lag"], [*rows, ["", "", "", "total", str(total)]]
        )
        return ExitCode.OK

    _run(main, bootstrap, property_, config)


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for name in head:
        table.add_column(name, justify="left" if name == "topic" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


# -- what they share -----------------------------------------------------------------------------


def _run(main: Command, bootstrap: str, properties: list[str] | None, config: Path | None) -> NoReturn:
    """Check the settings and the connection, and run the command; ends with its exit code."""
    if importlib.util.find_spec("aiokafka") is None:
        say(f"Error: Kafka needs aiokafka: {sys.executable} -m pip install 'aiostream-engine[kafka]'")
        raise typer.Exit(ExitCode.USAGE)
    settings = _settings(bootstrap, properties or [], config)
    raise typer.Exit(run_loop(_checked(main, settings)))


def _settings(bootstrap: str, properties: list[str], config: Path | None) -> KafkaSettings:
    from ..kafka.settings import KafkaSettings

    lines = config.read_text().splitlines() if config is not None else []
    given: dict[str, Any] = {"bootstrap": bootstrap, "request_timeout_ms": 10_000}
    for line in (*(one.strip() for one in lines), *properties):
        name, equals, value = line.partition("=")
        if not line or line.startswith(("#", "!")):
            continue
        if not equals:
            raise typer.BadParameter("settings are name=value", param_hint="--property")
        given[name.strip()] = value.strip()
    if given.get("bootstrap.servers"):
        given.pop("bootstrap")
    try:
        return KafkaSettings.of(given)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="--property") from None


async def _checked(main: Command, settings: KafkaSettings) -> ExitCode:
    from ..kafka.connection import check_connection, client_errors_explained

    try:
        await check_connection(settings)
        with client_errors_explained():
            return await main(settings)
    except AiostreamError as error:
        say_failure(error)
        return ExitCode.FAILED
