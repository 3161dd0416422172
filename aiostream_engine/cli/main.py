"""The entry point: assembles the commands, or says how to install what they need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from .exit_code import ExitCode

if TYPE_CHECKING:
    import typer

__all__ = ["build_app", "main"]

_HELP = """Micro-batch streams on asyncio: run, try, feed and inspect them.

Start with **demo**; write a module, then **run** it; **doctor** tells whether this machine is fit.

Exit codes: 0 the stream ended or was drained, 1 it failed, 2 wrong usage, 3 stopped by force or
by the drain deadline.
"""
_MISSING = """The command line needs typer and rich, which are not installed ({missing} is missing).
Install them with:

    {python} -m pip install 'aiostream-engine[cli]'

The library itself works without: see the README for use from your own program.
"""


def main() -> NoReturn:
    """Run the command line with the arguments of the process; exits with an :class:`ExitCode`."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as exc:
        sys.stderr.write(_MISSING.format(missing=exc.name, python=sys.executable))
        sys.exit(ExitCode.USAGE)
    build_app(sys.argv[1:])()
    sys.exit(ExitCode.OK)


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The application with all its commands; with ``pyspark`` alone when ``arguments`` call that.

    What the other commands import takes a fifth of the time to the first batch of a script.
    """
    import typer

    from . import pyspark

    app = typer.Typer(
        name="aiostream-engine",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        # A traceback with local variables would show secrets.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            from .. import __version__

            typer.echo(f"aiostream-engine {__version__}")
            raise typer.Exit

    @app.callback(help=_HELP)
    def options(
        version: bool = typer.Option(
            False, "--version", callback=print_version, is_eager=True, help="Print the version and leave."
        ),
    ) -> None:
        pass

    if list(arguments[:1]) != ["pyspark"]:
        _add_streams(app)
    # Options stop at the script: what follows is the script's.
    app.command(context_settings={"allow_interspersed_args": False})(pyspark.pyspark)
    if list(arguments[:1]) != ["pyspark"]:
        _add_tools(app)
    return app


def _add_streams(app: typer.Typer) -> None:
    from . import demo, doctor, explain, feed, run

    app.command()(run.run)
    app.command()(demo.demo)
    app.command()(feed.feed)
    app.command()(explain.explain)
    app.command()(doctor.doctor)


def _add_tools(app: typer.Typer) -> None:
    from . import checkpoint, kafka

    app.add_typer(checkpoint.app, name="checkpoint")
    app.add_typer(kafka.app, name="kafka")
