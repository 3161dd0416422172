"""Masking of secrets before anything is shown: logs, errors, listeners, screens (scenario J9).

What is masked: the password of a URL, values of query parameters, options and mapping entries
whose *name* speaks of a secret, and bearer or basic credentials. It is a net, not a proof: do
not put secrets into records or step names. No pattern here backtracks more than linearly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "is_secret_name", "redact", "redact_mapping", "redact_value"]

MASK = "***"
DEPTH_MAX = 8

_WORDS = (
    r"passw(?:or)?d|passphrase|passcode|pwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key"
    r"|credential|authorization|cookie|signature|jaas|connection[-_.]?string"
)
_SECRET_NAME = re.compile(rf"{_WORDS}|(?:^|[_.\-])(?:pass|dsn)$", re.IGNORECASE)
# Greedy up to the last @ of the authority, since passwords may hold one.
_URL_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,30}://)([^\s/?#\"'<>]{1,2000})@")
_PAIR = re.compile(
    rf"(?<![A-Za-z0-9_.\-])((?:[A-Za-z0-9_.\-]{{0,200}}(?:{_WORDS})[A-Za-z0-9_.\-]{{0,60}}"
    r"|(?:[A-Za-z0-9_.\-]{0,60}[_.\-])?(?:pass|dsn))"
    r"[\"']?\s{0,4}[=:]\s{0,4})(\"[^\"]*\"|'[^']*'|[^\s,;&\"'}\])]+)",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic)(\s{1,4})([A-Za-z0-9+/=._~\-]{6,})", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """True when a field of this name holds a secret, such as ``sasl_password`` or ``apiKey``."""
    return _SECRET_NAME.search(name) is not None


def _mask_user(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    # Without a colon the whole part may be a token, as in https://TOKEN@host.
    return f"{match[1]}{user}:{MASK}@" if colon else f"{match[1]}{MASK}@"


def _mask_pair(match: re.Match[str]) -> str:
    quote = match[2][0] if match[2][0] in "\"'" else ""
    return f"{match[1]}{quote}{MASK}{quote}"


def redact(text: str) -> str:
    """Text with the secrets that can be recognised replaced by ``***``."""
    if "://" in text:
        text = _URL_USER.sub(_mask_user, text)
    if "earer" in text or "asic" in text or "EARER" in text or "ASIC" in text:
        text = _SCHEME.sub(rf"\1\2{MASK}", text)
    if "=" in text or ":" in text:
        text = _PAIR.sub(_mask_pair, text)
    return text


def redact_value(value: Any, depth: int = 0) -> Any:
    """A value with secrets masked in its texts, mappings and sequences; others are left as they are."""
    if isinstance(value, str):
        return redact(value)
    if depth >= DEPTH_MAX:
        return value if isinstance(value, int | float | bool | None) else MASK
    if isinstance(value, Mapping):
        return redact_mapping(value, depth + 1)
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(redact_value(item, depth + 1) for item in value)
    return value


def redact_mapping(mapping: Mapping[Any, Any], depth: int = 0) -> dict[Any, Any]:
    """A copy of the mapping in which values under secret names are masked, at every depth."""
    return {
        key: MASK
        if isinstance(key, str) and value is not None and is_secret_name(key)
        else redact_value(value, depth)
        for key, value in mapping.items()
    }
