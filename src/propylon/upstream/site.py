"""Request one URL that the operator configured for the gateway itself: a key set, introspection, a collector.

Each request goes over the site's own pool, so that a slow identity provider takes no connection from a service.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from propylon.upstream.dial import Address
from propylon.upstream.fetch import Fetched, fetch
from propylon.upstream.ports import Upstream
from propylon.upstream.tls import SYSTEM_TRUST, tls_context
from propylon.wire.headers import render

__all__ = ["Connect", "Site"]

# Returns an upstream at an address, with at most so many connections.
Connect = Callable[[Address, int], Upstream]

_PORTS = {"http": 80, "https": 443}


class Site:
    """A URL that the gateway itself requests, and the upstream behind it."""

    def __init__(self, url: str, connect: Connect, connections: int) -> None:
        """Take a checked http or https URL; at most `connections` requests are under way at a time."""
        parts = urlsplit(url)
        # The system's trust store, and host names are checked. There is no option to switch that
        # off: a key set from the wrong host is every token forged.
        tls = tls_context(SYSTEM_TRUST) if parts.scheme == "https" else None
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self.upstream = connect(Address(host, port, tls), connections)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # RFC 9110, 7.2: Host has no userinfo; a password in it would stand in the access log of the
        # site.
        self._host = parts.netloc.rpartition("@")[2].encode("ascii")

    async def get(self, accept: bytes, *, within: float, limit: int) -> Fetched:
        """GET the document, with `accept` as the media types. Raises what `fetch` raises."""
        return await fetch(
            self.upstream, self._line("GET"), self._head(accept), within=within, limit=limit
        )

    async def ask(self, lines: bytes, *, within: float, limit: int) -> Fetched:
        """GET the URL with the block `lines` as the headers besides Host and User-Agent. Raises what `fetch` raises."""
        head = render([(b"Host", self._host), (b"User-Agent", b"propylon")]) + lines
        return await fetch(self.upstream, self._line("GET"), head, within=within, limit=limit)

    async def post_form(
        self, form: bytes, accept: bytes, lines: bytes = b"", *, within: float, limit: int
    ) -> Fetched:
        """POST a form, with the block `lines` as further headers. Raises what `fetch` raises."""
        head = self._head(accept) + lines
        head += b"\r\nContent-Type: application/x-www-form-urlencoded"
        return await fetch(
            self.upstream, self._line("POST"), head, body=form, within=within, limit=limit
        )

    async def post(
        self, body: bytes, media_type: bytes, lines: bytes = b"", *, within: float, limit: int
    ) -> Fetched:
        """POST a body, with the block `lines` as further headers. Raises what `fetch` raises."""
        head = self._head(media_type) + b"\r\nContent-Type: " + media_type + lines
        return await fetch(
            self.upstream, self._line("POST"), head, body=body, within=within, limit=limit
        )

    def _line(self, method: str) -> bytes:
        return f"{method} {self._target}".encode("ascii")

    def _head(self, accept: bytes) -> bytes:
        # RFC 9110, 10.1.5: a user agent should name itself. Some identity providers refuse requests
        # that do not.
        return render([(b"Host", self._host), (b"Accept", accept), (b"User-Agent", b"propylon")])
