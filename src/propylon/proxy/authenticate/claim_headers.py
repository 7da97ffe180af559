"""AUTHENTICATE: pass claims of the token to the service as headers (`claims`).

The gateway vouches for these headers as it does for those that a policy sets, in the same place (`Request.vouched`):
`outgoing` removes what the client sent under their names, and a policy that sets one replaces the claim. A value that
could break out of its line, or be read as two, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from propylon.proxy.principal import Principal, claim_at, claim_text
from propylon.proxy.route import Authenticate
from propylon.wire.message import Request

__all__ = ["ClaimHeaders"]

# Principals whose lines are kept: as many as the verifier keeps tokens.
_MAX_KEPT = 10_000

# As in `Request.vouched`.
_Lines = dict[bytes, tuple[bytes, bytes]]


class ClaimHeaders:
    """The authenticate stage of a route with `claims`: the usual stage, and then the request gets more headers."""

    __slots__ = ("_claims", "_kept", "_stage")

    def __init__(self, stage: Authenticate, claims: Iterable[tuple[str, str]]) -> None:
        """`claims` are pairs of a header's name and the dotted path of a claim."""
        self._stage = stage
        self._claims = tuple(
            (header.lower().encode("ascii"), header.encode("ascii"), path)
            for header, path in claims
        )
        # The verifier returns the same object for the same token, so its identity is the key.
        self._kept: dict[int, tuple[Principal, _Lines]] = {}

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the principal; `request.vouched` gets its claims. Raises what the usual stage raises."""
        principal = await self._stage(request, client)
        if principal.known and (lines := self.lines_of(principal)):
            # Another dict for each request: a policy may add to it.
            request.vouched = {**(request.vouched or {}), **lines}
        return principal

    def lines_of(self, principal: Principal) -> _Lines:
        """Return the headers that carry the principal's claims, as in `Request.vouched`; shared, so not to be changed."""
        kept = self._kept.get(id(principal))
        if kept is not None and kept[0] is principal:
            return kept[1]
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        lines = {
            plain: (name, text.encode())
            for plain, name, path in self._claims
            if (text := claim_text(claim_at(principal.claims, path)))
        }
        self._kept[id(principal)] = (principal, lines)
        return lines
