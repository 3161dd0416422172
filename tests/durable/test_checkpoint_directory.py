"""A checkpoint directory: who may use it, what is refused, and who is next."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from aiostream_engine.durable.checkpoint_directory import CheckpointDirectory, FencedError
from aiostream_engine.durable.journal import Journal
from aiostream_engine.durable.lock import DirectoryInUseError
from aiostream_engine.errors import ConfigurationError, CorruptionError, StorageError
from aiostream_engine.testing.fault_files import FaultFiles


def used(path: Path) -> Path:
    """A directory that one driver has worked on."""
    directory = CheckpointDirectory(str(path))
    journal = Journal(directory.journal_path, epoch=directory.epoch)
    journal.begin()
    journal.append(1, b"{}")
    journal.sync()
    journal.close()
    directory.close()
    return path


def test_it_is_made_private_and_each_opening_counts_up(tmp_path: Path) -> None:
    """J7: the directory is 0700, the files in it are 0600."""
    path = used(tmp_path / "a" / "b")
    for epoch in (2, 3):
        directory = CheckpointDirectory(str(path))
        assert directory.epoch == epoch
        directory.close()
    modes = {item: stat.S_IMODE(item.stat().st_mode) for item in [path, *path.rglob("*")]}
    assert {mode for item, mode in modes.items() if item.is_dir()} == {0o700}
    assert {mode for item, mode in modes.items() if item.is_file()} == {0o600}


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "straße-日本",
        "100%s%d{x}",
        "a'b\"c",
        "x" * 250,
        "-rf",
        "line\nbreak",
        os.fsdecode(b"\xff\xfe"),
    ],
)
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    """C13."""
    used(tmp_path / name)
    CheckpointDirectory(str(tmp_path / name)).close()


def test_a_link_is_refused(tmp_path: Path) -> None:
    """C12."""
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        CheckpointDirectory(str(tmp_path / "link"))
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o704])
def test_one_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """C12."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        CheckpointDirectory(str(tmp_path / "open"))
    assert list((tmp_path / "open").iterdir()) == []


def test_one_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C12."""
    path = used(tmp_path / "cp")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="another user"):
        CheckpointDirectory(str(path))


def test_one_with_foreign_files_is_refused_and_not_touched(tmp_path: Path) -> None:
    """C12."""
    path = tmp_path / "home"
    path.mkdir(0o700)
    (path / "thesis.txt").write_text("precious")
    before = path.stat().st_mtime_ns
    with pytest.raises(ConfigurationError, match="not empty and no checkpoint directory"):
        CheckpointDirectory(str(path))
    assert [item.name for item in path.iterdir()] == ["thesis.txt"]
    assert path.stat().st_mtime_ns == before


def test_a_file_or_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """C12."""
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=r"no directory|cannot be made"):
            CheckpointDirectory(str(path))
    assert (tmp_path / "file").read_text() == "precious"


def test_one_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C12: by its mode, which root does not feel."""
    path = used(tmp_path / "cp")
    path.chmod(0o500)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="read-only"):
        CheckpointDirectory(str(path))
    path.chmod(0o700)


def test_a_second_driver_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    """B7: nothing is changed before the lock is held."""
    first = CheckpointDirectory(str(tmp_path / "cp"))
    with pytest.raises(DirectoryInUseError, match=f'"pid": {os.getpid()}'):
        CheckpointDirectory(str(tmp_path / "cp"))
    first.check_epoch()
    first.close()


def test_without_a_lock_that_works_the_older_driver_is_fenced(tmp_path: Path) -> None:
    """B8, B9: as on a network file system, or when somebody has removed the lock file."""
    old = CheckpointDirectory(str(tmp_path / "cp"))
    (tmp_path / "cp" / "LOCK").unlink()
    new = CheckpointDirectory(str(tmp_path / "cp"))
    with pytest.raises(FencedError, match=r"newer driver \(epoch 2, this is 1\)"):
        old.check_epoch()
    new.check_epoch()
    old.close()
    new.close()


def test_a_directory_that_is_taken_away_fences_too(tmp_path: Path) -> None:
    """B8: moved by somebody, or unmounted."""
    directory = CheckpointDirectory(str(tmp_path / "cp"))
    (tmp_path / "cp").rename(tmp_path / "moved")
    with pytest.raises(FencedError, match="cannot be read any more"):
        directory.check_epoch()
    directory.close()


@pytest.mark.parametrize("name", ["META", "EPOCH"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00"])
def test_a_damaged_control_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """C8."""
    path = used(tmp_path / "cp")
    (path / name).write_bytes(content)
    with pytest.raises(CorruptionError, match=name):
        CheckpointDirectory(str(path))


@pytest.mark.parametrize("name", ["META", "EPOCH", "journal"])
def test_a_missing_part_is_named(tmp_path: Path, name: str) -> None:
    """C8: an older or an empty state is never taken silently."""
    path = used(tmp_path / "cp")
    if name == "journal":
        shutil.rmtree(path / name)
    else:
        (path / name).unlink()
    before = sorted(path.rglob("*"))
    with pytest.raises(CorruptionError, match=f"{name} is missing"):
        CheckpointDirectory(str(path))
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize("version", [2, 99, 0, "1", None])
def test_another_format_is_refused(tmp_path: Path, version: object) -> None:
    """H5."""
    path = used(tmp_path / "cp")
    (path / "META").write_text(json.dumps({"format": version}))
    with pytest.raises(CorruptionError, match="this version of the engine reads up to 1"):
        CheckpointDirectory(str(path))


def test_leftovers_of_a_crash_are_swept(tmp_path: Path) -> None:
    """C11: temporary files of control files that were being replaced."""
    path = used(tmp_path / "cp")
    leftovers = [path / ".EPOCH.0123456789abcdef.tmp", path / "journal" / ".HEAD.0123456789abcdef.tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    CheckpointDirectory(str(path)).close()
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_crash_in_the_making_leaves_a_directory_that_can_be_used(tmp_path: Path) -> None:
    """B4, C4: whichever operation it is that fails first, the next opening succeeds."""
    path = tmp_path / "whole"
    files = FaultFiles(path)
    CheckpointDirectory(str(path), files).close()
    assert files.count > 10
    for number in range(1, files.count + 1):
        path = tmp_path / f"cp{number}"
        with pytest.raises((StorageError, ConfigurationError), match="injected"):
            CheckpointDirectory(str(path), FaultFiles(path, fail_at=number, fails=1000))
        CheckpointDirectory(str(path)).close()


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_of_power_in_the_making_too(tmp_path: Path, seed: int) -> None:
    """B10."""
    for cut_at in range(1, 18):
        path = tmp_path / f"cp{cut_at}"
        files = FaultFiles(path, cut_at=cut_at)
        try:
            CheckpointDirectory(str(path), files).close()
        except (StorageError, ConfigurationError):
            files.power_cut(seed)
        CheckpointDirectory(str(path)).close()
