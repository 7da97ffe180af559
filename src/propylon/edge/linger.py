"""Close a connection whose client is still sending, so that the answer is not lost to a reset.

RFC 9112, 9.6: if a server closes a socket while unread input waits in it, the kernel sends a reset, and the reset makes
the client's kernel throw away the answer that had already arrived. So the gateway half-closes first (the client sees
the end of the answer), reads and discards what the client still sends, and closes a little later. nginx and Apache call
this a lingering close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["LingeringClose"]

# How much is discarded, and for how long (seconds): long enough for the client of a 413 to notice the answer, short
# enough that an attacker that sends for ever gains nothing. Apache lingers for 2 s under attack (SECONDS_TO_LINGER) and
# for 30 s otherwise, nginx for 30 s (lingering_time). Go waits 0.5 s without reading (rstAvoidanceDelay).
_MAX_DISCARDED = 1024 * 1024
_MAX_TIME = 2.0


class LingeringClose:
    """Our side of the connection is closed; what the client still sends is discarded."""

    __slots__ = ("_loop", "_remaining", "_transport", "_unsent")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        unsent: Callable[[], int] | None = None,
    ) -> None:
        """Half-close `transport`; close it later, even if the client goes on sending.

        `unsent` returns how many bytes of the answer the client has not got yet.
        """
        self._transport = transport
        self._loop = loop
        self._unsent = unsent
        self._remaining = _MAX_DISCARDED
        transport.write_eof()
        loop.call_later(_MAX_TIME, self._close)

    def _close(self) -> None:
        """Close, unless the client still reads the answer: how long that may take is the connection's deadline."""
        unsent = self._unsent
        if unsent is not None and not self._transport.is_closing() and unsent():
            self._loop.call_later(_MAX_TIME, self._close)
            return
        self._transport.close()

    def discard(self, data: bytes) -> None:
        """Throw `data` away; close at once if the client has sent too much."""
        self._remaining -= len(data)
        if self._remaining <= 0:
            self._transport.close()
