"""What a checkpoint directory holds, for people: read without a lock, without the key, without changes.

Metadata is JSON and is shown; user data is counted in bytes and not looked at.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..durable.journal_format import segment_names
from ..durable.journal_reader import JournalRecord, ScanResult, scan
from ..durable.seal import SEAL_BYTES
from ..errors import ConfigurationError, CorruptionError
from ..runtime.records import Kind
from ..runtime.recovery import step_of_state

__all__ = ["Holder", "Inspection", "Summary", "inspect_directory"]

READS_MAX = 5


class Holder(NamedTuple):
    """Who holds the lock of a directory, by what its lock file says."""

    host: str
    pid: int
    since: str

    @property
    def runs(self) -> bool | None:
        """False when it is gone and left the file behind; None when it is on another host."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


@dataclass(slots=True)
class Pending:
    """A batch that was begun and is not committed.

    records: None when its sources do not know. files: those of the user that it reads.
    """

    batch: int
    time: int
    records: int | None = 0
    blocks: int = 0
    files: list[str] = field(default_factory=list)


@dataclass(slots=True)
class StatePart:
    """One partition of a keyed state.

    keys: None when the journal does not say. chain: version and size of each record.
    """

    version: int = 0
    keys: int | None = None
    chain: list[tuple[int, int]] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records it is rebuilt from."""
        return len(self.chain)

    @property
    def bytes(self) -> int:
        """The size of these."""
        return sum(size for _, size in self.chain)


@dataclass(slots=True)
class Kept:
    """What windows keep of one batch."""

    blocks: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Logged:
    """Blocks of a receiver that no batch has yet."""

    blocks: int = 0
    records: int = 0
    bytes: int = 0


class _LoggedBlock(NamedTuple):
    stream: str
    records: int
    bytes: int


@dataclass(slots=True)
class Summary:
    """The journal, read to its end or to where it is damaged."""

    records: int = 0
    first: int = 0
    driver: dict[str, Any] = field(default_factory=dict)
    commit: dict[str, Any] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)
    states: dict[str, dict[int, StatePart]] = field(default_factory=dict)
    kept: dict[str, dict[int, Kept]] = field(default_factory=dict)
    _logged: dict[int, _LoggedBlock] = field(default_factory=dict)
    _tentative: list[tuple[Kind, dict[str, Any], int]] = field(default_factory=list)
    _prepared: dict[str, Any] = field(default_factory=dict)

    def read(self, records: Iterable[JournalRecord]) -> None:
        """Take records in order. Raises CorruptionError for one that is not understood."""
        for record in records:
            number = record.payload.number
            self.records += 1
            self.first = self.first or number
            try:
                self._take(
                    Kind(record.kind), json.loads(record.meta[SEAL_BYTES:]), number, record.payload.length
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorruptionError(
                    f"record {number} of {record.payload.path} is not understood: {error!r}"
                ) from error

    def _take(self, kind: Kind, content: dict[str, Any], number: int, size: int) -> None:
        match kind:
            case Kind.OPEN:
                self.driver = content
                self._tentative.clear()
                for name in content.get("dropped", []):
                    for known in (self.states, self.kept):
                        known.pop(name, None)
            case Kind.BLOCK:
                if content.get("batch") is None:
                    self._logged[number] = _LoggedBlock(content["stream"], content["records"], size)
            case Kind.INTENT:
                self._intent(content)
            case Kind.STATE | Kind.KEPT:
                self._tentative.append((kind, content, size))
            case Kind.COMMIT:
                self._commit({**self._prepared, **content} if "prepared" in content else content)
            case Kind.PREPARED:
                self._prepared = content

    def _intent(self, content: dict[str, Any]) -> None:
        pending = Pending(content["batch"], content["time"])
        for item in content["inputs"].values():
            records = item["records"]
            pending.records = None if pending.records is None or records < 0 else pending.records + records
            for place in item["blocks"]:
                pending.blocks += 1
                if isinstance(place, int):
                    self._logged.pop(place, None)
                else:
                    pending.files.append(place["file"][0])
        self.pending[pending.batch] = pending

    def _commit(self, content: dict[str, Any]) -> None:
        self.commit = content
        self.pending = {batch: item for batch, item in self.pending.items() if batch > content["batch"]}
        for kind, item, size in self._tentative:
            (self._state if kind is Kind.STATE else self._keep)(item, size)
        self._tentative.clear()
        for window, horizon in content.get("horizons", {}).items():
            for time in [time for time in self.kept.get(window, {}) if time <= horizon]:
                del self.kept[window][time]

    def _state(self, content: dict[str, Any], size: int) -> None:
        parts = self.states.setdefault(step_of_state(content["state"]), {})
        for index in [index for index in parts if index >= content["partitions"]]:
            del parts[index]
        part = parts.setdefault(content["partition"], StatePart())
        if content["first"]:
            part.chain.clear()
        part.chain.append((content["version"], size))
        if content.get("sweep_done"):
            part.chain = [item for item in part.chain if item[0] >= content["sweep"]]
        part.version, part.keys = content["version"], content.get("keys")

    def _keep(self, content: dict[str, Any], size: int) -> None:
        for window in content["windows"]:
            kept = self.kept.setdefault(window, {}).setdefault(content["time"], Kept())
            kept.blocks += 1
            kept.bytes += size

    @property
    def logged(self) -> dict[str, Logged]:
        """Blocks that no batch has yet, by stream."""
        totals: dict[str, Logged] = {}
        for block in self._logged.values():
            total = totals.setdefault(block.stream, Logged())
            total.blocks += 1
            total.records += max(0, block.records)
            total.bytes += block.bytes
        return totals

    @property
    def is_complete(self) -> bool:
        """True when the journal begins early enough for its last commit."""
        return bool(self.first <= max(1, self.commit.get("needs", 0)))

    @property
    def missing_files(self) -> list[str]:
        """Files of the user that pending batches read and that are gone."""
        files = {path for pending in self.pending.values() for path in pending.files}
        return sorted(path for path in files if not os.path.exists(path))


@dataclass(slots=True)
class Inspection:
    """A checkpoint directory. damage: why it could not be read to the end, "" when it could."""

    path: str
    format: Any = None
    epoch: Any = None
    holder: Holder | None = None
    segments: int = 0
    bytes: int = 0
    summary: Summary = field(default_factory=Summary)
    scan: ScanResult = field(default_factory=ScanResult)
    damage: str = ""

    @property
    def in_use(self) -> bool:
        """True when a driver works on it, or may."""
        return self.holder is not None and self.holder.runs is not False


def inspect_directory(path: str) -> Inspection:
    """Read a directory, which a driver may be writing at the same time. Raises ConfigurationError.

    What a driver removes in the middle of a reading looks like damage, so it is read again then.
    """
    for attempt in range(1, READS_MAX + 1):
        inspection = _read(path)
        if not inspection.damage or not inspection.in_use or attempt == READS_MAX:
            break
    return inspection


def _read(path: str) -> Inspection:
    if not os.path.isdir(os.path.join(path, "journal")) and not os.path.exists(os.path.join(path, "META")):
        raise ConfigurationError(f"{path} is no checkpoint directory")
    inspection = Inspection(os.path.abspath(path), holder=_holder(path))
    try:
        inspection.format = _control(path, "META").get("format")
        inspection.epoch = _control(path, "EPOCH").get("epoch")
        _read_journal(os.path.join(path, "journal"), inspection)
    except CorruptionError as error:
        inspection.damage = str(error)
    except OSError as error:
        inspection.damage = f"{error.filename or path} cannot be read: {error.strerror or error}"
    return inspection


def _read_journal(journal: str, inspection: Inspection) -> None:
    files = [os.path.join(journal, name.file) for name in segment_names(journal)]
    inspection.segments, inspection.bytes = len(files), sum(os.path.getsize(file) for file in files)
    inspection.summary.read(scan(journal, inspection.scan))


def _control(path: str, name: str) -> dict[str, Any]:
    """A small control file. Raises CorruptionError, OSError when it is missing."""
    with open(os.path.join(path, name), "rb") as file:
        try:
            content = json.loads(file.read(4096))
        except ValueError as error:
            raise CorruptionError(f"{os.path.join(path, name)} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CorruptionError(f"{os.path.join(path, name)} is damaged: it holds no object")
    return content


def _holder(path: str) -> Holder | None:
    try:
        content = _control(path, "LOCK")
        return Holder(str(content["host"]), int(content["pid"]), str(content["since"]))
    except (OSError, CorruptionError, KeyError, TypeError, ValueError):
        return None  # nobody holds it: who leaves it well empties it
