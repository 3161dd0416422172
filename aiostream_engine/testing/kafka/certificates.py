"""Certificates for tests: an authority of their own, a server's and a client's, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .artifact import KafkaUnavailableError

__all__ = ["Certificates"]

VALID_DAYS = 30
# Python 3.13 believes no authority that does not say what its key is for.
_AUTHORITY_USE = "keyUsage=critical,keyCertSign,cRLSign"
_EXTENSIONS = {
    "server": "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n",
    "client": "extendedKeyUsage=clientAuth\n",
}


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, and a server (for 127.0.0.1 and localhost) and a client that it signed.

    ``other_ca`` is an authority that signed neither. Keys have no password. ``server`` and
    ``client`` hold certificate and key in one file, as Kafka's PEM keystores want it.
    """

    ca: Path
    other_ca: Path
    server: Path
    client: Path
    client_key: Path
    client_certificate: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """Make all of them in a directory; blocks for some 100 ms.

        Raises :class:`KafkaUnavailableError` when there is no ``openssl``.
        """
        if shutil.which("openssl") is None:
            raise KafkaUnavailableError("there is no `openssl`, which makes the certificates")
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("ca", "other-ca"):
            root = ["-x509", "-days", str(VALID_DAYS), "-addext", _AUTHORITY_USE, "-out", f"{name}.pem"]
            _openssl(directory, *_request(name), *root)
        for name, extensions in _EXTENSIONS.items():
            _sign(directory, name, extensions)
        return cls(
            ca=directory / "ca.pem",
            other_ca=directory / "other-ca.pem",
            server=directory / "server.pem",
            client=directory / "client.pem",
            client_key=directory / "client.key",
            client_certificate=directory / "client.crt",
        )


def _request(name: str) -> list[str]:
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    return ["req", "-new", *new_key, "-subj", f"/CN=test {name}"]


def _sign(directory: Path, name: str, extensions: str) -> None:
    (directory / f"{name}.ext").write_text(extensions)
    _openssl(directory, *_request(name), "-out", f"{name}.csr")
    authority = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    result = ["-days", str(VALID_DAYS), "-extfile", f"{name}.ext", "-out", f"{name}.crt"]
    _openssl(directory, "x509", "-req", "-in", f"{name}.csr", *authority, *result)
    together = (directory / f"{name}.key").read_text() + (directory / f"{name}.crt").read_text()
    (directory / f"{name}.pem").write_text(together)


def _openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise KafkaUnavailableError(f"openssl {arguments[0]} fails: {done.stderr[-1000:]}")
