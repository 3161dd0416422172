"""Spark's log levels on the engine's loggers."""

from __future__ import annotations

import logging

from .errors import IllegalArgumentException

__all__ = ["set_level"]

_LEVELS = {
    "ALL": logging.NOTSET + 1,
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "OFF": logging.CRITICAL + 1,
}


def set_level(name: str) -> None:
    """Set the level of ``aiostream_engine``'s loggers, of no other. Raises IllegalArgumentException."""
    level = _LEVELS.get(name.upper())
    if level is None:
        known = ", ".join(_LEVELS)
        raise IllegalArgumentException(f"Supplied level {name} did not match one of: {known}")
    logging.getLogger("aiostream_engine").setLevel(level)
