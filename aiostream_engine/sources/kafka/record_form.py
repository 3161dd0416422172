"""How the bytes of a topic become records: by names, with the bytes, or by functions, in a step behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from ...errors import OptionError
from ...kafka.decoding import PROJECTIONS, Decode, refuse_undecodable
from ...kafka.record import KafkaRecord
from ...kafka.serde import SERDES, Deserializer, deserializer

__all__ = ["Projection", "RecordForm"]

Projection = Literal["record", "value", "pair"] | Callable[[KafkaRecord], Any]


class RecordForm:
    """What blocks are told of decoding, and the step behind them, None when there is none.

    Parameters are those of :class:`.source.KafkaSource`. Raises OptionError.
    """

    def __init__(self, projection: Projection, key: str | Deserializer, value: str | Deserializer) -> None:
        if not callable(projection) and projection not in PROJECTIONS:
            raise OptionError(f"projection {projection!r} is not known: use {', '.join(PROJECTIONS)}")
        deserializer(key), deserializer(value)
        named = projection in PROJECTIONS and key in SERDES and value in SERDES
        self.block_args: tuple[Any, ...] = (projection, key, value) if named else ("record", "bytes", "bytes")
        self.converter: Callable[[Any], Any] | None = None
        if not named:
            self.converter = Decode(projection, key, value)
        elif value != "bytes" or (key != "bytes" and projection != "value"):
            used = str(key) if projection != "value" else "bytes"
            self.converter = partial(refuse_undecodable, used, str(value))
