"""Keep connections to one instance alive (keep-alive), and choose one for each request.

Facts. An upstream may close an idle connection at any moment, also just as the next request is sent over it. A connection
that was in use a moment ago is the least likely to be closed.

Rules.

1. There are at most `limit` connections, those that are being opened included. A request beyond that waits in a queue
   that is as long again; one more is refused at once (503).
2. The choice is synchronous: no other request can come in between. Only opening a connection and waiting take a turn.
3. Last in, first out: the freshest connection is used, the others grow old and are closed. O(1) for any number of them.
4. A request that must not be sent twice gets a connection that was in use within the last second, or a new one. A request
   whose connection will be closed (`Outgoing.closes`) gets a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from propylon.errors import GatewayError, UpstreamBusy
from propylon.loop.line import Line, Waiter
from propylon.loop.outbox import Outbox
from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER, Ticker
from propylon.names.addresses import AddressFilter
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.connection import Connection
from propylon.upstream.dial import Address, Dialer
from propylon.upstream.handshakes import Handshakes
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.upstream.strays import StrayCheck

__all__ = ["IDEMPOTENT", "Address", "Pool", "may_carry"]

# RFC 9110, 9.2.2: sending one of these twice has the same effect as sending it once.
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})

# Seconds. nginx keeps idle upstream connections for 60 s (`keepalive_timeout`).
_IDLE_LIMIT = 60.0
# Seconds. Uvicorn and Node close idle connections after 5 s, Gunicorn after 2 s. A POST that is
# sent as the upstream closes has failed, and the gateway cannot know whether it was handled (RFC
# 9112, 9.3.1).
_FRESH = 1.0


class _Waiter(Waiter[Connection]):
    """A request in the queue for a connection."""

    __slots__ = ("connection", "header")

    def __init__(self, deadline: float, header: bytes) -> None:
        super().__init__(deadline)
        self.header = header  # what a connection for it begins with
        # What was handed over: the request may give up before it resumes, and the connection must
        # not be lost then.
        self.connection: Connection | None = None

    def hand_over(self, connection: Connection) -> None:
        """Give the request its connection."""
        self.connection = connection
        self.set(connection)

    def expire(self) -> None:
        msg = "All connections to the upstream are in use"
        self.fail(UpstreamBusy(msg, reason="max_connections"))


class Pool:
    """The connections to one instance, and the queue of the requests that wait for one."""

    def __init__(
        self,
        address: Address,
        *,
        limit: int,
        ticker: Ticker,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
        names: Names = SYSTEM,
        permit: AddressFilter | None = None,
    ) -> None:
        """Start without a connection: the first request opens one.

        `limit` is the most connections (`max_connections`); `names` resolves the host; `permit` admits addresses.
        """
        self._dialer = Dialer(loop, names, permit)
        self._handshakes = Handshakes(address, self._dialer, ticker, outbox)
        self._outbox = outbox
        self.address = address
        self.limit = limit
        self._ticker = ticker
        self._loop = loop
        self._connections: set[Connection] = set()
        self._connecting = 0
        self._idle: list[Connection] = []  # the freshest last
        self._queue: Line[_Waiter] = Line(ticker)
        self._closing = False
        # In use, though the name resolves to other addresses now: closed when their exchange ends.
        self._strays: set[Connection] = set()
        self._stray_check = StrayCheck(self._close_strays, ticker, loop)

    def __repr__(self) -> str:
        """Show how many connections are open and idle, and how many requests queue, for logs and tests."""
        return (
            f"<Pool {self.address.host}:{self.address.port}"
            f" open={self.open} idle={len(self._idle)} queued={len(self._queue.waiters)}>"
        )

    @property
    def open(self) -> int:
        """How many connections there are, those that are being opened included."""
        return len(self._connections) + self._connecting

    @property
    def idle(self) -> int:
        """How many connections are open and kept for the next request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._queue.waiters)

    @property
    def busy(self) -> int:
        """How many exchanges and tunnels are under way, those in the queue included; `least_connections` compares it."""
        return self.open - len(self._idle) + len(self._queue.waiters) + self._handshakes.busy

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Send a request to the instance; see `Upstream.send`."""
        if outgoing.handshake is not None:
            return self._handshakes.send(outgoing, sink)
        # No coroutine where a connection is idle: that is the hot path. A request that closes its
        # connection gets a new one: a client that sends many must not use up what the others share.
        connection = None if outgoing.closes else self._take_idle(outgoing.method)
        if connection is not None:
            return connection.begin(outgoing, sink)
        return self._send_later(outgoing, sink)

    async def _send_later(self, outgoing: Outgoing, sink: Sink) -> Answer:
        connection = await self._acquire(outgoing)
        return await connection.begin(outgoing, sink)

    async def reach(
        self,
        timeout: float,  # noqa: ASYNC109 — the dialer's business
    ) -> None:
        """Open a connection beside the others and close it; see `Reachable.reach`."""
        connection = await self._open(timeout, b"")
        connection.abort()

    def close(self) -> None:
        """Close idle connections now, and the others when their exchange ends; requests may still be sent."""
        self._closing = True
        for connection in list(self._idle):
            connection.abort()

    # Owner

    def release(self, connection: Connection) -> None:
        """Take back a clean connection: hand it to the first request in the queue, or keep it idle."""
        # First come, first served: a newer request would be lucky, and the oldest would time out.
        if self._strays and connection in self._strays:
            connection.abort()
            return
        if self._queue.waiters and not connection.reusable:
            connection.abort()  # the queue gets another one in its place
            return
        while self._queue.waiters:
            waiter = self._queue.pop()
            if not waiter.done:
                connection.deadline = NEVER
                waiter.hand_over(connection)
                return
        if self._closing:
            connection.abort()
            return
        connection.deadline = self._ticker.now + _IDLE_LIMIT
        self._idle.append(connection)

    def discard(self, connection: Connection) -> None:
        """Drop a closed connection; the first request in the queue may open another in its place."""
        # A search through the list, but only for connections that were closed while they were idle.
        if connection in self._idle:
            self._idle.remove(connection)
        self._connections.discard(connection)
        self._strays.discard(connection)
        self._connect_for_queue()

    def close_idle_since(self, since: float) -> None:
        """Close the connections that have been idle as long as one that turned out to be dead, or longer."""
        # A firewall that forgets idle connections, or a host that was replaced, sends no FIN: the
        # others are dead, too, and each would cost one request its first attempt.
        suspect = [connection for connection in self._idle if connection.idle_since <= since]
        self._idle = [connection for connection in self._idle if connection.idle_since > since]
        for connection in suspect:
            connection.abort()

    def _connect_for_queue(self) -> None:
        """Open a connection for the first request in the queue, if the limit allows another one."""
        # A closed pool does so, too: a reload must not fail the requests that were in its queue.
        if self._queue.waiters and self.open < self.limit:
            spawn(self._connect_for_waiter(), self._loop)

    async def _close_strays(self) -> bool:
        """Close connections whose name now resolves elsewhere, if need be later; return False if none is open."""
        # One that is in use finishes its exchange: the old host is leaving, it is not gone.
        for connection in await self._dialer.find_strays(self.address.host, self._connections):
            if connection in self._idle:
                connection.abort()
            else:
                self._strays.add(connection)
        return bool(self._connections)

    # Choosing

    def _take_idle(self, method: str) -> Connection | None:
        """Return an idle connection that is good for this method, or None."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if method not in IDEMPOTENT and self._ticker.now - connection.idle_since > _FRESH:
                # The freshest is too old, so all are. They stay for requests that may be repeated.
                idle.append(connection)
                return None
            if connection.reusable:
                return connection
            connection.abort()
        return None

    async def _acquire(self, outgoing: Outgoing) -> Connection:
        """Return a new connection, or wait for one. Raises ConnectFailed, ConnectTimeout, UpstreamBusy."""
        if self.open < self.limit:
            return await self._connect(outgoing)
        if self._idle:
            # All connections are open, and the idle ones are too old for this request, or it needs
            # one of its own. The oldest makes room.
            self._idle[0].abort()
            return await self._connect(outgoing)
        return await self._wait_in_queue(outgoing)

    async def _wait_in_queue(self, outgoing: Outgoing) -> Connection:
        # Envoy's defaults: 1024 connections and as many pending requests. A longer queue helps no
        # client: with all connections in use, the last request in it would time out.
        if len(self._queue.waiters) >= self.limit:
            msg = "All connections to the upstream are in use"
            raise UpstreamBusy(msg, reason="max_connections and as many waiting")
        until = min(self._loop.time() + outgoing.timeouts.connect, outgoing.deadline)
        waiter = _Waiter(until, outgoing.header)
        self._queue.join(waiter)
        connection = None
        try:
            connection = await waiter
        finally:
            if connection is None:
                self._withdraw(waiter)
        return connection

    def _withdraw(self, waiter: _Waiter) -> None:
        """Take a request that gave up out of the queue; pass on a connection that was handed to it already."""
        if not self._queue.leave(waiter) and waiter.connection is not None:
            self._release_unused(waiter.connection)
        # `_connect_for_waiter` may be opening a connection for it, and must see that it has left.
        waiter.done = True

    def _release_unused(self, connection: Connection) -> None:
        if connection.usable:
            self.release(connection)

    # Connecting

    async def _connect(self, outgoing: Outgoing) -> Connection:
        """Open a connection within the request's timeouts; one that comes too late for it stays in the pool."""
        # In a task: when the request gives up in the very turn in which the connection is open, the
        # connection must not be lost, nor counted twice.
        left = max(0.0, outgoing.deadline - self._loop.time())
        task = self._start_connecting(min(outgoing.timeouts.connect, left), outgoing.header)
        connection = None
        try:
            connection = await task
        finally:
            if connection is None:
                self._abandon_connecting(task)
        return connection

    def _start_connecting(self, timeout: float, header: bytes) -> asyncio.Task[Connection]:
        """Open a connection in a task, and count it from now on."""
        self._connecting += 1
        task = spawn(self._open(timeout, header), self._loop)
        # Counted down here and not in the coroutine: one that is cancelled before its first step
        # runs no `finally`.
        task.add_done_callback(self._connecting_ended)
        return task

    def _connecting_ended(self, task: asyncio.Task[Connection]) -> None:
        self._connecting -= 1
        if task.cancelled() or task.exception() is not None:
            self._connect_for_queue()
        elif task.result().usable:
            self._connections.add(task.result())
            # An address in the configuration cannot resolve to another one.
            if self.address.is_named:
                self._stray_check.start()

    def _abandon_connecting(self, task: asyncio.Task[Connection]) -> None:
        if task.done() and not task.cancelled() and task.exception() is None:
            self._release_unused(task.result())  # it was opened too late for this request
        else:
            task.cancel()

    async def _connect_for_waiter(self) -> None:
        """Open a connection, and hand it to the request that is first in the queue now."""
        if self.open >= self.limit or not self._queue.waiters:
            return
        waiter = self._queue.pop()
        try:
            left = max(0.0, waiter.deadline - self._loop.time())
            connection = await self._start_connecting(left, waiter.header)
        except GatewayError as error:
            waiter.fail(error)
            return
        if waiter.done:
            self._release_unused(connection)
        else:
            waiter.hand_over(connection)

    async def _open(
        self,
        timeout: float,  # noqa: ASYNC109 — the dialer's business
        header: bytes,
    ) -> Connection:
        def make() -> Connection:
            connection = Connection(self, self._ticker, self._outbox)
            connection.header = header
            return connection

        return await self._dialer.open(self.address, make, timeout, header)


def may_carry(connection: Connection, method: str, now: float) -> bool:
    """Whether an idle connection is good for a request with this method (rule 4)."""
    fresh = method in IDEMPOTENT or now - connection.idle_since <= _FRESH
    return fresh and connection.usable
