"""Bytes for blocks, the same for whoever asks."""

from __future__ import annotations

import random

__all__ = ["block_bytes"]


def block_bytes(number: int, size: int) -> bytes:
    """Bytes that no two blocks share and nothing can compress."""
    return random.Random(number).randbytes(size)
