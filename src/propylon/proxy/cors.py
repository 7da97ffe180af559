"""CORS: say which web pages may read an answer, and answer their browsers' preflights. Pure.

The Fetch standard, section 3.2. A preflight carries no token and none is asked of it; it says nothing
but what the configuration and the routes allow, and never reaches an upstream.
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.errors import InvalidRequest
from propylon.wire.grammar import OWS, TOKEN
from propylon.wire.headers import render
from propylon.wire.message import NO_BODY, Request, Response

__all__ = ["REPLACED", "Cors"]

# What an upstream says of these is replaced where the gateway answers for them.
REPLACED = (
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-methods",
    b"access-control-allow-headers",
    b"access-control-max-age",
)
_EXPOSE = b"access-control-expose-headers"
_METHOD = b"access-control-request-method"
_HEADERS = b"access-control-request-headers"
_VARY = b"\r\nVary: Origin"
_VARY_PREFLIGHT = b"\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


@dataclass(frozen=True, slots=True)
class Cors:
    """Which origins, methods and headers; compiled. Origins are `scheme://host[:port]`, lower-case."""

    origins: frozenset[bytes]
    # (`https://`, `.example.com`): any host below, by that scheme.
    below: tuple[tuple[bytes, bytes], ...] = ()
    anybody: bool = False
    methods: bytes = b""  # empty: those of the route
    headers: bytes = b""  # empty: those asked for
    exposed: bytes = b""
    credentials: bool = False
    max_age: int = 600

    @property
    def replaced(self) -> tuple[bytes, ...]:
        """The headers of an upstream's answer that do not pass."""
        return (*REPLACED, _EXPOSE) if self.exposed else REPLACED

    def block(self, request: Request) -> bytes:
        """Return the lines for any answer to the request, refusals included."""
        allowed = self._allowed(request)
        if not allowed:
            return _VARY
        if self.exposed:
            allowed += b"\r\nAccess-Control-Expose-Headers: " + self.exposed
        return allowed if self.anybody else allowed + _VARY

    def _allowed(self, request: Request) -> bytes:
        if self.anybody:
            # To everybody alike, whether they sent an origin or not: caches keep one answer.
            return b"\r\nAccess-Control-Allow-Origin: *"
        sent = request.special.get(b"origin")
        if sent is None or len(sent) != 1:
            return b""  # two origins are nobody's: no browser sends them
        origin = sent[0]
        if not self._knows(origin):
            return b""
        lines = b"\r\nAccess-Control-Allow-Origin: " + origin
        return lines + b"\r\nAccess-Control-Allow-Credentials: true" if self.credentials else lines

    def _knows(self, origin: bytes) -> bool:
        # Byte for byte: browsers send origins in lower case, and no other client has one.
        if origin in self.origins:
            return True
        for scheme, suffix in self.below:
            host = origin[len(scheme) :]
            if origin.startswith(scheme) and host.endswith(suffix) and _is_host(host):
                return True
        return False

    def is_preflight(self, request: Request) -> bool:
        """Whether a browser asks if it may ask."""
        return (
            request.method == "OPTIONS"
            and b"origin" in request.special
            and _METHOD in request.special
        )

    def preflight(self, request: Request, allow: bytes) -> Response:
        """Answer a preflight; `allow` are the methods of the routes on that path.

        The browser compares: what is not allowed is simply not among what is told. Raises InvalidRequest
        for a preflight that asks twice.
        """
        if any(len(request.special.get(name, ())) > 1 for name in (b"origin", _METHOD)):
            msg = "A preflight asks one thing of one origin"
            raise InvalidRequest(msg)
        allowed = self._allowed(request)
        block = _VARY_PREFLIGHT
        if allowed:
            block = allowed + render(self._permits(request, allow)) + block
        return Response(204, b" 204 No Content", block, NO_BODY, keep_alive=True)

    def _permits(self, request: Request, allow: bytes) -> list[tuple[bytes, bytes]]:
        names = b",".join(request.special.get(_HEADERS, ())).split(b",")
        asked = b", ".join(name for raw in names if TOKEN.fullmatch(name := raw.strip(OWS)))
        permits = [(b"Access-Control-Allow-Methods", self.methods or allow)]
        if headers := self.headers or asked:
            permits.append((b"Access-Control-Allow-Headers", headers))
        permits.append((b"Access-Control-Max-Age", b"%d" % self.max_age))
        return permits


def _is_host(host: bytes) -> bool:
    """Whether there is nothing but a host and a port: no path, no userinfo, no second scheme."""
    return not any(mark in host for mark in b"/@\\?# ,") and not host.startswith(b".")
