"""End open sockets in time: by silence, by age, with their tokens, after a reload, and in a stop.

Facts. A socket may be open for days. What admitted it may end meanwhile: the token expires or is revoked, a reload takes the
route away or asks for another scope.

Strategy. All sockets of a worker are in one set. Each has one deadline, which the ticker watches; what it is for is found out
when it has passed. Revocations are looked at only when the list has changed. After a reload a socket whose route is the very
same object is left alone, which is nearly all of them; another one is authenticated and authorized again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from propylon.edge.splice import GOING_AWAY, POLICY
from propylon.errors import AuthError, GatewayError, ServiceUnavailable
from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER, Ticker
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.route import Route, SocketRules
from propylon.proxy.upgrade import check_origin
from propylon.wire.message import Request
from propylon.wire.offer import Revised

__all__ = ["OpenSocket", "OpenSockets", "Tunnel"]

log = logging.getLogger(__name__)

# A silence is noticed with so many looks: after `idle`, and at the most a quarter of it later.
_LOOKS = 4
# Seconds between two looks at whether revocations have come. A revocation holds within a second everywhere.
_SWEEP = 0.25
# Seconds over which the sockets are closed in a stop, if it may take so long. All clients at once would connect again at
# once.
_SPREAD = 1.0
# Sockets that are looked at before the loop gets a turn: a millisecond.
_SLICE = 256


class Tunnel(Protocol):
    """A socket as the edge carries it."""

    def activity(self) -> tuple[int, int]:
        """Return two numbers that change while both sides read or send."""

    def close(self, code: int, reason: str) -> None:
        """Close both sides, with this code where they can be told one."""

    def ping(self, key: bytes) -> bool:
        """Send pings; return False if a side has sent nothing since the last ones."""

    def cut(self) -> None:
        """Close both connections at once."""


class OpenSocket:
    """One open socket, and the times at which it has to end."""

    __slots__ = (
        "_activity",
        "_expires",
        "_next_ping",
        "_next_renewal",
        "_oldest",
        "_silent_since",
        "_sockets",
        "deadline",
        "exchange",
        "request",
        "route",
        "tunnel",
    )

    def __init__(
        self,
        sockets: OpenSockets,
        tunnel: Tunnel,
        exchange: Exchange,
        request: Request,
        route: Route,
    ) -> None:
        """Watch `tunnel` from now on, by the rules of its route."""
        now = sockets.loop.time()
        self._sockets = sockets
        self.tunnel = tunnel
        self.exchange = exchange
        self.request = request
        self.route = route
        self._activity = (-1, -1)
        self._silent_since = now
        self._oldest = now + self.rules.max_lifetime
        self._next_ping = now + self.rules.ping
        self._next_renewal = NEVER
        self._expires = NEVER
        self.deadline = NEVER
        self.apply_lease(now)

    @property
    def rules(self) -> SocketRules:
        """The rules of its route."""
        if self.route.sockets is None:
            msg = "a route without rules for sockets has one"
            raise RuntimeError(msg)
        return self.route.sockets

    def apply_lease(self, now: float) -> None:
        """Set the time by the token, and the next deadline."""
        handshake = self.request.handshake
        lease = None if handshake is None else handshake.lease
        self._expires = self._next_renewal = NEVER
        if lease is not None and self.rules.close_on_expiry:
            self._expires = now + lease.left()
        if lease is not None:
            self._next_renewal = now + lease.renewed_every
        self._set_deadline(now)

    def _set_deadline(self, now: float) -> None:
        self.deadline = min(
            now + self.rules.idle / _LOOKS,
            self._oldest,
            self._expires,
            self._next_ping,
            self._next_renewal,
        )

    def expire(self) -> None:
        """Find out which time is over, and close; or go on."""
        now = self._sockets.loop.time()
        if now >= self._expires:
            self.close(POLICY, "token expired")
        elif now >= self._oldest:
            self.close(GOING_AWAY, "max_lifetime")
        elif self._is_silent(now):
            self.close(GOING_AWAY, "idle")
        elif now >= self._next_ping and not self._ping(now):
            self.close(GOING_AWAY, "no answer to a ping")
        else:
            if now >= self._next_renewal:
                self._next_renewal = NEVER
                spawn(self._renew())
            self._set_deadline(now)

    async def _renew(self) -> None:
        """Close it if the issuer of its opaque token says that the token is not good any more."""
        handshake = self.request.handshake
        lease = None if handshake is None else handshake.lease
        if lease is None:
            return
        try:
            await lease.renew()
        except AuthError:
            self.close(POLICY, "token not active")
            return
        except GatewayError as error:
            # An issuer that does not answer lets no one in. Those that are in stay.
            log.info("the token of an open socket is not verified again: %s", error.reason or error)
        now = self._sockets.loop.time()
        self._next_renewal = now + lease.renewed_every
        self._set_deadline(now)

    def _is_silent(self, now: float) -> bool:
        activity = self.tunnel.activity()
        if activity != self._activity:
            self._activity = activity
            self._silent_since = now
        return now - self._silent_since >= self.rules.idle

    def _ping(self, now: float) -> bool:
        self._next_ping = now + self.rules.ping
        return self.tunnel.ping(self._sockets.key())

    def close(self, code: int, reason: str) -> None:
        """Close it; the first reason counts."""
        self._sockets.forget(self)
        self.tunnel.close(code, reason)

    def check_revocation(self) -> None:
        """Close it if its token was revoked."""
        handshake = self.request.handshake
        lease = None if handshake is None else handshake.lease
        try:
            revoked = lease is not None and lease.revoked()
        except ServiceUnavailable:
            return  # the list is not known just now
        if revoked:
            self.close(POLICY, "token revoked")

    async def reconsider(self, table: Table) -> None:
        """Close it if the table, or the rules in it, would not admit its handshake any more."""
        origin, route = self.exchange.downstream.origin, self.route
        try:
            # `match` drops an offer that it does not take up.
            offer = self.request.upgrade
            found = table.match(self.request)
            taken, self.request.upgrade = self.request.upgrade, offer
            if found is route:
                return
            if found.sockets is None or not taken:
                self.close(POLICY, "route gone")
                return
            check_origin(self.request, origin, found.sockets)
            principal = await found.sockets.authenticate(self.request, origin.client)
            found.authorize(principal, self.request, origin)
        except ServiceUnavailable:
            return  # what verifies tokens is not there just now
        except GatewayError as error:
            self.close(POLICY, f"not admitted any more: {error.code}")
            return
        self.route = self.exchange.route = found
        self.apply_lease(self._sockets.loop.time())


class OpenSockets:
    """The open sockets of a worker."""

    def __init__(
        self,
        ticker: Ticker,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[int], int],
        count: Callable[[Route, int], None],
    ) -> None:
        """`chance(bits)` returns random bits; `count` is told a route and 1 or -1 when a socket opens or ends."""
        self.loop = loop
        self.deadline = NEVER  # of the next look at the revocations
        # 1001 in a stop, 1012 in a worker that another one replaces.
        self.farewell = GOING_AWAY
        self.spread = _SPREAD
        self._ticker = ticker
        self._chance = chance
        self._count = count
        self._all: dict[OpenSocket, Route] = {}
        self._revisions: dict[Revised, int] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._all)

    def key(self) -> bytes:
        """Return four random bytes, to mask a frame with (RFC 6455, 5.3)."""
        # What hides the pattern of the bytes from proxies must only be another one each time.
        return self._chance(32).to_bytes(4, "big")

    def open(self, tunnel: Tunnel, exchange: Exchange) -> OpenSocket:
        """Watch a socket from now on; it ends by `end`."""
        request, route = exchange.request, exchange.route
        if request is None or route is None:
            msg = "a socket without a handshake"
            raise RuntimeError(msg)
        socket = OpenSocket(self, tunnel, exchange, request, route)
        self._all[socket] = route
        self._count(route, 1)
        self._ticker.watch(socket)
        lease = None if request.handshake is None else request.handshake.lease
        if lease is not None:
            self._revisions.setdefault(lease.revocations, lease.revocations.revision)
            if self.deadline == NEVER:
                self.deadline = self.loop.time() + _SWEEP
                self._ticker.watch(self)
            socket.check_revocation()  # it may have come while the upstream was asked
        return socket

    def forget(self, socket: OpenSocket) -> None:
        """Watch its times no more: it is being closed."""
        self._ticker.forget(socket)

    def end(self, socket: OpenSocket) -> None:
        """Drop a socket that has ended."""
        self._ticker.forget(socket)
        route = self._all.pop(socket, None)
        if route is not None:
            self._count(route, -1)

    def expire(self) -> None:
        """Look whether tokens were revoked."""
        if not self._all:
            self._ticker.forget(self)
            self._revisions.clear()
            return
        self.deadline = self.loop.time() + _SWEEP
        changed = False
        for revocations, seen in self._revisions.items():
            revision = revocations.revision
            changed = changed or revision != seen
            self._revisions[revocations] = revision
        if changed:
            spawn(self._in_slices(OpenSocket.check_revocation))

    async def _in_slices(self, look: Callable[[OpenSocket], None]) -> None:
        for at, socket in enumerate(list(self._all)):
            look(socket)
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)

    def reconsider(self, table: Table) -> None:
        """Close the sockets that the new table does not admit; leave those of unchanged routes alone."""
        if self._all:
            spawn(self._reconsider(table), self.loop)

    async def _reconsider(self, table: Table) -> None:
        for at, socket in enumerate(list(self._all)):
            await socket.reconsider(table)
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)

    def say_goodbye(self, socket: OpenSocket) -> None:
        """Close a socket because the process stops, after a short while that differs from socket to socket."""
        pause = self.spread * self._chance(16) / 65536
        self.loop.call_later(pause, socket.close, self.farewell, "going away")
