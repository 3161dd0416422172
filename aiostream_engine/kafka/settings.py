"""How to reach a Kafka cluster, by the names that Kafka and its clients use."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from ..errors import ConfigurationError
from ..observe.redaction import redact_mapping

__all__ = ["ConnectionOptions", "KafkaSettings"]

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI")
_BY_PASSWORD = frozenset(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))

# Names of Kafka's own clients and of librdkafka that mean one of the fields.
_OTHER_NAMES = {
    "bootstrap_servers": "bootstrap",
    "sasl_username": "sasl_plain_username",
    "sasl_password": "sasl_plain_password",
    "ssl_ca_location": "ssl_cafile",
    "ssl_certificate_location": "ssl_certfile",
    "ssl_key_location": "ssl_keyfile",
    "ssl_key_password": "ssl_password",
}


class ConnectionOptions(TypedDict, total=False):
    """Keywords for the fields of :class:`KafkaSettings`, and for the other names that these have."""

    security_protocol: str
    sasl_mechanism: str | None
    sasl_plain_username: str | None
    sasl_plain_password: str | None
    sasl_username: str | None
    sasl_password: str | None
    sasl_oauth_token_provider: Any
    sasl_kerberos_service_name: str
    sasl_kerberos_domain_name: str | None
    ssl_cafile: str | Path | None
    ssl_certfile: str | Path | None
    ssl_keyfile: str | Path | None
    ssl_password: str | None
    ssl_ca_location: str | Path | None
    ssl_certificate_location: str | Path | None
    ssl_key_location: str | Path | None
    ssl_key_password: str | None
    ssl_check_hostname: bool
    ssl_context: ssl.SSLContext | None
    client_id: str
    request_timeout_ms: int
    retry_backoff_ms: int
    metadata_max_age_ms: int
    connections_max_idle_ms: int


@dataclass(frozen=True)
class KafkaSettings:
    """Addresses, security and time limits of a cluster; the fields have aiokafka's names.

    bootstrap: ``host:port``, several with commas between.
    security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 with ``sasl_plain_username`` and
        ``sasl_plain_password``; OAUTHBEARER with ``sasl_oauth_token_provider`` (a function that gives
        a token, plain or async, or an object with such a method ``token``); GSSAPI with ``sasl_kerberos_*``.
    ssl_cafile: PEM file of the authorities to believe; default: the system's.
    ssl_certfile, ssl_keyfile, ssl_password: of a client certificate, and the password of its key.
    ssl_check_hostname: False believes a certificate of any host that the authority signed.
    ssl_context: a ready context instead of the files.
    client_id: what brokers show in their logs and quotas.
    request_timeout_ms: without an answer for so long, a request has failed, and is tried again.
    retry_backoff_ms: the pause before that.
    metadata_max_age_ms: how often brokers and leaders are asked for when nothing else makes it necessary.
    connections_max_idle_ms: a connection that was not used for so long is closed.
    Secrets are masked in ``repr`` and ``str``. Raises :class:`ConfigurationError` for what cannot work.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = None
    sasl_oauth_token_provider: Any = None
    sasl_kerberos_service_name: str = "kafka"
    sasl_kerberos_domain_name: str | None = None
    ssl_cafile: str | Path | None = None
    ssl_certfile: str | Path | None = None
    ssl_keyfile: str | Path | None = None
    ssl_password: str | None = None
    ssl_check_hostname: bool = True
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False)
    client_id: str = "aiostream-engine"
    request_timeout_ms: int = 40_000
    retry_backoff_ms: int = 100
    metadata_max_age_ms: int = 300_000
    connections_max_idle_ms: int = 540_000

    def __post_init__(self) -> None:
        if not self.bootstrap or not all(_is_address(one) for one in self.addresses):
            raise ConfigurationError(f"bootstrap is host:port, not {self.bootstrap!r}")
        if self.security_protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"security_protocol is one of {', '.join(_PROTOCOLS)}, not {self.security_protocol!r}"
            )
        self._check_sasl()
        if self.uses_tls:
            return
        unused = [
            name
            for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_context")
            if getattr(self, name)
        ]
        if unused:
            raise ConfigurationError(f"{unused[0]} needs security_protocol SSL or SASL_SSL")

    def _check_sasl(self) -> None:
        if not self.security_protocol.startswith("SASL_"):
            if self.sasl_mechanism or self.sasl_plain_password:
                raise ConfigurationError("sasl_* needs security_protocol SASL_PLAINTEXT or SASL_SSL")
            return
        if self.sasl_mechanism not in _MECHANISMS:
            raise ConfigurationError(f"sasl_mechanism is one of {', '.join(_MECHANISMS)}")
        if self.sasl_mechanism in _BY_PASSWORD and not (
            self.sasl_plain_username and self.sasl_plain_password
        ):
            raise ConfigurationError(
                f"{self.sasl_mechanism} needs sasl_plain_username and sasl_plain_password"
            )
        if self.sasl_mechanism == "OAUTHBEARER" and self.sasl_oauth_token_provider is None:
            raise ConfigurationError("OAUTHBEARER needs sasl_oauth_token_provider")

    @classmethod
    def of(cls, bootstrap: str | Mapping[str, Any] | KafkaSettings, **options: Any) -> KafkaSettings:
        """Settings from an address, from settings, or from a mapping with Kafka's dotted names.

        ``bootstrap.servers``, ``security.protocol``, ``sasl.username``, ``ssl.ca.location`` and the
        other names of Kafka and librdkafka are understood. Raises :class:`ConfigurationError`
        for a name that is not known.
        """
        if isinstance(bootstrap, KafkaSettings):
            given = {f.name: getattr(bootstrap, f.name) for f in dataclasses.fields(cls)}
        elif isinstance(bootstrap, str):
            given = {"bootstrap": bootstrap}
        else:
            given = dict(bootstrap)
        merged = {_field_name(name): value for name, value in (given | options).items()}
        unknown = merged.keys() - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ConfigurationError(f"{sorted(unknown)[0]!r} is no setting of a Kafka connection")
        if "bootstrap" not in merged:
            raise ConfigurationError("bootstrap is missing: host:port of a broker")
        return cls(**merged)

    @property
    def addresses(self) -> list[str]:
        """The bootstrap addresses, one by one."""
        return [one.strip() for one in self.bootstrap.split(",")]

    @property
    def uses_tls(self) -> bool:
        """True when connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    async def client_options(self) -> dict[str, Any]:
        """Keyword arguments for any of aiokafka's clients. Reads certificates in a thread.

        Raises :class:`ConfigurationError` when a certificate or key cannot be loaded.
        """
        options = {name: getattr(self, name) for name in _PASSED_ON}
        options["bootstrap_servers"] = self.addresses
        if self.sasl_mechanism is not None:
            options |= {name: getattr(self, name) for name in _PASSED_ON_WITH_SASL}
        if self.sasl_oauth_token_provider is not None:
            from .token import TokenCallback

            options["sasl_oauth_token_provider"] = TokenCallback(self.sasl_oauth_token_provider)
        if self.uses_tls:
            options["ssl_context"] = self.ssl_context or await asyncio.to_thread(self._load_certificates)
        return options

    def _load_certificates(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            context.check_hostname = self.ssl_check_hostname
            if self.ssl_certfile is not None:
                # A callable: OpenSSL would ask on the terminal for a password that is missing.
                password = self.ssl_password or ""
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, lambda: password)
        except OSError as error:  # SSLError is one too
            raise ConfigurationError(f"cannot load the certificates of {self!r}: {error}") from error
        return context

    def __repr__(self) -> str:
        shown = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        }
        return f"KafkaSettings({', '.join(f'{k}={v!r}' for k, v in redact_mapping(shown).items())})"


_PASSED_ON = (
    "client_id",
    "request_timeout_ms",
    "retry_backoff_ms",
    "metadata_max_age_ms",
    "connections_max_idle_ms",
    "security_protocol",
)
_PASSED_ON_WITH_SASL = (
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_oauth_token_provider",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
)


def _field_name(name: str) -> str:
    plain = name.replace(".", "_")
    return _OTHER_NAMES.get(plain, plain)


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdigit())
