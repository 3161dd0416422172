"""The part of SparkContext that hands files to tasks."""

from __future__ import annotations

import importlib
import os
import shutil
import zipfile
from typing import TYPE_CHECKING

from .errors import SparkRuntimeException
from .slices import local_path

__all__ = ["PACKED", "ContextFiles"]

PACKED = (".zip", ".egg", ".jar")


class ContextFiles:
    """Mixed into :class:`~aiostream_engine.compat.pyspark.context.SparkContext`."""

    if TYPE_CHECKING:
        _file_directory: str
        _package_directory: str
        _files: dict[str, str]
        _archives: list[str]
        _checkpoint_directory: str | None

        def _check(self) -> None: ...

    def addFile(self, path: str, recursive: bool = False) -> None:
        """Copy a file to where :class:`SparkFiles` finds it. Differs: local files only."""
        self._check()
        source = local_path(path)
        if os.path.isdir(source) and not recursive:
            raise SparkRuntimeException(f"Added file {source} is a directory and recursive is not turned on.")
        if not os.path.exists(source):
            raise SparkRuntimeException(f"File {source} does not exist")
        target = os.path.join(self._file_directory, os.path.basename(source.rstrip("/")))
        if os.path.isdir(source):
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
        self._files["file:" + os.path.abspath(source)] = target

    @property
    def listFiles(self) -> list[str]:
        """Paths of the added files; as PySpark."""
        return list(self._files)

    def addPyFile(self, path: str) -> None:
        """Make a module, or the packages of a ``.zip`` or ``.egg``, importable in tasks; as PySpark."""
        self.addFile(path)
        name = os.path.join(self._file_directory, os.path.basename(path))
        if name.lower().endswith(PACKED):
            with zipfile.ZipFile(name) as archive:
                archive.extractall(self._package_directory)
        importlib.invalidate_caches()

    def addArchive(self, path: str) -> None:
        """Unpack an archive where :class:`SparkFiles` finds it, as ``#name``; as PySpark."""
        self._check()
        given, _, name = path.partition("#")
        source = local_path(given)
        if not os.path.exists(source):
            raise SparkRuntimeException(f"File {source} does not exist")
        target = os.path.join(self._file_directory, name or os.path.basename(source))
        shutil.unpack_archive(source, target, "zip" if source.lower().endswith(PACKED) else None)
        self._archives.append("file:" + os.path.abspath(source))

    @property
    def listArchives(self) -> list[str]:
        """Paths of the added archives; as PySpark."""
        return list(self._archives)

    def setCheckpointDir(self, dirName: str) -> None:
        """Allow ``RDD.checkpoint``. Differs: nothing is written there, but in the engine's directory."""
        self._check()
        self._checkpoint_directory = dirName

    def getCheckpointDir(self) -> str | None:
        """What :meth:`setCheckpointDir` set, None before; as PySpark."""
        return self._checkpoint_directory
