"""From ``module:function`` to a stream graph. Importing a target runs its code (scenario J16)."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..context import StreamingContext

__all__ = ["TargetError", "build", "load"]


class TargetError(Exception):
    """The target cannot be used; the text says why and what to write instead."""


def load(target: str, app_dir: Path) -> Any:
    """The object that ``module:name`` or ``path.py:name`` names; modules are looked for in ``app_dir``.

    Raises TargetError when there is none. What the module itself raises passes through.
    """
    place, _, name = target.partition(":")
    if not place or not name:
        raise TargetError(f"{target!r} is no target: write module:function or path/to/file.py:function")
    module = _load_file(app_dir / place) if place.endswith(".py") else _load_module(place, app_dir)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"{place} has no {name!r}; it has: {_offers(module)}") from None
    return found


def _offers(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    return ", ".join(sorted(names)[:20]) or "no functions of its own"


def _search_first(directory: Path) -> None:
    # Worker processes get the same search path, so they find the functions that are sent by name.
    text = str(directory.resolve())
    if text not in sys.path:
        sys.path.insert(0, text)


def _load_module(name: str, app_dir: Path) -> ModuleType:
    if not app_dir.is_dir():
        raise TargetError(f"--app-dir {app_dir} is no directory")
    _search_first(app_dir)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise
        raise TargetError(f"no module {exc.name!r} in {app_dir.resolve()} or on the Python path") from None
    except (TypeError, ValueError) as exc:  # a relative or otherwise impossible name
        raise TargetError(f"{name!r} is no module name: {exc}") from None


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"no file {path}")
    _search_first(path.parent)
    importlib.invalidate_caches()
    name = path.stem
    spec = importlib.util.find_spec(name) if name.isidentifier() and name not in sys.modules else None
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path.resolve():
        return importlib.import_module(name)
    return _load_shadowed(path)


def _load_shadowed(path: Path) -> ModuleType:
    """A file that cannot be imported by its name (``my-app.py``, ``json.py``): sent to workers by value."""
    import cloudpickle

    name = f"_aiostream_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)
    return module


async def build(
    found: Any,
    make: Callable[[], StreamingContext],
    *,
    arguments: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> StreamingContext:
    """The streaming context that the target describes.

    found: a StreamingContext; or a callable, plain or async, that builds the graph on the one it
        is given, or takes nothing and returns one. A second parameter receives ``arguments``.
    make: makes the context for a callable that takes one.
    overrides: options that only make sense for that context.

    Raises TargetError for anything else.
    """
    from ..context import StreamingContext

    if isinstance(found, StreamingContext):
        return _own(found, overrides)
    if not callable(found):
        raise TargetError(f"the target is {type(found).__name__}, not a function or a StreamingContext")
    parameters = _positional(found)
    if not parameters:
        made = await _settled(found())
        if not isinstance(made, StreamingContext):
            raise TargetError("the target takes no parameter, so it must return a StreamingContext")
        return _own(made, overrides)
    if len([p for p in parameters if p.default is p.empty]) > 2:
        raise TargetError("the target takes more than (ssc) or (ssc, arguments)")
    return await _given(found, make(), [list(arguments)] if len(parameters) > 1 else [])


async def _given(found: Callable[..., Any], ssc: StreamingContext, extra: list[Any]) -> StreamingContext:
    try:
        made = await _settled(found(ssc, *extra))
    except BaseException:
        await ssc.stop(graceful=False)
        raise
    if made is None or made is ssc:
        return ssc
    await ssc.stop(graceful=False)
    raise TargetError("the target must build on the context that it is given, or take no parameter")


def _own(ssc: StreamingContext, overrides: Sequence[str]) -> StreamingContext:
    if overrides:
        raise TargetError(f"the target makes its own context, so {', '.join(overrides)} would be ignored")
    return ssc


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        return [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    except (TypeError, ValueError) as exc:
        raise TargetError(f"the target cannot be called from here: {exc}") from None
