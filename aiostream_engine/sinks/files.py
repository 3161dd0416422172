"""A directory of files as a sink: complete files only, under names that a repetition gives again.

A partition is written to a staged file, made durable, and renamed into place; a batch whose
partitions are all in place gets a manifest under ``_batches/``. Readers that follow the
manifests (:func:`read_committed`) never see half a batch; readers that just list the directory
never see half a file. Staging and rename as in Flink's file sink, manifests as in Spark's.
"""

from __future__ import annotations

import abc
import asyncio
import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import aiofiles
import msgspec

from ..errors import CorruptionError, OptionError, SinkError
from .base import IdempotentSink, Records, SinkContext, WriteKey

__all__ = ["FileOptions", "JsonLinesFileSink", "TextFileSink", "part_name", "read_committed"]

MANIFESTS = "_batches"
STAGED_SUFFIX = ".staged"
STAGED_STALE_S = 3600.0
OPEN_BATCHES_MAX = 64
NAME_BYTES_MAX = 200
_STAGE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def part_name(key: WriteKey) -> str:
    """``part-<label in ms>-<batch id>-<partition>``: sorts by batch, the same in each repetition.

    The label is part of it because batch ids begin anew with a new run: a second run into the
    same directory must not overwrite the files of the first.
    """
    return f"part-{key.time:013d}-{key.batch_id:010d}-{key.partition:05d}"


def checked_name(name: object) -> str:
    """A file name that stays inside of its directory. Raises OptionError for any other."""
    if not isinstance(name, str) or not name:
        raise OptionError(f"file name {name!r} must be a text that is not empty")
    if len(name.encode(errors="surrogateescape")) > NAME_BYTES_MAX:
        raise OptionError(f"file name {name[:40]!r}… is longer than {NAME_BYTES_MAX} bytes")
    if any(mark in name for mark in "/\\:") or not name.isprintable():
        raise OptionError(f"file name {name!r} must not hold separators or control characters")
    if name[0] in "._~":
        raise OptionError(f"file name {name!r} must not begin with '.', '_' or '~'")
    return name


class FileOptions(TypedDict, total=False):
    """Options that the file sinks share, explained at :class:`TextFileSink`."""

    file_name: Callable[[WriteKey], str]
    durable: bool
    manifests: bool
    concurrency_max: int


