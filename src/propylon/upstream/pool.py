"""Keep connections to one instance alive, and decide synchronously which one is used next.

Last in, first out: the connection used last is the least likely to have been closed meanwhile, and
the others can grow old and go. Deciding costs O(1) whatever the number of connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

from propylon.errors import GatewayError, UpstreamBusy
from propylon.loop.outbox import Outbox
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER, Ticker
from propylon.names.addresses import AddressFilter, parse_address
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.connection import Connection
from propylon.upstream.dial import Address, Dialer
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.upstream.strays import StrayCheck

__all__ = ["IDEMPOTENT", "Address", "Pool"]

# RFC 9110, 9.2.2. Sending one of these twice is the same as sending it once.
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})

# nginx keeps idle upstream connections for 60 s.
_IDLE_LIMIT = 60.0
# Uvicorn and Node close idle connections after 5 s, Gunicorn after 2 s. A request that must not be
# sent twice goes over a connection only if it was in use a moment ago, else over a new one.
_FRESH = 1.0


class _Place(Signal[Connection]):
    """A place in the queue for a connection, given up after a while."""

    __slots__ = ("deadline", "given")

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline
        self.given: Connection | None = None

    def give(self, connection: Connection) -> None:
        """Hand over a connection."""
        self.given = connection
        self.set(connection)

    def expire(self) -> None:
        msg = "All connections to the upstream are in use"
        self.fail(UpstreamBusy(msg, reason="max_connections"))


class Pool:
    """The connections to one instance: at most `limit`, idle ones reused, the rest queue."""

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
        """Start empty; nothing is connected before it is needed, nor to where `permit` forbids."""
        self._dialer = Dialer(loop, names, permit)
        self._outbox = outbox
        self.address = address
        self.limit = limit
        self._ticker = ticker
        self._loop = loop
        self._connections: set[Connection] = set()
        self._connecting = 0
        self._idle: list[Connection] = []
        self._queue: deque[_Place] = deque()
        self._closing = False
        # In use, but the name leads elsewhere by now: none of them is used again.
        self._strays: set[Connection] = set()
        self._stray_check = StrayCheck(self._close_strays, ticker, loop)

    def __repr__(self) -> str:
        """Tell how full it is, for logs and tests."""
        return (
            f"<Pool {self.address.host}:{self.address.port}"
            f" open={self.open} idle={len(self._idle)} queued={len(self._queue)}>"
        )

    @property
    def open(self) -> int:
        """How many connections there are, those that are coming about included."""
        return len(self._connections) + self._connecting

    @property
    def busy(self) -> int:
        """How many exchanges the instance has in hand, those that queue included."""
        return self.open - len(self._idle) + len(self._queue)

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Ask the instance; see `Upstream.send`."""
        connection = self._take(outgoing.method)
        if connection is not None:
            return connection.begin(outgoing, sink)
        return self._send_later(outgoing, sink)

    async def _send_later(self, outgoing: Outgoing, sink: Sink) -> Answer:
        connection = await self._obtain(outgoing)
        return await connection.begin(outgoing, sink)

    def close(self) -> None:
        """Close what is idle now and whatever becomes idle later."""
        self._closing = True
        for connection in list(self._idle):
            connection.abort()

    # Keeper

    def release(self, connection: Connection) -> None:
        """Take back a clean connection: hand it to the next in the queue, or keep it."""
        if self._strays and connection in self._strays:
            connection.abort()
            return
        while self._queue:
            place = self._leave_queue()
            if not place.done:
                connection.deadline = NEVER
                place.give(connection)
                return
        if self._closing:
            connection.abort()
            return
        connection.deadline = self._ticker.now + _IDLE_LIMIT
        self._idle.append(connection)

    def discard(self, connection: Connection) -> None:
        """Note that a connection is gone; somebody in the queue may open another."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._connections.discard(connection)
        self._strays.discard(connection)
        self._make_room()

    def distrust(self, since: float) -> None:
        """Close what has been idle at least as long as a connection that turned out to be dead.

        Where nobody says so (a firewall forgot them, the host was replaced), the others are dead as well.
        """
        suspect = [connection for connection in self._idle if connection.idle_since <= since]
        self._idle = [connection for connection in self._idle if connection.idle_since > since]
        for connection in suspect:
            connection.abort()

    def _make_room(self) -> None:
        """Open a connection for somebody in the queue, if there may be another.

        Closing ends no exchange: whoever is in the queue by then is still served.
        """
        if self._queue and self.open < self.limit:
            spawn(self._replace(), self._loop)

    async def _close_strays(self) -> bool:
        """Let go of what goes where the name leads no longer, when it is idle; False: nothing is left."""
        for connection in await self._dialer.find_strays(self.address.host, self._connections):
            if connection in self._idle:
                connection.abort()
            else:
                self._strays.add(connection)
        return bool(self._connections)

    # Choosing

    def _take(self, method: str) -> Connection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if method not in IDEMPOTENT and self._ticker.now - connection.idle_since > _FRESH:
                idle.append(connection)
                return None
            if connection.usable:
                return connection
        return None

    async def _obtain(self, outgoing: Outgoing) -> Connection:
        if self.open < self.limit:
            return await self._connect(outgoing)
        if self._idle:
            # At the limit with idle ones that are too old for this request: make room.
            self._idle[0].abort()
            return await self._connect(outgoing)
        return await self._wait(outgoing)

    async def _wait(self, outgoing: Outgoing) -> Connection:
        if len(self._queue) >= self.limit:
            msg = "All connections to the upstream are in use"
            raise UpstreamBusy(msg, reason="max_connections and as many waiting")
        place = _Place(min(self._loop.time() + outgoing.timeouts.connect, outgoing.deadline))
        self._ticker.watch(place)
        self._queue.append(place)
        connection = None
        try:
            connection = await place
        finally:
            self._ticker.forget(place)
            if connection is None:
                self._withdraw(place)
        return connection

    def _withdraw(self, place: _Place) -> None:
        """Leave the queue; a connection that was handed over meanwhile goes to the next."""
        if place in self._queue:
            self._queue.remove(place)
        elif place.given is not None:
            self._give_back(place.given)
        place.done = True  # whoever is still connecting for it keeps what comes

    def _give_back(self, connection: Connection) -> None:
        if connection.usable:
            self.release(connection)

    def _leave_queue(self) -> _Place:
        place = self._queue.popleft()
        self._ticker.forget(place)
        return place

    # Connecting

    async def _connect(self, outgoing: Outgoing) -> Connection:
        """Open a connection within the request's limits; never leave one behind unused."""
        left = max(0.0, outgoing.deadline - self._loop.time())
        task = self._attempt(min(outgoing.timeouts.connect, left))
        connection = None
        try:
            connection = await task
        finally:
            if connection is None:
                self._give_up(task)
        return connection

    def _attempt(self, timeout: float) -> asyncio.Task[Connection]:
        self._connecting += 1
        task = spawn(self._open(timeout), self._loop)
        # Not in the coroutine: one that is cancelled before its first step has no `finally`.
        task.add_done_callback(self._attempted)
        return task

    def _attempted(self, task: asyncio.Task[Connection]) -> None:
        self._connecting -= 1
        if task.cancelled() or task.exception() is not None:
            self._make_room()
        elif task.result().usable:
            self._connections.add(task.result())
            if parse_address(self.address.host) is None:
                self._stray_check.start()

    def _give_up(self, task: asyncio.Task[Connection]) -> None:
        if task.done() and not task.cancelled() and task.exception() is None:
            self._give_back(task.result())  # came too late for this request
        else:
            task.cancel()

    async def _replace(self) -> None:
        """Open a connection for the first in the queue."""
        if self.open >= self.limit or not self._queue:
            return
        place = self._leave_queue()
        try:
            connection = await self._attempt(max(0.0, place.deadline - self._loop.time()))
        except GatewayError as error:
            place.fail(error)
            return
        if place.done:
            self._give_back(connection)
        else:
            place.give(connection)

    async def _open(self, timeout: float) -> Connection:  # noqa: ASYNC109 — the dialer's business
        def make() -> Connection:
            return Connection(self, self._ticker, self._outbox)

        return await self._dialer.open(self.address, make, timeout)
