"""Ask one URL of somebody else's: a key set, an introspection endpoint, a service's document.

Each question goes over the site's own pool, in a bounded time, and brings a bounded answer.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from propylon.upstream.dial import Address
from propylon.upstream.fetch import Fetched, fetch
from propylon.upstream.ports import Upstream
from propylon.wire.headers import render

__all__ = ["Connect", "Site"]

# Returns an upstream at an address, with so many connections at the most.
Connect = Callable[[Address, int], Upstream]

_PORTS = {"http": 80, "https": 443}


class Site:
    """A URL that the gateway itself asks."""

    def __init__(self, url: str, connect: Connect, connections: int) -> None:
        """Take a checked http or https URL; at most `connections` questions go out at a time."""
        parts = urlsplit(url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self.upstream = connect(Address(host, port, tls), connections)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host = parts.netloc.rpartition("@")[2].encode("ascii")

    async def get(self, accept: bytes, *, within: float, limit: int) -> Fetched:
        """Fetch the document. Raises what `fetch` raises."""
        return await fetch(
            self.upstream, self._line("GET"), self._head(accept), within=within, limit=limit
        )

    async def post_form(
        self, form: bytes, accept: bytes, lines: bytes = b"", *, within: float, limit: int
    ) -> Fetched:
        """Send a form, with `lines` as further headers. Raises what `fetch` raises."""
        head = self._head(accept) + lines
        head += b"\r\nContent-Type: application/x-www-form-urlencoded"
        return await fetch(
            self.upstream, self._line("POST"), head, body=form, within=within, limit=limit
        )

    def _line(self, method: str) -> bytes:
        return f"{method} {self._target}".encode("ascii")

    def _head(self, accept: bytes) -> bytes:
        return render([(b"Host", self._host), (b"Accept", accept), (b"User-Agent", b"propylon")])
