"""``checkpoint …``: look at a checkpoint directory, check it, and mend it knowingly."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer

from ..config import MIB
from ..durable.checkpoint_directory import CheckpointDirectory
from ..durable.journal_reader import ScanResult, scan
from ..durable.lock import DirectoryLock
from ..durable.repair import JournalEnd, end_after, remove_after, set_aside
from ..durable.seal import Seal
from ..errors import AiostreamError, ConfigurationError, CorruptionError
from ..types import BatchTime
from .checkpoint_report import as_json, lines_of, readable_bytes
from .exit_code import ExitCode
from .options import AppDir
from .session import say, say_failure

if TYPE_CHECKING:
    from ..state.store import MemoryStore
    from .checkpoint_summary import Inspection

__all__ = ["app", "export", "inspect", "repair", "reset", "verify"]

READS_MAX = 5
EXPORT_BYTES_MAX = 64 * MIB

app = typer.Typer(
    no_args_is_help=True,
    help="""Look at the checkpoint directory of a stream, check it, and mend it knowingly.

`inspect`, `verify` and `export` change nothing, take no lock, and may be used while the stream runs.
`repair` and `reset` refuse while it runs.""",
)

Directory = Annotated[
    Path, typer.Argument(metavar="DIRECTORY", help="What `run --checkpoint` was given.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _fail(text: str | BaseException, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    if isinstance(text, BaseException):
        say_failure(text)
    else:
        say(f"Error: {text}")
    raise typer.Exit(code)


def _inspected(directory: Path) -> Inspection:
    from .checkpoint_summary import inspect_directory

    try:
        return inspect_directory(str(directory))
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="DIRECTORY") from None


# -- reading -----------------------------------------------------------------------------------


@app.command()
def inspect(
    directory: Directory,
    as_json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what a checkpoint directory holds: batches, state, journal, and who works on it.

    Needs no key. Exits with 1 when the directory is damaged, and says where.
    """
    inspection = _inspected(directory)
    if as_json_:
        typer.echo(json.dumps(as_json(inspection), indent=2))
    else:
        for line in lines_of(inspection):
            typer.echo(line)
    if inspection.damage:
        say(f"DAMAGED: {inspection.damage}")
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def verify(directory: Directory) -> None:
    """Read everything: checksums, order, seals, and whether a start would find all it needs.

    Exits with 1 and the place of the damage when something is wrong. Checking seals needs the key of
    the machine that wrote the directory (`AIOSTREAM_CHECKPOINT_KEY`, or the user's key file).
    """
    inspection = _inspected(directory)
    if inspection.damage:
        _fail(inspection.damage)
    try:
        checked = _while_it_changes(inspection, lambda: _verify(inspection))
    except (AiostreamError, OSError) as error:
        _fail(error)
    torn = inspection.scan
    if torn.torn_bytes:
        typer.echo(
            f"{torn.torn_bytes} bytes at byte {torn.torn_offset} of {torn.torn_path} were never said to be "
            "durable, and do not count"
        )
    if inspection.summary.missing_files:
        _fail(f"batches that will be run again read files that are gone: {inspection.summary.missing_files}")
    typer.echo(f"{inspection.path}: {checked} records are whole and sealed with this key")


def _verify(inspection: Inspection) -> int:
    from ..runtime.records import open_record
    from ..runtime.recovery import recover

    journal, seal = os.path.join(inspection.path, "journal"), Seal.existing()
    count = 0
    for record in scan(journal, ScanResult()):
        open_record(record, seal).check(seal)
        count += 1
    recover(journal, seal, settle=False)
    return count


def _while_it_changes(inspection: Inspection, read: Callable[[], Any]) -> Any:
    """What ``read`` gives; a driver that works on the directory may make it fail, so it is repeated."""
    for attempt in range(1, READS_MAX + 1):
        try:
            return read()
        except (CorruptionError, OSError):
            if not inspection.in_use or attempt == READS_MAX:
                raise
    raise AssertionError("not reached")


@app.command()
def export(
    directory: Directory,
    state: Annotated[str | None, typer.Option(help="Only this state, by the name of its step.")] = None,
    app_dir: AppDir = Path("."),
) -> None:
    """Print the state as of the last commit as JSON lines: state, partition, key, value.

    What is no JSON is printed as `{"repr": …}`. The values are pickles: their seals are checked first,
    so **export only what was written by someone you trust with this machine**; whoever has the key can
    make it run code. Classes of your own are looked for in `--app-dir`. Takes 64 MiB for the state, and the
    rest of it room in the system's temporary directory (`TMPDIR`).
    """
    inspection = _inspected(directory)
    if inspection.damage:
        _fail(inspection.damage)
    say("unpickling the state, which trusts everybody who has the key of this directory")
    sys.path.insert(0, str(app_dir.resolve()))
    count = 0
    try:
        with tempfile.TemporaryDirectory(prefix="aiostream-export-") as scratch:
            # All is read before anything is printed: a driver may remove what has not been read yet.
            parts = _while_it_changes(inspection, lambda: _loaded(inspection.path, state, scratch))
            for line in _lines(parts):
                typer.echo(line)
                count += 1
    except (AiostreamError, OSError) as error:
        _fail(error)
    except Exception as error:  # of a class that is not there, or cannot be loaded any more
        _fail(f"the state cannot be unpickled: {type(error).__name__}: {error}")
    say(f"{count} keys as of batch {inspection.summary.commit.get('batch', 0)}")


class _Part(NamedTuple):
    """One partition of a state."""

    state: str
    partition: int
    store: MemoryStore


