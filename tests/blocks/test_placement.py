"""A directory is in memory when its mount says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiostream_engine.blocks.placement import lies_in_memory

MOUNTS = r"""/dev/vda / ext4 rw 0 0
tmpfs /fast tmpfs rw 0 0
/dev/vdb /fast/disk xfs rw 0 0
tmpfs /with\040space tmpfs rw 0 0
/dev/vdc /over ext4 rw 0 0
tmpfs /over tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/data", False),
        ("/fast", True),
        ("/fast/x", True),
        ("/faster", False),
        ("/fast/disk/x", False),
        ("/with space/x", True),
        ("/over/x", True),
    ],
)
def test_the_innermost_and_last_mount_counts(tmp_path: Path, path: str, expected: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert lies_in_memory(path, str(mounts)) is expected


def test_without_a_list_of_mounts_nothing_is_said() -> None:
    assert not lies_in_memory("/", "/no/such/file")
