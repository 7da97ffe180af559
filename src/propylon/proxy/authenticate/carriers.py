"""AUTHENTICATE: take the token from a cookie or another header (`auth.from`), and guard cookies against other sites.

A browser sends cookies by itself, also with a request that another site's page makes it send (cross-site request
forgery). So a request that may change something, and whose token is in a cookie, must come from the gateway's own
origin, or from an origin that `cors` allows with credentials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from propylon.errors import Forbidden
from propylon.proxy.authenticate import unverifiable
from propylon.proxy.authenticate.verify import Verifier
from propylon.proxy.challenge import invalid, missing
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.route import Authenticate
from propylon.wire.grammar import BEARER
from propylon.wire.headers import values, without
from propylon.wire.message import Request

__all__ = [
    "Authorization",
    "Carrier",
    "Cookie",
    "Header",
    "SiteGuard",
    "TokenFinder",
    "hidden",
    "unverifiable_if_found",
]

# RFC 9110, 9.2.1. A handshake for another protocol is a GET, and yet opens a channel that reads and writes.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Fetch Metadata (W3C). `none`: the user typed the address, or followed a bookmark. `same-site` is another host of the same
# domain, which may belong to another team, or run another's pages.
_OWN_SITE = frozenset({b"same-origin", b"none"})


class Carrier(Protocol):
    """A place in a request that may hold a token."""

    @property
    def automatic(self) -> bool:
        """Whether a browser sends it by itself."""

    def find(self, request: Request) -> bytes | None:
        """Return the token, None if there is none. Raises AuthError if it is malformed or not the only one."""

    def hide(self, block: bytes) -> bytes:
        """Return the block without the token."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The header `Authorization: Bearer …` (RFC 6750, 2.1)."""

    automatic: bool = False

    def find(self, request: Request) -> bytes | None:
        """Return the token of the header."""
        sent = request.special.get(b"authorization")
        return None if sent is None else _only(sent, b"")

    def hide(self, block: bytes) -> bytes:
        """Return the block without the header."""
        return without(block, (b"authorization",))


@dataclass(frozen=True, slots=True)
class Header:
    """Another header, whose value is the token, with or without `Bearer` before it. The name is in lower case."""

    name: bytes
    automatic: bool = False

    def find(self, request: Request) -> bytes | None:
        """Return the token of the header; an empty one holds none."""
        sent = [value for value in values(request.block, self.name) if value]
        if not sent:
            return None
        return _only(sent, b"" if sent[0][:7].lower() == b"bearer " else b"Bearer ")

    def hide(self, block: bytes) -> bytes:
        """Return the block without the header."""
        return without(block, (self.name,))


class Cookie:
    """A cookie (RFC 6265, 4.2), whose value is the token."""

    __slots__ = ("_pattern", "automatic")

    def __init__(self, name: str) -> None:
        """`name` is case-sensitive."""
        self.automatic = True
        self._pattern = re.compile(
            rb"(?:^|;)[ \t]*" + re.escape(name.encode("ascii")) + rb"=([^;]*)"
        )

    def find(self, request: Request) -> bytes | None:
        """Return the token of the cookie; an empty one holds none."""
        lines = values(request.block, b"cookie")
        # RFC 6265, 4.1.1: the value may stand in quotes.
        found = [v.strip(b' \t"') for line in lines for v in self._pattern.findall(line)]
        sent = [value for value in found if value]
        # With two of them another host of the domain may have set one: it could log the user in as somebody else.
        return _only(sent, b"Bearer ") if sent else None

    def hide(self, block: bytes) -> bytes:
        """Return the block without this cookie; the others stay."""
        lines = block.split(b"\r\n")
        return b"\r\n".join(kept for line in lines if (kept := self._without(line)) is not None)

    def _without(self, line: bytes) -> bytes | None:
        name, mark, value = line.partition(b":")
        if name.lower() != b"cookie":
            return line
        rest = self._pattern.sub(b"", value).strip(b"; \t")
        return b"%b%b %b" % (name, mark, rest) if rest else None