def _loaded(path: str, wanted: str | None, scratch: str) -> list[_Part]:
    """The states in a bounded cache, with the rest in files below ``scratch``."""
    from ..runtime.recovery import recover, step_of_state
    from ..state.budget import Budget
    from ..state.disk_store import DiskStore

    recovered = recover(os.path.join(path, "journal"), Seal.existing(), settle=False)
    names = {step_of_state(state_id) for state_id in recovered.states}
    if wanted is not None and wanted not in names:
        raise ConfigurationError(
            f"there is no state {wanted!r}; there is: {', '.join(sorted(names)) or 'none'}"
        )
    budget, parts = Budget(EXPORT_BYTES_MAX), []
    for state_id, found in recovered.states.items():
        name = step_of_state(state_id)
        if wanted in (None, name):
            for partition, chain in sorted(found.chains.items()):
                parts.append(_Part(name, partition, DiskStore(scratch, budget, name)))
                parts[-1].store.load(chain.blocks)
    return parts


def _lines(parts: list[_Part]) -> Iterator[str]:
    import msgspec

    encoder = msgspec.json.Encoder(enc_hook=lambda value: {"repr": repr(value)})
    for part in parts:
        for key, value in part.store.entries.items():
            entry = {"state": part.state, "partition": part.partition, "key": key, "value": value}
            yield encoder.encode(entry).decode()
        part.store.close()


# -- changing ----------------------------------------------------------------------------------


@app.command()
def repair(
    directory: Directory,
    give_up_from: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="RECORD",
            help="Give up this record of the journal and **all after it**: the state goes back to the last "
            "commit before.",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Cut off a torn end; or, knowingly, all from a damaged place on.

    A torn end is what a crash leaves: nobody was told that it was there. Damage is another matter: what
    stands behind it was true, and giving it up loses it. Batches that are given up run again under other
    numbers, if their sources can replay: then sinks get their records **twice**. What is removed is kept
    in the directory, under `removed-…`.
    """
    _inspected(directory)
    try:
        opened = CheckpointDirectory(str(directory))
    except (AiostreamError, OSError) as error:
        _fail(error)
    try:
        _repair(opened, give_up_from, yes)
    except (AiostreamError, OSError) as error:
        _fail(error)
    finally:
        opened.close()


def _repair(directory: CheckpointDirectory, give_up_from: int | None, yes: bool) -> None:
    journal = directory.journal_path
    end, found, damage = end_after(journal)
    if give_up_from is None:
        if damage:
            _fail(
                f"{damage}\nTo lose what stands there and behind, knowingly: "
                f"checkpoint repair {directory.path} --give-up-from {end.number + 1}"
            )
        if not found.torn_bytes:
            typer.echo("nothing to repair")
            return
    else:
        end = _end_before(journal, give_up_from, end, damage)
        _confirm(yes, _what_remains(journal, end, give_up_from))
    backup = _fresh(os.path.join(directory.path, "removed"))
    removed = remove_after(journal, end, backup)
    typer.echo(f"{readable_bytes(removed)} removed behind record {end.number}; kept in {backup}")


def _end_before(journal: str, number: int, last: JournalEnd, damage: str) -> JournalEnd:
    if number > last.number + 1:
        where = f"the damage is at record {last.number + 1}" if damage else f"the last one is {last.number}"
        raise typer.BadParameter(f"there is no record {number}: {where}", param_hint="--give-up-from")
    return last if number == last.number + 1 else end_after(journal, number - 1)[0]


def _what_remains(journal: str, end: JournalEnd, number: int) -> str:
    from .checkpoint_summary import Summary

    summary = Summary()
    summary.read(record for record in _up_to(journal, end.number))
    if not summary.is_complete:
        _fail(
            f"what stands before record {number} is not enough to go on from: it was written anew behind "
            "it, and the old segments were removed. Choose a later record, or use checkpoint reset"
        )
    if not summary.commit:
        return f"Give up record {number} and all after it? No committed batch remains"
    label = BatchTime(summary.commit["time"])
    return (
        f"Give up record {number} and all after it? The stream goes back to batch {summary.commit['batch']} "
        f"of {label}; what its sinks got since, they get again"
    )


def _up_to(journal: str, number: int) -> Iterator[Any]:
    if number < 1:
        return
    for record in scan(journal, ScanResult()):
        yield record
        if record.payload.number >= number:
            return


@app.command()
def reset(
    directory: Directory,
    delete: Annotated[bool, typer.Option("--delete", help="Delete instead of moving aside.")] = False,
    yes: Yes = False,
) -> None:
    """Let the stream begin anew: move the content aside, to a directory beside, or delete it.

    Positions and state begin from nothing: sources that can replay give everything again, and sinks get
    it again. Refuses while a stream works on the directory.
    """
    _inspected(directory)
    path = os.path.abspath(directory)
    try:
        lock = DirectoryLock(path)
    except (AiostreamError, OSError) as error:
        _fail(error)
    try:
        if delete:
            _confirm(yes, f"Delete all positions and state in {path}")
        aside = _fresh(f"{path}.reset")
        set_aside(path, aside)
        if delete:
            shutil.rmtree(aside)
    except OSError as error:
        _fail(error)
    finally:
        lock.close()
    typer.echo(f"{path} is empty" if delete else f"{path} is empty; what it held is in {aside}")


def _confirm(yes: bool, text: str) -> None:
    if not yes:
        typer.confirm(text, abort=True, err=True)


def _fresh(prefix: str) -> str:
    """A path that is not there yet, with the time in it."""
    path = base = f"{prefix}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    number = 1
    while os.path.lexists(path):
        number += 1
        path = f"{base}-{number}"
    return path
