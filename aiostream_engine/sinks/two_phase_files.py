"""Files in two phases: nothing of a batch is in the directory before the batch is true.

A partition is written to a staged file and made durable; when the engine has committed the batch,
its files are renamed into place, and a manifest under ``_batches/`` lists them. The layout is that
of :mod:`.files`, and so is the reader, :func:`read_committed`. After Flink's file sink, with names
that a repetition gives again, and Spark's log of committed files.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict

import msgspec

from ..durable.staging import StagingDirectory
from ..errors import OptionError, SinkError
from ..types import BatchTime
from .base import Records, SinkContext, TransactionalSink, WriteKey
from .files import checked_name, part_name, read_committed
from .threads import settled

__all__ = ["FileToken", "TwoPhaseFileSink", "read_committed"]

_CHUNK_RECORDS = 10_000
_STAGED_NAME = re.compile(r"(?:part-)?(\d{13,})-\d{10,}[-.]")


class FileToken(TypedDict):
    """A staged partition, as the commit record of the engine holds it; ``name`` is "" for an empty one."""

    name: str
    records: int
    bytes: int


class TwoPhaseFileSink(TransactionalSink):
    """Writes a file for each partition that has records; a batch shows as a whole, or not at all.

    Parameters
    ----------
    directory: created when missing; one sink at a time may write to it.
    format: ``json`` writes what msgspec can encode as one JSON line; ``text`` writes ``str(record)``.
    suffix: end of each name, by default that of the format.
    encode_default: turns a record that is no JSON into one that is.
    durable: sync files and directories; False survives the end of the process, not a loss of power.
    concurrency_max: partitions that are written at the same time.

    The names are those of :func:`.files.part_name`. Readers take :func:`read_committed`, and never see
    half a batch; who lists the directory never sees half a file, nor a file of a batch that may still
    fail. Files of a batch may be removed together with its manifest, but for the newest manifest. An
    empty batch leaves nothing.

    Raises SinkError when the directory cannot be used, DirectoryInUseError naming the holder when
    another sink has it, and StorageError when a staged file of a committed batch is gone.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        format: Literal["json", "text"] = "json",
        suffix: str | None = None,
        encode_default: Callable[[Any], Any] | None = None,
        durable: bool = True,
        concurrency_max: int = 4,
        name: str = "two-phase-files",
    ) -> None:
        if format not in ("json", "text"):
            raise OptionError(f"format {format!r} is not known: use 'json' or 'text'")
        self._suffix = (".jsonl" if format == "json" else ".txt") if suffix is None else suffix
        checked_name(f"x{self._suffix}")
        self.name = name
        self.concurrency_max = concurrency_max
        self.directory = Path(directory)
        self._durable = durable
        json_lines = msgspec.json.Encoder(enc_hook=encode_default).encode_lines
        self._encode: Callable[[Sequence[Any]], bytes] = json_lines if format == "json" else _text
        self._staging: StagingDirectory | None = None

    async def open(self, context: SinkContext) -> None:
        """Open and lock the directory. Staged files stay: the last commit may not be published yet."""
        await asyncio.to_thread(self._opened)

    def _opened(self) -> StagingDirectory:
        if self._staging is None:
            try:
                self._staging = StagingDirectory(str(self.directory), durable=self._durable)
            except OSError as exc:
                raise SinkError(f"sink {self.name!r} cannot use directory {self.directory}: {exc}") from exc
        return self._staging

    async def aclose(self) -> None:
        if self._staging is not None:
            await asyncio.to_thread(self._staging.close)
            self._staging = None

    # -- staging -------------------------------------------------------------------------------

    async def stage(self, key: WriteKey, records: Records) -> FileToken:
        """Write and sync one partition under a name that a repetition of it replaces."""
        staged = _Staged(self._opened, checked_name(part_name(key) + self._suffix), self._encode)
        try:
            chunks: list[Sequence[Any]] = []
            waiting = 0
            async for chunk in records:
                chunks.append(chunk)
                waiting += len(chunk)
                if waiting >= _CHUNK_RECORDS:
                    await settled(asyncio.to_thread(staged.write, chunks))
                    chunks, waiting = [], 0
            return await settled(asyncio.to_thread(staged.finish, chunks))
        except BaseException:
            staged.abandon()
            raise

    # -- the end of a batch --------------------------------------------------------------------

    async def commit(self, batch_id: int, time: BatchTime, tokens: Sequence[FileToken]) -> None:
        """Rename the files of the batch into place, then write its manifest; may be repeated."""
        await settled(asyncio.to_thread(self._commit, batch_id, time, tokens))

    def _commit(self, batch_id: int, time: BatchTime, tokens: Sequence[FileToken]) -> None:
        staging = self._opened()
        files = [token for token in tokens if token["name"]]
        manifest = f"{time:013d}-{batch_id:010d}.json"
        if files and not staging.has_record(manifest):
            staging.publish([checked_name(token["name"]) for token in files])
            content = {"batch_id": batch_id, "time_ms": int(time), "files": files}
            staging.record(manifest, msgspec.json.encode(content))
        # Batches are committed in order: what is staged up to here is of attempts that do not count (C11).
        staging.discard_where(lambda name: _is_staged_until(name, time))

    async def abort(self, batch_id: int, tokens: Sequence[FileToken]) -> None:
        """Remove the staged files of the batch."""
        names = [checked_name(token["name"]) for token in tokens if token["name"]]
        await settled(asyncio.to_thread(self._opened().discard, names))


class _Staged:
    """One partition on its way into a staged file, which is made with the first record."""

    def __init__(
        self, opened: Callable[[], StagingDirectory], name: str, encode: Callable[[Sequence[Any]], bytes]
    ) -> None:
        self._opened = opened
        self._name = name
        self._encode = encode
        self._file: BinaryIO | None = None
        self._token = FileToken(name="", records=0, bytes=0)

    def write(self, chunks: Sequence[Sequence[Any]]) -> None:
        for chunk in chunks:
            if len(chunk) == 0:
                continue
            if self._file is None:
                self._file = self._opened().stage(self._name)
                self._token["name"] = self._name
            data = self._encode(chunk)
            self._file.write(data)
            self._token["records"] += len(chunk)
            self._token["bytes"] += len(data)

    def finish(self, chunks: Sequence[Sequence[Any]]) -> FileToken:
        self.write(chunks)
        if self._file is not None:
            self._opened().finish(self._file)
        return self._token

    def abandon(self) -> None:
        """Nothing of a failed write stays behind."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # what it could not write is given up anyway
                pass
            self._opened().discard([self._name])


def _is_staged_until(name: str, time: int) -> bool:
    """True for our own staged files of batches up to ``time``; others are not ours to touch."""
    match = _STAGED_NAME.match(name)
    return match is not None and int(match[1]) <= time


def _text(records: Sequence[Any]) -> bytes:
    return "".join([f"{record}\n" for record in records]).encode(errors="surrogateescape")
