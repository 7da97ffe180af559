"""AUTHENTICATE: take the token of a handshake from a header, a subprotocol or the query.

Facts. A page's JavaScript cannot set headers of a WebSocket handshake: it can choose the URL and the subprotocols. So tokens
come as the subprotocol `bearer.<token>`, or as `?token=`. Both end up in logs where they pass unnoticed.

Rules.

1. The token of a subprotocol or of the query is taken out of the request before any other stage sees it: it reaches the
   service in no form, not as Authorization either. The service gets the identity headers.
2. `bearer.<token>` is never the subprotocol that is chosen, unless it is the only one that was offered: browsers close the
   socket if none of those that they have offered is chosen.
3. The first place that holds a token counts: those of `auth.from`, then the subprotocol, then the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from propylon.proxy.authenticate import unverifiable
from propylon.proxy.authenticate.carriers import Authorization, Carrier
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.authenticate.verify import Verifier, digest
from propylon.proxy.challenge import invalid, missing
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.route import Authenticate
from propylon.wire.grammar import BEARER
from propylon.wire.message import Request
from propylon.wire.offer import Handshake

__all__ = ["SOCKET", "SocketTokens", "TokenLease", "unverifiable_if_offered"]

# The stages of handshakes stand under this and the value of `auth`, beside those of requests.
SOCKET = "socket "
_PREFIX = b"bearer."
_PARAMETER = b"token"


@dataclass(frozen=True, slots=True)
class TokenLease:
    """What a socket is open by (`wire.offer.Lease`): a verified token."""

    verified: Verified
    token: bytes = field(repr=False)
    client: str
    verifier: Verifier

    @property
    def revocations(self) -> Revocations:
        """The list that may come to hold the token."""
        return self.verifier.revocations

    def left(self) -> float:
        """Return the seconds until the token expires."""
        return self.verified.expires - self.verifier.clock()

    def revoked(self) -> bool:
        """Tell whether the token was revoked. Raises ServiceUnavailable while the list is not known."""
        return self.revocations.revoked(self.verified, lambda: digest(self.token))

    @property
    def renewed_every(self) -> float:
        """How often the issuer of an opaque token is asked again; NEVER for a signed token."""
        return self.verifier.renewed_every(self.token)

    async def renew(self) -> None:
        """Ask again whether the token is good. Raises AuthError if it is not, ServiceUnavailable and RateLimited."""
        await self.verifier.verify(self.token, self.client)


class SocketTokens:
    """The authenticate stage of handshakes, with `auth: required` or `optional`."""

    __slots__ = ("_carriers", "_required", "_verifier")

    def __init__(self, verifier: Verifier, carriers: Sequence[Carrier], *, required: bool) -> None:
        """`carriers` are the places of `auth.from`; empty: the header Authorization alone."""
        self._verifier = verifier
        self._carriers = tuple(carriers) or (Authorization(),)
        self._required = required

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the principal of the handshake, and keep what its socket is open by. Raises what the verifier raises."""
        handshake = request.handshake
        if handshake is None:  # no route asks this stage about another request
            raise missing()
        token = handshake.token or find_token(request, handshake, self._carriers)
        if not token:
            if self._required:
                raise missing()
            return ANONYMOUS
        handshake.token = token
        verified = await self._verifier.verify(token, client)
        handshake.lease = TokenLease(verified, token, client, self._verifier)
        return verified.principal


def find_token(request: Request, handshake: Handshake, carriers: Sequence[Carrier]) -> bytes:
    """Return the token of a handshake, empty if it has none; take it out of subprotocols and query (rule 1).

    Raises AuthError for two tokens in the same place, and for one that is malformed.
    """
    offered, asked = _from_protocols(request, handshake), _from_query(request)
    for carrier in carriers:
        if (token := carrier.find(request)) is not None:
            return token
    for tokens in (offered, asked):
        if tokens:
            return _only(tokens)
    return b""


def _only(tokens: list[bytes]) -> bytes:
    match = BEARER.fullmatch(b"Bearer " + tokens[0])
    if len(tokens) != 1 or match is None:
        raise invalid(reason="not one bearer token in the subprotocols or in the query")
    return match[1]


def _from_protocols(request: Request, handshake: Handshake) -> list[bytes]:
    bearers = [name for name in handshake.protocols if name[: len(_PREFIX)].lower() == _PREFIX]
    if not bearers:
        return []
    others = tuple(name for name in handshake.protocols if name not in bearers)
    request.block = handshake.offer_protocols(request.block, others)
    if not others and len(bearers) == 1:
        handshake.chosen = bearers[0]
    return [name[len(_PREFIX) :] for name in bearers]


def _from_query(request: Request) -> list[bytes]:
    """Return the values of `token`; the other parameters stay byte for byte."""
    if _PARAMETER not in unquote_to_bytes(request.query):
        return []
    parameters = request.query[1:].split(b"&")
    kept = [one for one in parameters if not _is_token(one)]
    found = [unquote_to_bytes(one.partition(b"=")[2]) for one in parameters if _is_token(one)]
    request.query = b"?" + b"&".join(kept) if kept else b""
    method, _, version = request.line.split(b" ")
    request.line = b"%b %b%b %b" % (method, request.path, request.query, version)
    return [token for token in found if token]


def _is_token(parameter: bytes) -> bool:
    return unquote_to_bytes(parameter.partition(b"=")[0]) == _PARAMETER


def unverifiable_if_offered(carriers: Sequence[Carrier]) -> Authenticate:
    """Return the stage of `auth: optional` where there is nothing to verify with: a handshake with a token is 503."""
    places = tuple(carriers) or (Authorization(),)

    async def authenticate(request: Request, client: str = "") -> Principal:
        handshake = request.handshake
        if handshake is not None and find_token(request, handshake, places):
            return await unverifiable(request, client)
        return ANONYMOUS

    return authenticate
