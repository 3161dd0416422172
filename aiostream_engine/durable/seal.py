"""A keyed checksum over what is stored, checked before anything of it is believed (scenario J7)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat

from ..errors import ConfigurationError, CorruptionError

__all__ = ["SEAL_BYTES", "Seal", "digest_of"]

_log = logging.getLogger("aiostream_engine.checkpoint")

KEY_VARIABLE = "AIOSTREAM_CHECKPOINT_KEY"
SEAL_BYTES = 16
_KEY_BYTES_MIN = 16


class Seal:
    """Makes and checks seals with a secret that does not lie beside the data.

    key: the secret; by default that of the environment variable ``AIOSTREAM_CHECKPOINT_KEY``, else
        one that is made at first use in the user's configuration directory.

    Raises ConfigurationError when there is no key and none can be made.
    """

    def __init__(self, key: bytes | None = None) -> None:
        secret = _default_key() if key is None else key
        if not secret:
            raise ConfigurationError("the key of a checkpoint directory must not be empty")
        self._key = hashlib.blake2b(secret, digest_size=32).digest()

    @classmethod
    def existing(cls) -> Seal:
        """With the default key, which must be there: for those who only read. Raises ConfigurationError."""
        if not os.environ.get(KEY_VARIABLE) and not os.path.exists(_key_path()):
            raise ConfigurationError(
                f"there is no key: neither {KEY_VARIABLE} nor {_key_path()}. It is on the machine that wrote "
                "the directory"
            )
        return cls()

    def __repr__(self) -> str:
        return "Seal(key=***)"

    def of(self, *parts: bytes | memoryview) -> bytes:
        """The seal of ``parts``, each of which counts with its length.

        For small parts: of a large one its :func:`digest_of` is sealed, which needs no key and can be
        made elsewhere.
        """
        digest = hashlib.blake2b(key=self._key, digest_size=SEAL_BYTES)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def check(self, seal: bytes, where: str, *parts: bytes | memoryview) -> None:
        """Raises CorruptionError when ``parts`` were not sealed with this key."""
        if not hmac.compare_digest(self.of(*parts), seal):
            raise CorruptionError(
                f"{where} was not written with this key, or was changed: it is not loaded. "
                f"Set {KEY_VARIABLE} to the key of the machine that wrote it"
            )


def digest_of(data: bytes | memoryview) -> bytes:
    """What stands for ``data`` in a seal: SHA-256, which processors compute; nothing for nothing."""
    return hashlib.sha256(data).digest() if len(data) else b""


def _default_key() -> bytes:
    value = os.environ.get(KEY_VARIABLE)
    if value:
        return value.encode()
    path = _key_path()
    try:
        key = _read_key(path)
        return _new_key(os.path.dirname(path), path) if key is None else key
    except OSError as error:
        raise ConfigurationError(
            f"the key of checkpoint directories cannot be kept in {path}: {error}. Set {KEY_VARIABLE}"
        ) from error


def _key_path() -> str:
    root = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(root, "aiostream_engine", "checkpoint.key")


def _read_key(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            key = file.read()
    except FileNotFoundError:
        return None
    if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigurationError(f"{path} is open to others or belongs to another user: chmod 600 it")
    if len(key) < _KEY_BYTES_MIN:
        raise ConfigurationError(f"{path} holds no key: put the right one back, or remove the file")
    return key


def _new_key(directory: str, path: str) -> bytes:
    """Make a key, whole under its name or not at all: another process may do the same at this moment."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    key = secrets.token_hex(32).encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:  # another process was first
            found = _read_key(path)
            return key if found is None else found
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    _log.warning("a key for checkpoint directories was made: keep %s, what they hold needs it", path)
    return key
