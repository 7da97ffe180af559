"""Make an exchange that no client waits for: of a stale answer that is validated, of a request that outlives its client."""

from __future__ import annotations

from propylon.errors import GatewayError
from propylon.proxy.exchange import Exchange, IncomingBody, Origin
from propylon.upstream.ports import Answer, Flow
from propylon.wire.message import Request, Response
from propylon.wire.proxy_header import Ends

__all__ = ["NoClient", "unattended"]


class NoClient:
    """The `Downstream` of an exchange that no client waits for: what is sent to it is dropped."""

    def __init__(self, origin: Origin, ends: Ends, body: IncomingBody | None) -> None:
        self.origin = origin
        self.ends = ends
        self.body = body
        self.started = False
        self.closes = False
        self.bytes_out = 0

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Drop it."""

    def start(self, head: Response, block: bytes) -> None:
        """Drop it."""

    def attach(self, flow: Flow) -> None:
        """Nobody reads slowly."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def finish(self, trailers: bytes = b"") -> None:
        """Drop it."""

    def interim(self, head: Response) -> None:
        """Drop it."""

    async def upgrade(
        self,
        exchange: Exchange,  # noqa: ARG002 — the port's contract
        answer: Answer,  # noqa: ARG002 — as above
        block: bytes,  # noqa: ARG002 — as above
    ) -> None:
        """Refuse: nothing was offered. Raises RuntimeError."""
        raise RuntimeError

    def throw(self, error: GatewayError) -> None:
        """Do nothing: whoever waits for this exchange is told by the client's own."""

    def abort(self) -> None:
        """There is no connection to cut."""


def unattended(
    theirs: Exchange,
    request: Request,
    entropy: bytes,
    began: float,
    body: IncomingBody | None = None,
) -> Exchange:
    """Return an exchange for the same caller and route as `theirs`, which goes on without its client."""
    client = theirs.downstream
    exchange = Exchange(None, NoClient(client.origin, client.ends, body), entropy, began)
    exchange.request, exchange.route = request, theirs.route
    exchange.principal, exchange.privacy = theirs.principal, theirs.privacy
    return exchange
