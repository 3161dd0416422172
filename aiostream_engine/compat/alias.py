"""One package under the name of another: an import hook that is put in, and taken out again."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

__all__ = ["ALIAS_VARIABLE", "Alias", "install_from_environment"]

# Worker processes inherit it: ``name=package``. A function may import the name when it runs there.
ALIAS_VARIABLE = "AIOSTREAM_ENGINE_MODULE_ALIAS"


class Alias:
    """``import name`` gives ``package``, and so do the modules in it, between install and remove.

    The modules are the very same objects under both names, so that a class has one identity.
    What ``name`` was before, a package that is installed and perhaps imported, is put aside in
    ``sys.modules`` and is there again afterwards; its files are never touched.

    Parameters
    ----------
    name: the name that programs import. package: what they get.
    missing: for modules that ``package`` lacks, by their full alias name, what to tell about them.
    in_workers: for worker processes, too; one alias at a time can be.
    """

    def __init__(
        self, name: str, package: str, missing: Mapping[str, str] | None = None, *, in_workers: bool = True
    ) -> None:
        self.name = name
        self.package = package
        self._missing = dict(missing or {})
        self._in_workers = in_workers
        self._finder = _Finder(self)
        self._aside: dict[str, ModuleType] = {}
        self._variable: str | None = None

    @property
    def active(self) -> bool:
        """True between :meth:`install` and :meth:`remove`."""
        return self._finder in sys.meta_path

    def install(self) -> None:
        """Put the hook in, also for workers that start from now on; a second call does nothing."""
        if self.active:
            return
        self._aside = self._take_modules()
        if self._in_workers:
            self._variable = os.environ.get(ALIAS_VARIABLE)
            os.environ[ALIAS_VARIABLE] = f"{self.name}={self.package}"
        sys.meta_path.insert(0, self._finder)

    def remove(self) -> None:
        """Take the hook out; modules that were imported through it keep working."""
        if not self.active:
            return
        sys.meta_path.remove(self._finder)
        self._take_modules()
        sys.modules.update(self._aside)
        self._aside = {}
        if not self._in_workers:
            return
        if self._variable is None:
            os.environ.pop(ALIAS_VARIABLE, None)
        else:
            os.environ[ALIAS_VARIABLE] = self._variable

    def covers(self, name: str) -> bool:
        """True of the alias and of what lies below it."""
        return name == self.name or name.startswith(f"{self.name}.")

    def explain(self, name: str) -> str | None:
        """What to tell about a module that is missing on purpose."""
        while name:
            if name in self._missing:
                return self._missing[name]
            name = name.rpartition(".")[0]
        return None

    def _take_modules(self) -> dict[str, ModuleType]:
        taken = {name: module for name, module in sys.modules.items() if self.covers(name)}
        for name in taken:
            del sys.modules[name]
        return taken


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, alias: Alias) -> None:
        self._alias = alias

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self._alias.covers(name):
            return None
        actual = self._alias.package + name[len(self._alias.name) :]
        try:
            module = importlib.import_module(actual)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{actual}.".startswith(f"{error.name}."):
                raise
            told = self._alias.explain(name)
            raise ModuleNotFoundError(told or f"No module named {name!r} in {actual}", name=name) from None
        loader = _Loader(module)
        return importlib.machinery.ModuleSpec(name, loader, is_package=hasattr(module, "__path__"))


class _Loader(importlib.abc.Loader):
    """Hands out a module that is loaded already."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec: Any = module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the alias there


def install_from_environment() -> None:
    """In a worker process: the alias that the driver had when it started the worker."""
    name, _, package = os.environ.get(ALIAS_VARIABLE, "").partition("=")
    if name and package:
        sys.meta_path.insert(0, Alias(name, package)._finder)
