"""CORS: tell browsers which web pages may read an answer, and answer preflights (the Fetch standard, 3.2). Pure.

A preflight carries no token, and needs none: its answer repeats only what the configuration and the routes allow.
It never reaches an upstream, which would have to know the gateway's rules to answer it.
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.errors import InvalidRequest
from propylon.wire.grammar import OWS, TOKEN
from propylon.wire.headers import render, values
from propylon.wire.message import NO_BODY, Request, Response

__all__ = ["NO_CORS", "REPLACED", "Cors", "asked_method", "is_preflight"]

# Facts:
# - CORS protects users, not the gateway: only browsers obey it. Authentication does not rely on it.
# - Without credentials a page reads what anyone could read. With credentials it reads what its visitor may read, so
#   an origin is then an identity, and is compared exactly.

# Where the gateway does CORS, an upstream's own headers are removed: two Access-Control-Allow-Origin lines make
# every browser refuse the answer.
REPLACED = (
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-methods",
    b"access-control-allow-headers",
    b"access-control-max-age",
    b"access-control-allow-private-network",
)
_EXPOSE = b"access-control-expose-headers"
_METHOD = b"access-control-request-method"
_HEADERS = b"access-control-request-headers"
_PRIVATE = b"access-control-request-private-network"
_VARY = b"\r\nVary: Origin"
_VARY_PREFLIGHT = b"\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


@dataclass(frozen=True, slots=True)
class Cors:
    """The compiled rules of `cors`. Origins are `scheme://host[:port]` in lower case, as browsers send them."""

    origins: frozenset[bytes]
    # For https://*.example.com: (b"https://", b".example.com").
    wildcards: tuple[tuple[bytes, bytes], ...] = ()
    any_origin: bool = False
    methods: bytes = b""  # empty: the methods of the route
    any_method: bool = False  # then the answer names the one that was asked for, and no other
    headers: bytes = b""  # empty: the headers that the preflight asks for
    exposed: bytes = b""
    credentials: bool = False
    max_age: int = 600
    private_network: bool = False

    @property
    def replaced(self) -> tuple[bytes, ...]:
        """The headers that are removed from an upstream's answer."""
        return (*REPLACED, _EXPOSE) if self.exposed else REPLACED

    def block(self, request: Request) -> bytes:
        """Return the CORS headers for the answer to this request.

        Errors get them, too: a page that may not read a 401 sees a network error instead of an expired token.
        """
        allowed = self._allowed(request)
        if not allowed:
            # Vary also without permission: a cache must not give this answer to a page that has one.
            return _VARY
        if self.exposed:
            allowed += b"\r\nAccess-Control-Expose-Headers: " + self.exposed
        return allowed if self.any_origin else allowed + _VARY

    def _allowed(self, request: Request) -> bytes:
        if self.any_origin:
            # Sent to requests without Origin, too: then the answer does not vary, and caches keep one copy.
            return b"\r\nAccess-Control-Allow-Origin: *"
        sent = request.special.get(b"origin")
        if sent is None or len(sent) != 1:
            return b""  # no browser sends two origins
        origin = sent[0]
        if not self.allows(origin):
            return b""
        lines = b"\r\nAccess-Control-Allow-Origin: " + origin
        return lines + b"\r\nAccess-Control-Allow-Credentials: true" if self.credentials else lines

    def allows(self, origin: bytes) -> bool:
        """Tell whether pages of this origin may read answers."""
        # Byte for byte. Browsers send origins in lower case, and for other clients CORS means nothing.
        if origin in self.origins:
            return True
        # The suffix begins with a dot, so that evil-example.com does not pass for a subdomain.
        for scheme, suffix in self.wildcards:
            host = origin[len(scheme) :]
            if origin.startswith(scheme) and host.endswith(suffix) and _is_plain_host(host):
                return True
        return False

    def permits(self, request: Request) -> bool:
        """Tell whether the page that asks may read answers at all."""
        return bool(self._allowed(request))

    def preflight(self, request: Request, allow: bytes) -> Response:
        """Answer a preflight; `allow` lists the methods of the routes on that path, and is empty if there is none.

        The method that was asked for is allowed, too, unless `cors.methods` limits it. The browser then sends the
        request, and the page reads the 404 or 405 that it deserves. Refused here, it would read "CORS error".

        A page that is not allowed gets a 204 without permissions, and its browser then sends nothing. Raises
        InvalidRequest for a preflight with two origins or two methods.
        """
        if any(len(request.special.get(name, ())) > 1 for name in (b"origin", _METHOD)):
            msg = "A preflight has one Origin and one Access-Control-Request-Method"
            raise InvalidRequest(msg)
        # OPTIONS is not cacheable (RFC 9110, 9.3.7), but some CDNs cache it all the same: hence the long Vary.
        allowed = self._allowed(request)
        block = _VARY_PREFLIGHT
        if allowed:
            block = allowed + render(self._permission_lines(request, allow)) + block
        return Response(204, b" 204 No Content", block, NO_BODY, keep_alive=True)

    def _permission_lines(self, request: Request, allow: bytes) -> list[tuple[bytes, bytes]]:
        names = b",".join(request.special.get(_HEADERS, ())).split(b",")
        asked = b", ".join(name for raw in names if TOKEN.fullmatch(name := raw.strip(OWS)))
        permits = []
        known = b"" if self.any_method else allow
        if methods := self.methods or _with_asked(known, request.special[_METHOD][0].strip(OWS)):
            permits.append((b"Access-Control-Allow-Methods", methods))
        if headers := self.headers or asked:
            permits.append((b"Access-Control-Allow-Headers", headers))
        permits.append((b"Access-Control-Max-Age", b"%d" % self.max_age))
        if self.exposed:
            permits.append((b"Access-Control-Expose-Headers", self.exposed))
        if self.private_network and values(request.block, _PRIVATE) == [b"true"]:
            permits.append((b"Access-Control-Allow-Private-Network", b"true"))
        return permits


class _NoCors:
    """The rules of a route without CORS: nothing is said, nothing is answered, and the service may do it itself."""

    def block(self, request: Request) -> bytes:  # noqa: ARG002 — as `Cors`
        """Return nothing."""
        return b""

    def permits(self, request: Request) -> bool:  # noqa: ARG002
        """Permit nobody."""
        return False

    def preflight(self, request: Request, allow: bytes) -> Response | None:  # noqa: ARG002
        """Leave the preflight to the route, as a request like any other."""
        return None


NO_CORS = _NoCors()


def is_preflight(request: Request) -> bool:
    """Tell whether a browser asks in advance if a page may send a request (the Fetch standard, 3.2.2)."""
    return (
        request.method == "OPTIONS" and b"origin" in request.special and _METHOD in request.special
    )


def asked_method(request: Request) -> str:
    """Return the method that a preflight asks about."""
    return request.special[_METHOD][0].strip(OWS).decode("latin-1")


def _with_asked(allow: bytes, asked: bytes) -> bytes:
    """Return the methods of a path with the one that was asked for, if that is a method at all."""
    known = [method for method in allow.split(b", ") if method]
    if asked not in known and TOKEN.fullmatch(asked):
        known.append(asked)
    return b", ".join(known)


def _is_plain_host(host: bytes) -> bool:
    """Tell whether this is a host with or without a port, and no path, userinfo or second scheme.

    Else `https://evil.test/.example.com` would end with an allowed suffix.
    """
    return not any(mark in host for mark in b"/@\\?# ,") and not host.startswith(b".")
