"""OAUTHBEARER tokens from whatever gives them: aiokafka wants a class of its own."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from aiokafka.abc import AbstractTokenProvider

__all__ = ["TokenCallback"]


class TokenCallback(AbstractTokenProvider):  # type: ignore[misc]
    """Calls a function, plain or async, or the ``token`` method of an object, for each connection.

    A plain function is called in a thread, since it may ask a server. Its answer is a str.
    """

    def __init__(self, given: Any) -> None:
        self._function = getattr(given, "token", given)

    async def token(self) -> str:
        """The token of now."""
        if inspect.iscoroutinefunction(self._function):
            return str(await self._function())
        answer = await asyncio.to_thread(self._function)
        return str(await answer if inspect.isawaitable(answer) else answer)

    def extensions(self) -> dict[str, str]:
        """None: what a token says stands in the token."""
        return {}
