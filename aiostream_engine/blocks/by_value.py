"""Pickle functions and classes with their code, and with the name of the file that the code is from.

cloudpickle does both up to 3.1.2; from 3.1.3 it leaves the name out, to get the same bytes from any
notebook cell. An error in a worker would then show neither the file nor the line of the user's lambda.
"""

from __future__ import annotations

import io
from collections import ChainMap
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

__all__ = ["dumps_by_value"]

_PROTOCOL = 5


def dumps_by_value(value: Any) -> bytes:
    """``value`` as bytes, which ``pickle.loads`` reads. Raises whatever pickling raises."""
    out = io.BytesIO()
    _Pickler(out, protocol=_PROTOCOL).dump(value)
    return out.getvalue()


def _code_from(filename: str, code: CodeType) -> CodeType:
    return code.replace(co_filename=filename)


class _Named:
    """Stands for a code object while its bare form is pickled."""

    __slots__ = ("code",)

    def __init__(self, code: CodeType) -> None:
        self.code = code


def _reduce_named(named: _Named) -> Any:
    return cloudpickle.CloudPickler.dispatch_table[CodeType](named.code)


def _reduce_code(code: CodeType) -> Any:
    return _code_from, ("".join(code.co_filename), _Named(code))


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    dispatch_table: ClassVar[ChainMap[type, Any]] = ChainMap(
        {CodeType: _reduce_code, _Named: _reduce_named}, cloudpickle.CloudPickler.dispatch_table
    )
