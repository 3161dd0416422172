"""Ports on loopback that stay free while their server is down."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

__all__ = ["free_ports"]

# Below what Linux and macOS give to outgoing connections: a client that calls a server that is
# down from such a port can end up connected to itself, and the server cannot come back.
_LOWEST, _HIGHEST = 15_000, 32_000
ATTEMPTS_MAX = 500


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on; raises OSError when there are none."""
    chosen: list[int] = []
    with ExitStack() as held:
        for _ in range(ATTEMPTS_MAX):
            if len(chosen) == count:
                return chosen
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().randint(_LOWEST, _HIGHEST)))
            except OSError:
                continue
            chosen.append(probe.getsockname()[1])
    raise OSError(f"no {count} free ports between {_LOWEST} and {_HIGHEST}")
