"""Standard output, or any text stream, as a sink: for people, or as JSON lines for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import msgspec

from ..errors import OptionError
from ..types import BatchTime
from .base import PlainSink, Records, WriteKey
from .threads import ThreadSlots

__all__ = ["StdoutSink", "batch_header", "printable"]

RULE = "-" * 43

# All controls but tab and newline: a record must not move the cursor of whoever looks at it.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)] if code not in (0x09, 0x0A)
}


def batch_header(time: BatchTime) -> str:
    """The three lines that stand over a printed batch, as in Spark (row OUT-1)."""
    return f"{RULE}\nTime: {time}\n{RULE}\n"


def printable(record: Any) -> str:
    """A record as text for a screen, its control characters made visible."""
    return str(record).translate(_CONTROLS)


class StdoutSink(PlainSink):
    """Writes batches to a text stream.

    stream: where to; ``sys.stdout`` of the moment by default.
    format: ``pprint`` shows a header and the first ``records_max`` records of a batch;
        ``json`` writes every record as one JSON line, without headers.
    Writes run in a thread, so a reader that does not read holds up this sink, never the loop.
    """

    concurrency_max = 1

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        format: Literal["pprint", "json"] = "pprint",
        records_max: int = 10,
        name: str = "stdout",
    ) -> None:
        if format not in ("pprint", "json"):
            raise OptionError(f"format {format!r} is not known: use 'pprint' or 'json'")
        if records_max < 0:
            raise OptionError(f"records_max is {records_max}: it must not be negative")
        self.name = name
        self._stream = stream
        self._format = format
        self._records_max = records_max
        self._slots = ThreadSlots(1, name)
        self._time: BatchTime | None = None
        self._shown = 0

    async def write(self, key: WriteKey, records: Records) -> None:
        if self._format == "json":
            async for chunk in records:
                await self._slots.run(self._write_json, chunk)
            return
        text = self._begin(key)
        async for chunk in records:
            text += self._take(chunk)
            if self._shown > self._records_max:
                break
        if key.partition == key.partitions - 1:
            text += "\n"
        await self._slots.run(self._write_text, text)

    def _begin(self, key: WriteKey) -> str:
        if self._time == key.time and key.partition > 0:
            return ""
        self._time, self._shown = key.time, 0
        return batch_header(key.time)

    def _take(self, chunk: Sequence[Any]) -> str:
        left = self._records_max - self._shown
        if left < 0:
            return ""
        self._shown += len(chunk)
        lines = [f"{printable(record)}\n" for record in chunk[:left]]
        if len(chunk) > left:
            self._shown = self._records_max + 1  # said once a batch
            lines.append("...\n")
        return "".join(lines)

    def _write_json(self, chunk: Sequence[Any]) -> None:
        self._write_text(msgspec.json.Encoder().encode_lines(chunk).decode())

    def _write_text(self, text: str) -> None:
        stream = sys.stdout if self._stream is None else self._stream
        stream.write(text)
        stream.flush()
