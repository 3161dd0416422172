"""The addresses of one broker: plain, behind a proxy, and with every kind of security."""

from __future__ import annotations

from dataclasses import dataclass, field

from .certificates import Certificates
from .ports import free_ports

__all__ = ["SCRAM_MECHANISMS", "Listeners", "security_properties"]

SCRAM_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_PLAIN = {"CONTROLLER": "PLAINTEXT", "PLAIN": "PLAINTEXT", "PROXIED": "PLAINTEXT"}
_SECURE = {"SASL": "SASL_PLAINTEXT", "TLS": "SSL", "MTLS": "SSL", "SASLTLS": "SASL_SSL"}
_MODULES = "org.apache.kafka.common.security"


@dataclass
class Listeners:
    """Ports by the name of their listener.

    PLAIN has no security. PROXIED is announced to clients under the port ``PROXY``, for a proxy
    that a test puts there. With security: SASL (PLAIN, SCRAM and unsecured OAUTHBEARER on plain TCP),
    TLS, MTLS (asks for a client certificate) and SASLTLS. ``port`` is that of PLAIN, 0 for any.
    """

    secure: bool
    port: int = 0
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*self.protocols, "PROXY"]
        self.ports.update(zip(names, free_ports(len(names)), strict=True))
        if self.port:
            self.ports["PLAIN"] = self.port

    @property
    def protocols(self) -> dict[str, str]:
        return {**_PLAIN, **_SECURE} if self.secure else _PLAIN

    def properties(self) -> dict[str, object]:
        """The broker's settings for addresses."""
        announced = {name: self.ports["PROXY" if name == "PROXIED" else name] for name in self.protocols}
        return {
            "listeners": _addresses({name: self.ports[name] for name in self.protocols}),
            "advertised.listeners": _addresses(announced),
            "listener.security.protocol.map": ",".join(f"{a}:{b}" for a, b in self.protocols.items()),
            "inter.broker.listener.name": "PLAIN",
            "controller.listener.names": "CONTROLLER",
        }


def security_properties(user: str, password: str, certificates: Certificates) -> dict[str, object]:
    """The broker's settings for passwords, tokens and certificates."""
    found: dict[str, object] = {
        "sasl.enabled.mechanisms": ",".join(("PLAIN", *SCRAM_MECHANISMS, "OAUTHBEARER")),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates.server,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates.ca,
        "listener.name.mtls.ssl.client.auth": "required",
    }
    for listener in ("sasl", "sasltls"):
        prefix = f"listener.name.{listener}"
        found[f"{prefix}.plain.sasl.jaas.config"] = (
            f'{_MODULES}.plain.PlainLoginModule required user_{user}="{password}";'
        )
        for mechanism in SCRAM_MECHANISMS:
            found[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = (
                f"{_MODULES}.scram.ScramLoginModule required;"
            )
        found[f"{prefix}.oauthbearer.sasl.jaas.config"] = (
            f'{_MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        )
    return found


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
