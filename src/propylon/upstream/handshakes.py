"""Ask an upstream for another protocol, and hand the connection over when it agrees.

Facts. Until the upstream has agreed, the exchange is an ordinary one: 1xx answers, time limits and the limits of a head
hold, and any other answer than 101 passes to the client with its body. After a 101 the connection carries no HTTP.

Rules.

1. A handshake gets a new connection. An idle one may be closed by the upstream just then, and it is not given back anyway.
2. The connections of open tunnels do not count in `max_connections`: they stay open for hours, and would leave no
   connection for requests. They count as busy, for `least_connections`.
3. A connection that has carried a refused handshake is closed: the client may have sent bytes of the other protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from propylon.errors import ConnectFailed
from propylon.loop.outbox import Outbox
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.loop.ticker import Ticker
from propylon.upstream.connection import Connection, Owner
from propylon.upstream.dial import Address, Dialer
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.message import Response

__all__ = ["Handshakes", "Switched"]


class Switched:
    """An upstream's 101: its head, and the connection that now carries another protocol.

    `rest` are the bytes that came behind the head. Reading is paused until `take`. The port `Answer` is filled as far as
    it makes sense: there is no body to pipe.
    """

    __slots__ = ("_lost", "_release", "_transport", "body", "head", "rest")

    def __init__(
        self,
        head: Response,
        transport: asyncio.Transport,
        rest: bytes,
        release: Callable[[], None],
    ) -> None:
        """`release` is called once, when the connection has ended."""
        self.head = head
        self.body: bytes | None = None
        self.rest = rest
        self._transport = transport
        self._release = release
        self._lost = False

    def take(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Have `protocol` receive what arrives from now on, and return the transport. Raises ConnectFailed if it is lost.

        `protocol` calls `released` when its connection is lost.
        """
        if self._lost:
            msg = "The upstream closed the connection behind its answer"
            raise ConnectFailed(msg)
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()
        return self._transport

    def released(self) -> None:
        """Give the place back: the connection has ended."""
        self._release()

    def lost(self) -> None:
        """Note that the connection ended before it was taken."""
        self._lost = True
        self._release()

    def pipe(self, sink: Sink) -> Signal[None]:  # noqa: ARG002 — the port's contract
        """Refuse: what follows a 101 is no body. Raises RuntimeError."""
        msg = "a tunnel has no body"
        raise RuntimeError(msg)

    def pause(self) -> None:
        """Do nothing: nothing is read before `take`."""

    def resume(self) -> None:
        """Do nothing: nothing is read before `take`."""

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()


class _Asking(Connection):
    """A connection that carries one handshake, and what comes of it."""

    def __init__(self, owner: Handshakes, ticker: Ticker, outbox: Outbox) -> None:
        super().__init__(owner, ticker, outbox)
        self._handshakes = owner
        self._switched: Switched | None = None

    def _switch(self, head: Response, raw: bytes, rest: bytes) -> bool:
        """Leave the connection to the other protocol. Raises BadResponse if the upstream has not agreed to the offer."""
        outgoing, answered, transport = self._outgoing, self._answered, self._transport
        if outgoing is None or outgoing.handshake is None or answered is None or transport is None:
            return False
        outgoing.handshake.check(raw)
        self._reset()
        self._transport = None
        self._ticker.forget(self)
        transport.pause_reading()
        self._switched = Switched(head, transport, rest, self._handshakes.ended)
        answered.set(self._switched)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the connection; the switched one has ended before it was taken."""
        if self._switched is not None:
            self._switched.lost()
        else:
            super().connection_lost(exc)


class Handshakes(Owner):
    """Opens a connection for each handshake with one instance, and counts the handshakes and the open tunnels."""

    def __init__(self, address: Address, dialer: Dialer, ticker: Ticker, outbox: Outbox) -> None:
        self._address = address
        self._dialer = dialer
        self._ticker = ticker
        self._outbox = outbox
        self.busy = 0

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:
        """Send the handshake; see `Upstream.send`. A 101 is a `Switched`."""
        left = max(0.0, outgoing.deadline - self._ticker.now)
        self.busy += 1
        connection = await self._open(min(outgoing.timeouts.connect, left))
        return await connection.begin(outgoing, sink)

    async def _open(self, timeout: float) -> _Asking:  # noqa: ASYNC109 — the dialer's business
        """Return a new connection. Raises ConnectFailed, ConnectTimeout."""
        task = spawn(self._dialer.open(self._address, self._make, timeout))
        connection: _Asking | None = None
        try:
            connection = await task
        finally:
            if connection is None:
                self.busy -= 1
                task.cancel()
                task.add_done_callback(_abort)
        if not connection.usable:
            self.busy -= 1
            msg = "The upstream closed the connection before it was asked"
            raise ConnectFailed(msg)
        return connection

    def _make(self) -> _Asking:
        return _Asking(self, self._ticker, self._outbox)

    def ended(self) -> None:
        """Count a connection less."""
        self.busy -= 1

    # Owner

    def release(self, connection: Connection) -> None:
        """Close the connection: the upstream has refused (rule 3)."""
        connection.abort()

    def discard(self, connection: Connection) -> None:
        """Count the closed connection less."""
        # One that was never used is counted by `_open`.
        if connection.uses:
            self.busy -= 1

    def close_idle_since(self, since: float) -> None:
        """Do nothing: no connection is idle here."""


def _abort(task: asyncio.Task[_Asking]) -> None:
    """Close the connection that was opened too late for its request."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
