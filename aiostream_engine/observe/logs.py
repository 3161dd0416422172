"""Structured records on top of standard logging: an event, then ``key=value`` fields.

Nothing here sets logging up: no handler, no level, no format. What is logged may come from a
stream, so every value is bounded, stripped of control characters (no forged lines, no terminal
escapes) and masked where it looks like a secret. The idea of event plus fields is structlog's.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .redaction import redact, redact_mapping

__all__ = ["RateLimiter", "StructuredLogger", "get_logger", "neutralise"]

TEXT_CHARS_MAX = 2000
LIMITER_KEYS_MAX = 1024

# C0, DEL and C1 controls, line separators, and the marks that reorder text on a screen.
_HOSTILE = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HOSTILE}
_ESCAPES |= {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


def neutralise(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Make text from outside fit for one line of a log or a screen.

    Control characters become visible escapes; beyond ``chars_max`` characters it is cut with a mark.
    """
    if len(text) > chars_max:
        text = f"{text[:chars_max]}… ({len(text)} characters)"
    return text.translate(_ESCAPES)


def _field(name: str, value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = neutralise(redact(text))
    if text and not any(mark in text for mark in ' "='):
        return f"{name}={text}"
    return f'{name}="{text}"'


class RateLimiter:
    """Lets through at most ``burst`` records of one key in ``per_s`` seconds, and counts the rest.

    Keys are bounded: the one unused for longest is forgotten.
    """

    def __init__(
        self, burst: int = 5, per_s: float = 60.0, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._monotonic = monotonic
        # key -> (start of its period, passed in it, held back since the last that passed)
        self._keys: OrderedDict[str, tuple[float, int, int]] = OrderedDict()
        self.suppressed_total = 0

    def allow(self, key: str) -> int | None:
        """Number of records held back since the last one of this key, or None to hold this one back."""
        now = self._monotonic()
        start, passed, held = self._keys.pop(key, (now, 0, 0))
        if now - start >= self._per_s:
            start, passed = now, 0
        if passed >= self._burst:
            self._keys[key] = (start, passed, held + 1)
            self.suppressed_total += 1
            return None
        self._keys[key] = (start, passed + 1, 0)
        if len(self._keys) > LIMITER_KEYS_MAX:
            self._keys.popitem(last=False)
        return held


class StructuredLogger:
    """Writes ``event key=value …`` to a standard logger; the fields also ride in ``record.fields``."""

    def __init__(self, logger: logging.Logger, limiter: RateLimiter | None = None) -> None:
        self.logger = logger
        self.limiter = RateLimiter() if limiter is None else limiter

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log(logging.ERROR, event, fields)

    def limited(self, key: str, level: int, event: str, **fields: Any) -> None:
        """Log a record that may repeat often: held back beyond the limit of ``key``, then counted.

        The first record after a pause carries ``suppressed``, the number that was held back.
        """
        if not self.logger.isEnabledFor(level):
            return
        held = self.limiter.allow(key)
        if held is None:
            return
        if held:
            fields["suppressed"] = held
        self._log(level, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if not self.logger.isEnabledFor(level):
            return
        safe = redact_mapping(fields)
        text = " ".join([neutralise(redact(event)), *(_field(name, safe[name]) for name in safe)])
        self.logger.log(level, "%s", text, extra={"fields": safe}, stacklevel=3)


def get_logger(name: str) -> StructuredLogger:
    """The structured logger of a room, such as ``get_logger("aiostream_engine.sinks")``."""
    return StructuredLogger(logging.getLogger(name))
