"""AUTHENTICATE: pass claims of the token to the service as headers (`claims`).

The gateway vouches for these headers as it does for X-User-Id: `outgoing` removes what the client sent under their
names, and a value that could break out of its line, or be read as two, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from propylon.proxy.authenticate.claims import claim_at
from propylon.proxy.principal import Principal, is_line, is_listable
from propylon.proxy.route import Authenticate
from propylon.wire.message import Request

__all__ = ["ClaimHeaders"]

# Characters. A header of the service's that is longer would be refused by many frameworks, together with the request.
_MAX_VALUE = 1024
# Principals whose headers are kept: as many as the verifier keeps tokens.
_MAX_KEPT = 10_000


class ClaimHeaders:
    """The authenticate stage of a route with `claims`: the usual stage, and then the principal gets more headers."""

    __slots__ = ("_claims", "_kept", "_stage")

    def __init__(self, stage: Authenticate, claims: Iterable[tuple[str, str]]) -> None:
        """`claims` are pairs of a header's name and the dotted path of a claim."""
        self._stage = stage
        self._claims = tuple((header.encode("ascii"), path) for header, path in claims)
        # The verifier returns the same object for the same token, so its identity is the key.
        self._kept: dict[int, tuple[Principal, Principal]] = {}

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the principal with its headers. Raises what the usual stage raises."""
        principal = await self._stage(request, client)
        if not principal.known:
            return principal
        kept = self._kept.get(id(principal))
        if kept is not None and kept[0] is principal:
            return kept[1]
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        extended = replace(principal, block=principal.block + self._lines(principal))
        self._kept[id(principal)] = (principal, extended)
        return extended

    def _lines(self, principal: Principal) -> bytes:
        texts = ((name, _text(claim_at(principal.claims, path))) for name, path in self._claims)
        return b"".join(b"\r\n%b: %b" % (name, text.encode()) for name, text in texts if text)


def _text(value: object) -> str:
    """Return a claim as the value of a header; empty if it cannot be one."""
    if isinstance(value, list):
        items = [_scalar(item) for item in value]
        # A list with one item that cannot stand in it is left out whole: half a list would mean something else.
        text = ",".join(items) if all(map(is_listable, items)) else ""
    else:
        text = _scalar(value)
    return text if len(text) <= _MAX_VALUE and is_line(text) else ""


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else ""
