"""The part of SparkContext that keeps properties of a thread's jobs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

__all__ = ["ContextProperties"]


class ContextProperties:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.context.SparkContext`."""

    if TYPE_CHECKING:
        _properties: threading.local

    def setLocalProperty(self, key: str, value: str | None) -> None:
        """Set a property of this thread; None removes it. Differs: nothing but the getter reads it."""
        properties = self._local_properties()
        if value is None:
            properties.pop(key, None)
        else:
            properties[key] = value

    def getLocalProperty(self, key: str) -> str | None:
        """A property of this thread; as PySpark."""
        return self._local_properties().get(key)

    def _local_properties(self) -> dict[str, str]:
        properties: dict[str, str] = self._properties.__dict__
        return properties

    def setJobGroup(self, groupId: str, description: str, interruptOnCancel: bool = False) -> None:
        """Name this thread's jobs. Differs: as local properties only; jobs cannot be cancelled by it."""
        self.setLocalProperty("spark.jobGroup.id", groupId)
        self.setLocalProperty("spark.job.description", description)
        self.setInterruptOnCancel(interruptOnCancel)

    def setJobDescription(self, value: str) -> None:
        """Describe this thread's jobs. Differs: as a local property only."""
        self.setLocalProperty("spark.job.description", value)

    def setInterruptOnCancel(self, interruptOnCancel: bool) -> None:
        """Differs: kept as a local property only."""
        self.setLocalProperty("spark.job.interruptOnCancel", str(interruptOnCancel).lower())

    def addJobTag(self, tag: str) -> None:
        """Tag this thread's jobs. Differs: as a local property only."""
        self._set_tags(self.getJobTags() | {tag})

    def removeJobTag(self, tag: str) -> None:
        """Take a tag away; as PySpark."""
        self._set_tags(self.getJobTags() - {tag})

    def clearJobTags(self) -> None:
        """Take all tags away; as PySpark."""
        self._set_tags(set())

    def getJobTags(self) -> set[str]:
        """The tags of this thread's jobs; as PySpark."""
        return set(filter(None, (self.getLocalProperty("spark.job.tags") or "").split(",")))

    def _set_tags(self, tags: set[str]) -> None:
        self.setLocalProperty("spark.job.tags", ",".join(sorted(tags)) or None)
