"""Binary records from a TCP server: length-prefixed frames, or records of one length (rows SRC-2, SRC-3)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from ..config import QueueLimits, RetryPolicy
from ..errors import OptionError
from .framing import FixedFramer, Framer, LengthFramer, length_struct
from .socket_client import SocketClient

__all__ = ["SocketFramesSource"]


class SocketFramesSource(SocketClient):
    """Connects to ``host:port`` as a client; one record is the payload of one frame, as ``bytes``.

    The driver walks from length to length and copies nothing apart; payloads are taken out in
    the workers, where ``converter`` runs, too. Network bytes are never unpickled by the engine.
    Frames keep their order; there is no acknowledgement.

    A frame that announces more than ``frame_bytes_max`` breaks the connection before any room is
    made for it, since no later byte of that stream can be trusted; the source connects again
    after its back-off. An unfinished frame is dropped and counted.

    Parameters
    ----------
    host, port: of the server.
    converter: makes a record of the bytes of one frame, in the workers; None keeps the bytes.
    length_format: struct format of the length field, by default four bytes big-endian.
    length_includes_header: the length counts its own field, too.
    record_bytes: for a stream without length fields: every record has this length.
    frame_bytes_max: bound of one frame; by default ``limits.record_bytes_max``.
    retry, connect_timeout_s, idle_timeout_s, keepalive_s, finish_at_eof, limits, ssl_context:
        as for :class:`~aiostream_engine.sources.socket_text.SocketTextSource`.

    Raises OptionError for bad values.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        converter: Callable[[bytes], Any] | None = None,
        length_format: str = ">I",
        length_includes_header: bool = False,
        record_bytes: int | None = None,
        frame_bytes_max: int | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout_s: float = 10.0,
        idle_timeout_s: float | None = None,
        keepalive_s: float = 30.0,
        finish_at_eof: bool = False,
        limits: QueueLimits | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            "socket frames",
            host,
            port,
            retry=retry,
            limits=limits,
            connect_timeout_s=connect_timeout_s,
            idle_timeout_s=idle_timeout_s,
            keepalive_s=keepalive_s,
            finish_at_eof=finish_at_eof,
            ssl_context=ssl_context,
        )
        length_struct(length_format)
        _check_at_least_one("record_bytes", record_bytes)
        _check_at_least_one("frame_bytes_max", frame_bytes_max)
        if converter is not None and not callable(converter):
            raise OptionError(f"converter is {converter!r}: give a function of the bytes of a frame")
        self.converter = converter
        self._length_format = length_format
        self._length_includes_header = length_includes_header
        self._record_bytes = record_bytes
        self._frame_bytes_max = frame_bytes_max
        self.format = "frames" if record_bytes is None else "fixed"
        self.format_args = () if record_bytes is None else (record_bytes,)

    def _make_framer(self) -> Framer:
        if self._record_bytes is not None:
            return FixedFramer(self.append, self._record_bytes)
        return LengthFramer(
            self.append,
            self._frame_bytes_max or self.limits.record_bytes_max,
            length_format=self._length_format,
            length_includes_header=self._length_includes_header,
        )


def _check_at_least_one(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise OptionError(f"{option} is {value!r}: it must be at least 1")