def _only(sent: Sequence[bytes], prefix: bytes) -> bytes:
    # The gateway would verify one of two, and the upstream might use the other.
    if len(sent) != 1:
        raise invalid(reason="more than one token in the same place")
    match = BEARER.fullmatch(prefix + sent[0])
    if match is None:
        raise invalid(reason="not a bearer token")
    return match[1]


class SiteGuard:
    """Refuses requests that another site's page may have made a browser send."""

    __slots__ = ("_trusted",)

    def __init__(self, trusted: Callable[[bytes], bool]) -> None:
        """`trusted` tells whether pages of an origin may send requests with cookies."""
        self._trusted = trusted

    def check(self, request: Request) -> None:
        """Return if the request comes from the gateway's own origin, a trusted one, or no browser. Raises Forbidden.

        The rules are those of `http.CrossOriginProtection` in Go. Every browser of the last years sends Sec-Fetch-Site,
        and older ones send Origin with unsafe methods. A client that sends neither is no browser, and sends no cookie that
        its user did not give it.
        """
        if request.method in _SAFE and not request.upgrade:
            return
        origins = request.special.get(b"origin", [])
        sites = values(request.block, b"sec-fetch-site")
        if len(origins) == 1 and self._trusted(origins[0]):
            return
        if sites:
            own = set(sites) <= _OWN_SITE
        else:
            own = all(_host(origin) == request.host.lower() for origin in origins)
        if not own:
            msg = "A page of another site may not send this request with a cookie"
            raise Forbidden(
                msg,
                reason="the token is in a cookie, and Origin or Sec-Fetch-Site is another site's",
            )


def _host(origin: bytes) -> bytes | None:
    # Compared without the scheme: behind a proxy that ends TLS, the gateway does not know it.
    scheme, mark, host = origin.lower().partition(b"://")
    return host if scheme and mark else None


class TokenFinder:
    """The authenticate stage where `auth.from` names other places than the header Authorization.

    The first place that holds a token counts, in the order in which they are configured.
    """

    __slots__ = ("_carriers", "_guard", "_required", "_verifier")

    def __init__(
        self, verifier: Verifier, carriers: Sequence[Carrier], guard: SiteGuard, *, required: bool
    ) -> None:
        """`required`: refuse requests without a token. A bad token is refused in any case."""
        self._verifier = verifier
        self._carriers = tuple(carriers)
        self._guard = guard
        self._required = required

    def trusting(self, trusted: Callable[[bytes], bool]) -> TokenFinder:
        """Return the same stage with other origins whose pages may send requests with cookies."""
        guard = SiteGuard(trusted)
        return TokenFinder(self._verifier, self._carriers, guard, required=self._required)

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the principal of the request.

        Raises Forbidden for a cookie that another site may have sent, and what the verifier raises.
        """
        for carrier in self._carriers:
            token = carrier.find(request)
            if token is None:
                continue
            if carrier.automatic:
                self._guard.check(request)
            return (await self._verifier.verify(token, client)).principal
        if self._required:
            raise missing()
        return ANONYMOUS


def unverifiable_if_found(carriers: Sequence[Carrier]) -> Authenticate:
    """Return the stage of `auth: optional` where there is nothing to verify with: a request with a token is 503."""

    async def authenticate(request: Request, client: str = "") -> Principal:
        if any(carrier.find(request) is not None for carrier in carriers):
            return await unverifiable(request, client)
        return ANONYMOUS

    return authenticate


def hidden(carriers: Sequence[Carrier]) -> Callable[[bytes], bytes]:
    """Return a function that takes all tokens out of a block, for a service that has no need of them."""

    def hide(block: bytes) -> bytes:
        for carrier in carriers:
            block = carrier.hide(block)
        return block

    return hide
