"""Lines of text from a TCP server: the source of ``socket_text_stream`` (row SRC-1)."""

from __future__ import annotations

import ssl

from ..config import QueueLimits, RetryPolicy
from .framing import LineFramer
from .socket_client import SocketClient
from .socket_connection import check_line_bytes
from .text_encoding import text_format

__all__ = ["SocketTextSource"]


class SocketTextSource(SocketClient):
    """Connects to ``host:port`` as a client; one record is one line.

    The driver cuts at line ends and counts them; decoding and splitting happen in the workers.
    ``\\n`` and ``\\r\\n`` end a line, a byte order mark at the beginning of a connection is taken
    off, NUL bytes are ordinary. Lines keep their order; there is no acknowledgement, so what the
    engine holds is lost with its process.

    When the connection breaks or ends, it is made again after a back-off. An unfinished line of
    a *broken* connection is dropped and counted in ``records_dropped``; when the peer closed in
    order, the last line needs no line end.

    Parameters
    ----------
    host, port: of the server.
    encoding, errors: as in ``bytes.decode``. With ``errors="strict"`` lines are handed over
        undecoded, and the engine decodes them in a step of its own, with an error policy.
    line_bytes_max: a longer line is dropped and counted, and the next one is read; by default
        ``limits.record_bytes_max``.
    retry: back-off between connections; by default without end, from 0.1 s to 30 s.
    connect_timeout_s: bound of one try to connect.
    idle_timeout_s: break a connection on which nothing came for so long; None to wait for ever.
    keepalive_s: silence after which the kernel asks whether the peer is still there.
    finish_at_eof: finish the source when the peer closes in order, instead of connecting again.
    limits: bounds of the queue, by default those of the context.
    ssl_context: talk TLS.

    Raises OptionError for bad values.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        encoding: str = "utf-8",
        errors: str = "replace",
        line_bytes_max: int | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout_s: float = 10.0,
        idle_timeout_s: float | None = None,
        keepalive_s: float = 30.0,
        finish_at_eof: bool = False,
        limits: QueueLimits | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            "socket text",
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
        self._text = text_format(encoding, errors)
        self.format, self.format_args = self._text.format, self._text.args
        self.decode_strictly = self._text.decode_strictly
        self._line_bytes_max = check_line_bytes(line_bytes_max)

    def _make_framer(self) -> LineFramer:
        bound = self._line_bytes_max or self.limits.record_bytes_max
        return LineFramer(self.append, self.drop, bound, skip_bom=self._text.has_bom)
