"""Bound how many connections clients have: all of them together, and each client.

Facts. Each connection takes a descriptor, and each request in flight a second one. Without a bound, clients that only
connect can take all of them, and the gateway can reach no service.

Strategy. A connection that is one too many is answered 503 when its first bytes come, so that its client can read why.
Meanwhile it takes a descriptor, too. So there are few of these at a time, and what comes beyond them is closed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from propylon.errors import TooManyConnections
from propylon.names.addresses import subnet
from propylon.proxy.exchange import Origin

__all__ = ["Crowd", "TurnedAway"]

# Connections that are being turned away at a time. An attacker that opens more gets no answer; the answer is for clients
# that come in a busy moment.
_MAX_TURNED_AWAY = 256


class Crowd:
    """The connections of the clients of one listener. Under an ASGI server: their requests in flight."""

    __slots__ = ("_by_client", "_turned_away", "most", "most_per_client", "open")

    def __init__(self, most: int | None = None, most_per_client: int | None = None) -> None:
        """Admit `most` connections, and `most_per_client` of each client; None: as many as come."""
        self.most = most
        self.most_per_client = most_per_client
        self.open = 0
        self._turned_away = 0
        # Counted without a limit, too, so that a reload can set one. Bounded by the number of connections.
        self._by_client: Counter[str] = Counter()

    def enter(self, origin: Origin) -> TooManyConnections | None:
        """Count a connection; return the error for one that is too many. Each `enter` is followed by one `leave`."""
        client = _client(origin)
        reason = ""
        if self.most is not None and self.open >= self.most:
            reason = "server.max_connections"
        elif self.most_per_client is not None and self._by_client[client] >= self.most_per_client:
            reason = "server.max_connections_per_client" if client else ""
        if reason:
            self._turned_away += 1
            return TooManyConnections("The gateway has too many connections", reason=reason)
        self.open += 1
        if client:
            self._by_client[client] += 1
        return None

    def leave(self, origin: Origin, refused: TooManyConnections | None) -> None:
        """Forget a connection that has ended; `refused` is what `enter` returned for it."""
        if refused is not None:
            self._turned_away -= 1
            return
        self.open -= 1
        if client := _client(origin):
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    @property
    def is_overrun(self) -> bool:
        """Whether so many are being turned away that the next one gets no answer."""
        return self._turned_away > _MAX_TURNED_AWAY


def _client(origin: Origin) -> str:
    """Return what stands for the client; empty for a trusted proxy, which brings many, and for a Unix socket."""
    return "" if origin.trusted or not origin.peer else subnet(origin.peer)


class TurnedAway:
    """A connection that is one too many, until its first bytes come."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None]) -> None:
        """`refuse` answers and closes."""
        self._refuse = refuse

    def discard(self, data: bytes) -> None:  # noqa: ARG002 — it is not read
        """Answer the request that begins with `data`."""
        self._refuse()
