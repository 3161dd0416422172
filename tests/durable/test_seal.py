"""Nothing that was not written with the key is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiostream_engine.durable.seal import KEY_VARIABLE, SEAL_BYTES, Seal
from aiostream_engine.errors import ConfigurationError, CorruptionError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "aiostream_engine"


def test_what_was_sealed_passes_and_anything_else_does_not() -> None:
    """J7: also when the bytes are the same and only their division is another."""
    seal = Seal(b"secret")
    mark = seal.of(b"head", memoryview(b"payload"))
    assert len(mark) == SEAL_BYTES
    seal.check(mark, "here", b"head", b"payload")
    for parts in [
        (b"head", b"payloaD"),
        (b"headp", b"ayload"),
        (b"headpayload",),
        (b"head", b"payload", b""),
    ]:
        with pytest.raises(CorruptionError, match="here was not written with this key"):
            seal.check(mark, "here", *parts)
    with pytest.raises(CorruptionError, match=KEY_VARIABLE):
        Seal(b"another").check(mark, "here", b"head", b"payload")


def test_the_key_is_shown_nowhere() -> None:
    """J9."""
    assert "secret" not in repr(Seal(b"secret"))


def test_the_key_comes_from_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "from outside")
    assert Seal().of(b"x") == Seal(b"from outside").of(b"x")
    assert not home.exists()


def test_a_key_is_made_once_private_and_kept(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Seal().of(b"x")
    assert Seal().of(b"x") == first
    path = home / "checkpoint.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(home) == ["checkpoint.key"]
    assert caplog.text.count("a key for checkpoint directories was made") == 1


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_key_file_without_a_key_is_no_key(home: Path, content: bytes) -> None:
    """An empty secret would seal nothing."""
    home.mkdir(parents=True)
    (home / "checkpoint.key").touch(0o600)
    (home / "checkpoint.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="holds no key"):
        Seal()
    with pytest.raises(ConfigurationError, match="must not be empty"):
        Seal(b"")


def test_a_key_that_others_can_read_is_refused(home: Path) -> None:
    """J7."""
    Seal()
    (home / "checkpoint.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Seal()


def test_without_a_place_for_the_key_it_is_asked_for(tmp_path: Path, home: Path) -> None:
    (tmp_path / "config").write_text("a file in the way")
    with pytest.raises(ConfigurationError, match=KEY_VARIABLE):
        Seal()
