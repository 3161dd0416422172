"""Blocks that nobody will ever ask for: those of results that were dropped and of attempts that died."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ..blocks.directory import BlockDirectory, BlockLedger
from .base import TaskResult

__all__ = ["discard_results", "sweep_attempt"]


def discard_results(ledger: BlockLedger, results: Iterable[TaskResult]) -> None:
    """Remove the blocks of results that their caller will not see, unless somebody holds them."""
    for result in results:
        refs = list(result.blocks())
        ledger.retain(refs)
        ledger.release(refs)


def sweep_attempt(directory: BlockDirectory, prefix: str) -> int:
    """Remove the blocks of an attempt that failed or died; gives the number of files.

    prefix: that of the file names of this attempt.
    """
    removed = 0
    for path in (directory.path, directory.spill_path):
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):  # the directory was closed first
            names = [name for name in os.listdir(path) if name.startswith(prefix)]
        for name in names:
            file = os.path.join(path, name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
                removed += 1
    return removed
