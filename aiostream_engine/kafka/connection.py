"""Whether a cluster can be reached with these settings, and why not: its clients keep that to their log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from ..errors import AiostreamError, ConfigurationError, SourceError
from ..observe.redaction import redact
from .settings import KafkaSettings

__all__ = ["check_connection", "client_errors_explained"]

_CLOSE_S = 1.0
_NOT_OF_CREATE_CONN = ("bootstrap_servers", "retry_backoff_ms", "metadata_max_age_ms")


async def check_connection(settings: KafkaSettings) -> None:
    """Connect, prove who we are, ask one question; returns when one bootstrap address answers.

    Raises :class:`ConfigurationError` when a broker refuses these credentials, its certificate is
    not believed, or it speaks another protocol: trying again would not help, and could lock an
    account. Raises :class:`SourceError` when nothing answers, which may pass.
    Takes ``request_timeout_ms`` for each address at most.
    """
    options = await settings.client_options()
    options["max_idle_ms"] = options.pop("connections_max_idle_ms")
    for name in _NOT_OF_CREATE_CONN:
        options.pop(name)
    failures: list[AiostreamError] = []
    for address in settings.addresses:
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(settings.request_timeout_ms / 1000):
                connection = await create_conn(host.strip("[]"), int(port), **options)
                try:
                    answer = await connection.send(MetadataRequest([]))
                    if not answer.brokers and settings.sasl_mechanism == "OAUTHBEARER":
                        # aiokafka takes the broker's "no" to a token for a part of the conversation.
                        raise SaslAuthenticationFailed("it does not accept the token")
                    return
                finally:
                    # With TLS the socket is closed some turns of the loop later, which may be its last ones.
                    await asyncio.wait({connection.close()}, timeout=_CLOSE_S)
        except (OSError, KafkaError, TimeoutError) as error:
            failures.append(_explained(address, settings, error))
    # What will never work before what may: an address that is down says nothing of the settings.
    raise next((f for f in failures if isinstance(f, ConfigurationError)), failures[0])


@contextmanager
def client_errors_explained() -> Iterator[None]:
    """Turns errors of the client into :class:`SourceError` with what Kafka said."""
    try:
        yield
    except KafkaError as error:
        raise SourceError(f"Kafka: {redact(str(error))}") from error


def _explained(address: str, settings: KafkaSettings, error: BaseException) -> AiostreamError:
    where, cause = f"Kafka at {address}", _cause(error)
    said = redact(str(cause) or type(cause).__name__)
    if isinstance(cause, SaslAuthenticationFailed):
        user = settings.sasl_plain_username
        return ConfigurationError(f"{where} refuses the credentials{f' of {user!r}' if user else ''}: {said}")
    if isinstance(cause, UnsupportedSaslMechanismError):
        return ConfigurationError(f"{where} does not offer the mechanism {settings.sasl_mechanism}: {said}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"{where} shows a certificate that is not believed: {said} (see ssl_cafile)"
        )
    if isinstance(cause, ssl.SSLError):
        return ConfigurationError(
            f"{where} refuses the TLS connection: {said} (see ssl_certfile, ssl_keyfile)"
        )
    if isinstance(cause, IllegalSaslStateError | asyncio.IncompleteReadError) or _is_closed(cause):
        return SourceError(
            f"{where} closed the connection; does its listener speak {settings.security_protocol}? ({said})"
        )
    return SourceError(f"{where} cannot be reached: {said}")


def _cause(error: BaseException) -> BaseException:
    """The TLS or socket error behind aiokafka's own 'connection closed'."""
    return error.__cause__ if isinstance(error.__cause__, OSError | asyncio.IncompleteReadError) else error


def _is_closed(error: BaseException) -> bool:
    return isinstance(error, ConnectionResetError) or "closed" in str(error)
