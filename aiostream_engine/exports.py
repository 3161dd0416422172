"""Public names of a package, each imported from its module at first use (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(
    namespace: dict[str, Any], module_of: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    namespace: the ``globals()`` of the package; a name is kept there once it was asked for.
    module_of: for each public name its module, relative to the package (``"a"`` its own, ``".a"`` one
    of the package above).
    """
    package = namespace["__name__"]

    def get(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(importlib.import_module(f".{module}", package), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *module_of})

    return get, names
