"""Close pooled connections whose host name now resolves to other addresses.

Facts. Under load a kept-alive connection is never idle for long enough to be closed. Without a check, the host that a name
has left would get requests for ever: after a blue-green deployment, or when a cloud moves a load balancer.

Strategy. While a pool has connections by name, the addresses are compared every two seconds. The resolver's cache answers,
so that this causes no query of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER, Ticker

__all__ = ["StrayCheck"]

# Seconds. Names are looked up as often as their TTL says. So much later, at the most, their
# connections follow.
_INTERVAL = 2.0


class StrayCheck:
    """Calls `check` every two seconds, one call at a time, until it returns False: nothing is left to check."""

    __slots__ = ("_active", "_check", "_loop", "_ticker", "deadline")

    def __init__(
        self, check: Callable[[], Awaitable[bool]], ticker: Ticker, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Wait for `start`; `ticker` and `loop` are the pool's."""
        self._check = check
        self._ticker = ticker
        self._loop = loop
        self._active = False
        self.deadline = NEVER

    def start(self) -> None:
        """Begin to check periodically; a no-op if that is under way."""
        if not self._active:
            self._active = True
            self._schedule()
            self._ticker.watch(self)

    def expire(self) -> None:
        """Check now, in a task."""
        # The name may be in no cache any more, and looking it up takes a while. `deadline` stays
        # NEVER until the check has ended, so that there is one at a time.
        spawn(self._run_check(), self._loop)

    async def _run_check(self) -> None:
        if await self._check():
            self._schedule()
        else:
            # No connection is left. The next one that is opened starts the check again.
            self._active = False
            self._ticker.forget(self)

    def _schedule(self) -> None:
        self.deadline = self._loop.time() + _INTERVAL
