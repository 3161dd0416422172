"""What the records of a file are, and the blocks in which the workers read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ..errors import OptionError
from ..types import BlockRef
from .text_encoding import check_encoding, text_format

__all__ = ["FileFormat", "FileKind"]

FileKind = Literal["text", "fixed", "whole", "path"]

PART_BYTES_MIN = 1024 * 1024


class FileFormat:
    """The format of the blocks of one file source; parameters as for :class:`FileSource`.

    Raises OptionError when they do not fit together.
    """

    def __init__(
        self,
        kind: FileKind,
        *,
        encoding: str | None,
        errors: str,
        record_bytes: int | None,
        reader: Callable[[str], Iterable[Any]] | None,
        split_bytes: int,
    ) -> None:
        self.kind = kind
        self.decode_strictly: str | None = None
        self._args: tuple[Any, ...]
        self._split_bytes = split_bytes
        self._record_bytes = record_bytes
        if (kind == "fixed") != (record_bytes is not None) or (record_bytes is not None and record_bytes < 1):
            raise OptionError(f"record_bytes is {record_bytes!r}: needed by kind 'fixed', and only there")
        if (kind == "path") != (reader is not None) or (reader is not None and not callable(reader)):
            raise OptionError("reader is a function of a path, for kind 'path', and only there")
        if kind == "text":
            self._set_text(encoding or "utf-8", errors)
        elif kind == "fixed":
            self.block_format, self._args = "file-fixed", (record_bytes,)
        elif kind == "whole":
            if encoding is not None:
                check_encoding(encoding, errors)
            self.block_format, self._args = "file-whole", (encoding, errors)
        elif kind == "path":
            self.block_format, self._args = "file-path", ()
        else:
            raise OptionError(f"kind {kind!r} is not known: use 'text', 'fixed', 'whole' or 'path'")

    def _set_text(self, encoding: str, errors: str) -> None:
        text = text_format(encoding, errors)
        self.decode_strictly = text.decode_strictly
        self.block_format = f"file-{text.format}"
        self._args = (encoding, errors)

    @property
    def takes_empty(self) -> bool:
        """True when an empty file has a record, too."""
        return self.kind in ("whole", "path")

    def args(self, compression: str | None = None) -> tuple[Any, ...]:
        """The arguments of a block."""
        return () if self.kind == "path" else (*self._args, compression)

    def part_bytes(self, total: int, parallelism: int) -> int:
        """Size of the parts of a batch of ``total`` bytes: enough for all workers, but none tiny."""
        share = math.ceil(total / parallelism)
        size = max(min(self._split_bytes, share), min(PART_BYTES_MIN, self._split_bytes))
        unit = self._record_bytes or 1
        return max(1, size // unit) * unit

    def blocks(self, path: str, size: int, part_bytes: int) -> list[BlockRef]:
        """The blocks of one file; a compressed one cannot be split."""
        compression = "gzip" if path.endswith(".gz") else None
        args = self.args(compression)
        if self.kind not in ("text", "fixed") or compression is not None:
            return [BlockRef(self.block_format, None, path, 0, size, -1, args)]
        return [
            BlockRef(self.block_format, None, path, offset, min(part_bytes, size - offset), -1, args)
            for offset in range(0, size, part_bytes)
        ]