class _FileSink(IdempotentSink):
    """Everything but the encoding of records."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        suffix: str,
        file_name: Callable[[WriteKey], str] = part_name,
        durable: bool = True,
        manifests: bool = True,
        concurrency_max: int = 4,
        name: str = "files",
    ) -> None:
        checked_name(f"x{suffix}")
        self.name = name
        self.concurrency_max = concurrency_max
        self.directory = Path(directory)
        self._suffix = suffix
        self._file_name = file_name
        self._durable = durable
        self._manifests = manifests
        self._fd = self._manifests_fd = -1
        # Written partitions of batches that are not whole yet, by (batch id, label).
        self._open_batches: dict[tuple[int, int], dict[int, dict[str, Any]]] = {}

    @abc.abstractmethod
    def _encode(self, chunk: Sequence[Any]) -> bytes:
        """The chunk as bytes of the file."""

    async def open(self, context: SinkContext) -> None:
        """Create the directory if need be, and sweep staged files that a crash left behind."""
        if self._fd < 0:
            await asyncio.to_thread(self._open)

    def _open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Held open: what is planted at the path later cannot lead the sink elsewhere.
            self._fd = os.open(self.directory, _DIRECTORY_FLAGS)
            if self._manifests:
                if not _is_directory(self._fd, MANIFESTS):
                    os.mkdir(MANIFESTS, dir_fd=self._fd)
                self._manifests_fd = os.open(MANIFESTS, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=self._fd)
            _sweep(self._fd)
        except OSError as exc:
            self._close()
            raise SinkError(f"sink {self.name!r} cannot use directory {self.directory}: {exc}") from exc

    async def aclose(self) -> None:
        self._close()

    def _close(self) -> None:
        for fd in (self._manifests_fd, self._fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._manifests_fd = -1

    async def write(self, key: WriteKey, records: Records) -> None:
        if self._fd < 0:
            await self.open(SinkContext(self.name))
        name = checked_name(f"{self._file_name(key)}{self._suffix}")
        count, size = await self._write_file(self._fd, name, records)
        if self._manifests:
            await self._note(key, {"name": name, "records": count, "bytes": size})

    async def _write_file(self, directory_fd: int, name: str, records: Records) -> tuple[int, int]:
        """Stage, make durable, rename; nothing of a failed or cancelled write stays behind."""
        staged = f".{name}.{secrets.token_hex(8)}{STAGED_SUFFIX}"
        renamed = False
        try:
            count, size = await self._stage(directory_fd, staged, records)
            await asyncio.to_thread(_publish, directory_fd, staged, name, self._durable)
            renamed = True
        finally:
            if not renamed:
                _remove(directory_fd, staged)
        return count, size

    async def _stage(self, directory_fd: int, staged: str, records: Records) -> tuple[int, int]:
        def opener(path: str, _flags: int) -> int:
            return os.open(path, _STAGE_FLAGS, 0o666, dir_fd=directory_fd)

        count = size = 0
        async with aiofiles.open(staged, "wb", opener=opener) as file:
            async for chunk in records:
                data = await asyncio.to_thread(self._encode, chunk)
                await file.write(data)
                count += len(chunk)
                size += len(data)
            await file.flush()
            if self._durable:
                await asyncio.to_thread(os.fsync, file.fileno())
        return count, size

    async def _note(self, key: WriteKey, part: dict[str, Any]) -> None:
        """Take a written partition down; the last one of its batch writes the manifest."""
        batch = (key.batch_id, int(key.time))
        parts = self._open_batches.setdefault(batch, {})
        parts[key.partition] = part
        if len(parts) < key.partitions:
            while len(self._open_batches) > OPEN_BATCHES_MAX:  # those that failed and did not come again
                del self._open_batches[min(self._open_batches)]
            return
        del self._open_batches[batch]
        manifest = {
            "batch_id": key.batch_id,
            "time_ms": int(key.time),
            "files": [parts[number] for number in sorted(parts)],
        }
        data = msgspec.json.encode(manifest)
        name = f"{key.time:013d}-{key.batch_id:010d}.json"
        await asyncio.to_thread(_write_whole, self._manifests_fd, name, data, self._durable)


def _is_directory(fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _publish(fd: int, staged: str, name: str, durable: bool) -> None:
    os.rename(staged, name, src_dir_fd=fd, dst_dir_fd=fd)
    if durable:
        os.fsync(fd)


def _write_whole(fd: int, name: str, data: bytes, durable: bool) -> None:
    staged = f".{name}.{secrets.token_hex(8)}{STAGED_SUFFIX}"
    try:
        with open(os.open(staged, _STAGE_FLAGS, 0o666, dir_fd=fd), "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        _publish(fd, staged, name, durable)
    except BaseException:
        _remove(fd, staged)
        raise


def _remove(fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return


def _sweep(fd: int) -> None:
    """Remove staged files that nobody has written to for an hour: those of a crash."""
    oldest = time.time() - STAGED_STALE_S
    for name in os.listdir(fd):
        if name.startswith(".") and name.endswith(STAGED_SUFFIX):
            try:
                if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime < oldest:
                    os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                continue


class TextFileSink(_FileSink):
    """Writes ``str()`` of each record as one UTF-8 line, a file for each partition of each batch.

    directory: created when missing; the path may be a link, what lies in it is never followed.
    suffix: end of each name; file_name: gives the name for a key, the same for the same key.
    durable: call fsync on file and directory before a write counts as done.
    manifests: write ``_batches/<label>-<batch id>.json`` when all partitions of a batch are there.

    Idempotent: the same key overwrites the same file, as a whole. A record with line breaks in
    it reads back as several. Raises SinkError and OSError when the directory cannot be written,
    OptionError when a name would leave it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        suffix: str = ".txt",
        name: str = "text-files",
        **options: Unpack[FileOptions],
    ) -> None:
        super().__init__(directory, suffix=suffix, name=name, **options)

    def _encode(self, chunk: Sequence[Any]) -> bytes:
        return "".join([f"{record}\n" for record in chunk]).encode(errors="surrogateescape")


class JsonLinesFileSink(_FileSink):
    """Writes each record as one JSON line; otherwise as :class:`TextFileSink`.

    What msgspec can encode is a record: plain data, dates, dataclasses, msgspec structs … A
    record of another type raises TypeError unless ``encode_default`` turns it into one.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        suffix: str = ".jsonl",
        name: str = "json-files",
        encode_default: Callable[[Any], Any] | None = None,
        **options: Unpack[FileOptions],
    ) -> None:
        super().__init__(directory, suffix=suffix, name=name, **options)
        self._encoder = msgspec.json.Encoder(enc_hook=encode_default)

    def _encode(self, chunk: Sequence[Any]) -> bytes:
        return self._encoder.encode_lines(chunk)


class _Manifest(msgspec.Struct):
    batch_id: int
    time_ms: int
    files: list[dict[str, Any]]


def read_committed(directory: str | os.PathLike[str]) -> list[Path]:
    """Files of all whole batches in a sink's directory, in order of batches and partitions.

    Blocking. Raises CorruptionError for a manifest that cannot be read or names a file outside.
    """
    root = Path(directory)
    paths: list[Path] = []
    for manifest in sorted((root / MANIFESTS).glob("[0-9]*.json")):
        try:
            content = msgspec.json.decode(manifest.read_bytes(), type=_Manifest)
            paths += [root / checked_name(file.get("name")) for file in content.files]
        except (msgspec.DecodeError, OptionError) as exc:
            raise CorruptionError(f"manifest {manifest} is damaged: {exc}") from exc
    return paths
