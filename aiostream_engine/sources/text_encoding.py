"""Which block format carries text of an encoding: decoded in the worker, or strictly in a step of its own."""

from __future__ import annotations

import codecs
from typing import Any, NamedTuple

from ..errors import OptionError

__all__ = ["TextFormat", "text_format"]


class TextFormat(NamedTuple):
    """``format`` and ``args`` of line blocks; ``decode_strictly`` as in :class:`Source`."""

    format: str
    args: tuple[Any, ...]
    decode_strictly: str | None
    has_bom: bool


def text_format(encoding: str, errors: str) -> TextFormat:
    """The format of received lines in ``encoding``.

    Raises OptionError for an unknown name, and for an encoding in which a line end is not the
    single byte 10 (UTF-16, UTF-32), since lines are cut before they are decoded.
    """
    check_encoding(encoding, errors)
    name = codecs.lookup(encoding).name
    if name == "utf-8-sig":
        name = encoding = "utf-8"
    if "\n".encode(encoding) != b"\n":
        raise OptionError(f"encoding {encoding!r} has no one-byte line end: lines cannot be cut from it")
    if errors == "strict":
        return TextFormat("bytes-lines", (), encoding, name == "utf-8")
    return TextFormat("lines", (encoding, errors), None, name == "utf-8")


def check_encoding(encoding: str, errors: str) -> None:
    """Raise OptionError unless both are names that ``str.encode`` knows."""
    try:
        "".encode(encoding)
        codecs.lookup_error(errors)
    except (LookupError, ValueError) as error:
        raise OptionError(f"encoding={encoding!r}, errors={errors!r}: {error}") from None
