"""A lane that has reached its cluster, or the reason why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka.errors import KafkaError

from ...errors import SourceError
from ...kafka.connection import check_connection
from ...kafka.settings import KafkaSettings
from .lane import Lane

__all__ = ["started_lane"]

_ASK_AGAIN_S = 0.2


async def started_lane(make: Callable[[], Lane], settings: KafkaSettings, timeout_s: float) -> Lane:
    """A lane that has reached a broker; one that was just started may need a moment.

    Raises SourceError when none is reached in time, ConfigurationError when it refuses these settings.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        lane = make()
        try:
            await lane.start()
            return lane
        except BaseException as error:
            await lane.aclose()
            if not isinstance(error, KafkaError | OSError):
                raise
            failure = await _explained(settings, error, deadline)
            if loop.time() >= deadline or not getattr(error, "retriable", True):
                raise failure from error
        await asyncio.sleep(_ASK_AGAIN_S)


async def _explained(settings: KafkaSettings, error: BaseException, deadline: float) -> SourceError:
    """What keeps us from the cluster. Raises ConfigurationError when it refuses these settings."""
    try:
        async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + 1)):
            await check_connection(settings)
    except SourceError as found:
        return found
    except TimeoutError:
        pass
    return SourceError(f"cannot reach Kafka at {settings.bootstrap}: {error!r}")
