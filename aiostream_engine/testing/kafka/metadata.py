"""Asks a broker whom it knows, in the few bytes of Kafka's protocol that this takes."""

from __future__ import annotations

import socket
import struct

__all__ = ["live_brokers"]

_METADATA, _VERSION, _NO_TOPICS = 3, 1, 0
# api key, version, correlation id, no client id, an empty list of topics
_REQUEST = struct.pack(">hhihi", _METADATA, _VERSION, 1, -1, _NO_TOPICS)


def live_brokers(host: str, port: int, *, timeout_s: float = 2.0) -> int:
    """How many brokers the one at the address answers to know, itself included; 0 without an answer."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(_REQUEST)) + _REQUEST)
            size = struct.unpack(">i", _read(connection, 4))[0]
            _, brokers = struct.unpack_from(">ii", _read(connection, size))
            return int(brokers)
    except (OSError, struct.error):
        return 0


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("closed before the whole answer")
        data += part
    return data
