"""Look now and then whether a name still leads where its connections go.

Under load a kept-alive connection is never closed, and the host that the name has left would be asked for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER, Ticker

__all__ = ["StrayCheck"]

# Names are asked for as often as their TTL says; this is how soon after that their connections follow.
_INTERVAL = 2.0


class StrayCheck:
    """Calls `look` every few seconds, once at a time, until it says that there is nothing to look at."""

    __slots__ = ("_at_work", "_check", "_loop", "_ticker", "deadline")

    def __init__(
        self, check: Callable[[], Awaitable[bool]], ticker: Ticker, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Begin when told so."""
        self._check = check
        self._ticker = ticker
        self._loop = loop
        self._at_work = False
        self.deadline = NEVER

    def start(self) -> None:
        """There is something to look at."""
        if not self._at_work:
            self._at_work = True
            self._wait()
            self._ticker.watch(self)

    def expire(self) -> None:
        """Look: it is time to."""
        spawn(self._go_on(), self._loop)

    async def _go_on(self) -> None:
        if await self._check():
            self._wait()
        else:
            self._at_work = False
            self._ticker.forget(self)

    def _wait(self) -> None:
        self.deadline = self._loop.time() + _INTERVAL
