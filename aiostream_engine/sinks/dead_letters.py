"""Dead letters as JSON entries: to be written to any sink, read by people, and sent again.

After the headers of dead letters in Kafka Connect: the record as it was, where it failed, and why. A
worker loads this file, so it knows neither asyncio nor the runtime.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

from ..types import DeadLetter

__all__ = ["dead_letter_entry", "record_of_entry"]

TRACEBACK_CHARACTERS_MAX = 4000
REPR_CHARACTERS_MAX = 4000


def dead_letter_entry(letter: DeadLetter) -> dict[str, Any]:
    """The letter as JSON data, for ``stream.dead_letters().map(dead_letter_entry).to(sink)``.

    ``record`` says how the record is kept: ``{"text": …}``, ``{"base64": …}`` for bytes, ``{"json": …}``
    for plain data; these can be sent again. ``{"repr": …}``, for all else, is only for reading.
    """
    return {
        "step": letter.step,
        "batch": letter.batch,
        "partition": letter.partition,
        "attempts": letter.attempts,
        "error_type": letter.error_type,
        "message": letter.message[:TRACEBACK_CHARACTERS_MAX],
        "record": _kept(letter.record),
        "traceback": letter.traceback[-TRACEBACK_CHARACTERS_MAX:],
    }


def _kept(record: Any) -> dict[str, Any]:
    if isinstance(record, str):
        return {"text": record}
    if isinstance(record, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(record).decode()}
    if _is_plain(record):
        return {"json": record}
    return {"repr": repr(record)[:REPR_CHARACTERS_MAX]}


def _is_plain(value: Any, depth: int = 32) -> bool:
    """True for what comes back from JSON as it was: a tuple would not, nor would NaN or a key that is 1."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return True
    if kind is float:
        return math.isfinite(value)
    if depth == 0 or kind not in (list, dict):
        return False
    if kind is dict:
        return all(type(key) is str and _is_plain(item, depth - 1) for key, item in value.items())
    return all(_is_plain(item, depth - 1) for item in value)


def record_of_entry(entry: Any) -> bytes | None:
    """The record of an entry as one line of bytes, without its end; None when it cannot be sent again.

    Text is encoded, bytes are as they were, plain data is written as JSON. A record with a line break in
    it would come back as two, so it is None as well. Raises ValueError for what is no entry.
    """
    kept = entry.get("record") if isinstance(entry, Mapping) else None
    if not isinstance(kept, Mapping) or len(kept) != 1:
        raise ValueError("this is no entry of a dead letter: it has no record")
    ((how, content),) = kept.items()
    if how == "repr":
        return None
    line = _line(how, content)
    return None if b"\n" in line else line


def _line(how: str, content: Any) -> bytes:
    match how:
        case "text" if isinstance(content, str):
            return content.encode(errors="surrogateescape")
        case "base64" if isinstance(content, str):
            try:
                return base64.b64decode(content, validate=True)
            except binascii.Error as error:
                raise ValueError(f"the record of a dead letter is damaged: {error}") from error
        case "json":
            return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    raise ValueError(f"a dead letter keeps its record as {how!r}, which is not known here")
