"""A keyed checksum over stored user data, checked before anything of it is unpickled (scenario J7)."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets

from ..errors import CorruptionError

__all__ = ["Seal"]

KEY_VARIABLE = "AIOSTREAM_CHECKPOINT_KEY"
_SEAL_BYTES = 16


class Seal:
    """Makes and checks seals with a secret that does not lie beside the data.

    key: the secret; by default that of the environment variable ``AIOSTREAM_CHECKPOINT_KEY``, else
        one that is made at first use in the user's configuration directory.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = hashlib.blake2b(key or _default_key(), digest_size=32).digest()

    def __repr__(self) -> str:
        return "Seal(key=***)"

    def of(self, payload: bytes | memoryview) -> str:
        """The seal of ``payload``."""
        return hashlib.blake2b(payload, key=self._key, digest_size=_SEAL_BYTES).hexdigest()

    def check(self, payload: bytes | memoryview, seal: str, where: str) -> None:
        """Raises CorruptionError when the payload was not sealed with this key."""
        if not hmac.compare_digest(self.of(payload), seal):
            raise CorruptionError(
                f"{where} was not written with this key, or was changed: it is not loaded. "
                f"Set {KEY_VARIABLE} to the key of the machine that wrote it"
            )


def _default_key() -> bytes:
    value = os.environ.get(KEY_VARIABLE)
    if value:
        return value.encode()
    root = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    directory = os.path.join(root, "aiostream_engine")
    path = os.path.join(directory, "checkpoint.key")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return _new_key(directory, path)


def _new_key(directory: str, path: str) -> bytes:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    key = secrets.token_hex(32).encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:  # another process was first
        with open(path, "rb") as file:
            return file.read()
    with open(fd, "wb") as file:
        file.write(key)
    return key
