"""SparkFiles: where the files of ``SparkContext.addFile`` are."""

from __future__ import annotations

import os
from typing import ClassVar

__all__ = ["ROOT_VARIABLE", "SparkFiles"]

# Tells workers where the files are; set for their processes only.
ROOT_VARIABLE = "AIOSTREAM_SPARK_FILES"


class SparkFiles:
    """Resolves paths of added files, in the driver and in tasks; as PySpark."""

    _root_directory: ClassVar[str | None] = None

    def __init__(self) -> None:
        raise NotImplementedError("Do not construct SparkFiles objects")

    @classmethod
    def get(cls, filename: str) -> str:
        """Absolute path of an added file; as PySpark."""
        return os.path.abspath(os.path.join(cls.getRootDirectory(), filename))

    @classmethod
    def getRootDirectory(cls) -> str:
        """The directory of added files; as PySpark. Raises RuntimeError where no context is active."""
        root = cls._root_directory or os.environ.get(ROOT_VARIABLE)
        if root is None:
            raise RuntimeError("no SparkContext is active")
        return root
