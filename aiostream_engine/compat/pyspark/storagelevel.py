"""StorageLevel: where the blocks of a persisted RDD lie."""

from __future__ import annotations

from typing import ClassVar

from ...types import StorageLevel as EngineLevel

__all__ = ["StorageLevel"]


class StorageLevel:
    """Flags of a storage level; as PySpark.

    Differs: levels with only ``useDisk`` keep blocks on disk, all others in shared memory that spills
    to disk; there is one copy whatever ``replication`` says.
    """

    NONE: ClassVar[StorageLevel]
    DISK_ONLY: ClassVar[StorageLevel]
    DISK_ONLY_2: ClassVar[StorageLevel]
    DISK_ONLY_3: ClassVar[StorageLevel]
    MEMORY_ONLY: ClassVar[StorageLevel]
    MEMORY_ONLY_2: ClassVar[StorageLevel]
    MEMORY_AND_DISK: ClassVar[StorageLevel]
    MEMORY_AND_DISK_2: ClassVar[StorageLevel]
    OFF_HEAP: ClassVar[StorageLevel]
    MEMORY_AND_DISK_DESER: ClassVar[StorageLevel]

    def __init__(
        self, useDisk: bool, useMemory: bool, useOffHeap: bool, deserialized: bool, replication: int = 1
    ) -> None:
        self.useDisk = useDisk
        self.useMemory = useMemory
        self.useOffHeap = useOffHeap
        self.deserialized = deserialized
        self.replication = replication

    def _flags(self) -> tuple[bool, bool, bool, bool, int]:
        return self.useDisk, self.useMemory, self.useOffHeap, self.deserialized, self.replication

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageLevel) and self._flags() == other._flags()

    def __hash__(self) -> int:
        return hash(self._flags())

    def __repr__(self) -> str:
        return f"StorageLevel({', '.join(map(str, self._flags()))})"

    def __str__(self) -> str:
        places = ((self.useDisk, "Disk "), (self.useMemory, "Memory "), (self.useOffHeap, "OffHeap "))
        where = "".join(name for used, name in places if used)
        form = "Deserialized" if self.deserialized else "Serialized"
        return f"{where}{form} {self.replication}x Replicated"

    def _engine_level(self) -> EngineLevel:
        on_disk_alone = self.useDisk and not (self.useMemory or self.useOffHeap)
        return EngineLevel.DISK if on_disk_alone else EngineLevel.MEMORY


for _name, _flags in {
    "NONE": (False, False, False, False),
    "DISK_ONLY": (True, False, False, False),
    "DISK_ONLY_2": (True, False, False, False, 2),
    "DISK_ONLY_3": (True, False, False, False, 3),
    "MEMORY_ONLY": (False, True, False, False),
    "MEMORY_ONLY_2": (False, True, False, False, 2),
    "MEMORY_AND_DISK": (True, True, False, False),
    "MEMORY_AND_DISK_2": (True, True, False, False, 2),
    "OFF_HEAP": (True, True, True, False, 1),
    "MEMORY_AND_DISK_DESER": (True, True, False, True),
}.items():
    setattr(StorageLevel, _name, StorageLevel(*_flags))  # type: ignore[arg-type]
