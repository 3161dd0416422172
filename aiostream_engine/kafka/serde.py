"""From bytes to values and back, by name or by a callable; runs in the workers.

======== ======================================= =====================
name     gives                                   takes
======== ======================================= =====================
bytes    the bytes as they are                   bytes
str      text, UTF-8                             text
json     lists, dicts, text, numbers             what msgspec encodes
msgpack  the same                                the same
======== ======================================= =====================

:class:`Avro` and :class:`Json` are callables with a schema or a type. Importing this file is light.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import OptionError

__all__ = ["SERDES", "Avro", "Deserializer", "Json", "Serializer", "deserializer", "serializer"]

Deserializer = Callable[[bytes], Any]
Serializer = Callable[[Any], bytes]

SERDES = ("bytes", "str", "json", "msgpack")

_CONFLUENT_MAGIC = 0


def deserializer(serde: str | Deserializer) -> Deserializer:
    """The function that decodes; raises OptionError for a name that is not known."""
    if callable(serde):
        return serde
    return _pair(serde)[0]


def serializer(serde: str | Serializer) -> Serializer:
    """The function that encodes; raises OptionError for a name that is not known.

    ``bytes`` refuses other types with TypeError instead of guessing an encoding.
    """
    if callable(serde):
        return serde
    return _pair(serde)[1]


def _pair(name: str) -> tuple[Deserializer, Serializer]:
    if name == "bytes":
        return bytes, _same_bytes
    if name == "str":
        return bytes.decode, str.encode
    if name == "json":
        import msgspec.json

        return msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    if name == "msgpack":
        import msgspec.msgpack

        return msgspec.msgpack.Decoder().decode, msgspec.msgpack.Encoder().encode
    raise OptionError(f"serde {name!r} is not known: use a callable or one of {', '.join(SERDES)}")


def _same_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"serde 'bytes' takes bytes, not {type(value).__name__}: name another serde")
    return bytes(value)


class Json:
    """JSON checked and decoded into a type: a msgspec.Struct, a dataclass, a TypedDict.

    type: what to decode into; the callable is a deserializer.
    """

    def __init__(self, type: Any) -> None:
        self.type = type
        self._decode: Deserializer | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Json, (self.type,)

    def __call__(self, data: bytes) -> Any:
        if self._decode is None:
            import msgspec.json

            self._decode = msgspec.json.Decoder(self.type).decode
        return self._decode(data)


class Avro:
    """Avro with a schema registry's header, or without; a deserializer. Needs the extra ``avro``.

    schema: the reader's schema, as a dict or JSON text; None takes each record as it was written.
    registry: address of a schema registry (``http://host:port``), or a function of a schema's number
        that gives its JSON text. Asked in the worker, once for each number and worker. Without one,
        records have no header and are written with ``schema``.
    timeout_s: of one request to the registry.

    Raises OptionError when there is neither. A call raises ValueError for a record without the header
    that a registry's records have, and OSError when the registry does not answer.
    """

    def __init__(
        self,
        schema: str | dict[str, Any] | None = None,
        *,
        registry: str | Callable[[int], str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        if schema is None and registry is None:
            raise OptionError("Avro needs a schema or a registry")
        self._options = (schema, registry, timeout_s)
        self._reader: Any = None
        self._writers: dict[int, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _avro, self._options

    def __call__(self, data: bytes) -> Any:
        import io

        import fastavro

        schema, registry, _ = self._options
        if self._reader is None and schema is not None:
            self._reader = fastavro.parse_schema(json.loads(schema) if isinstance(schema, str) else schema)
        if registry is None:
            return fastavro.schemaless_reader(io.BytesIO(data), self._reader, None)
        if len(data) < 5 or data[0] != _CONFLUENT_MAGIC:
            raise ValueError("the record does not begin with the number of a registered schema")
        writer = self._writer(int.from_bytes(data[1:5], "big"))
        return fastavro.schemaless_reader(io.BytesIO(data[5:]), writer, self._reader)

    def _writer(self, number: int) -> Any:
        import fastavro

        if number not in self._writers:
            self._writers[number] = fastavro.parse_schema(json.loads(self._registered(number)))
        return self._writers[number]

    def _registered(self, number: int) -> str:
        _, registry, timeout_s = self._options
        if not isinstance(registry, str):
            assert registry is not None
            return registry(number)
        import urllib.request

        url = f"{registry.rstrip('/')}/schemas/ids/{number}"
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return str(json.load(answer)["schema"])


def _avro(schema: Any, registry: Any, timeout_s: float) -> Avro:
    return Avro(schema, registry=registry, timeout_s=timeout_s)
