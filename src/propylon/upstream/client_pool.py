"""Keep the connections to an instance that asks for the PROXY protocol: each belongs to one client.

Facts. The header at the beginning of a connection names the client of all requests on it. A request of another client on
the same connection would be logged, limited and let in as the first client's.

Strategy. As HAProxy and Envoy do, a connection carries the requests of one client connection only: those for which the
header would be the same, byte for byte. It stays open between them. All clients share one limit (Envoy had a pool for
each client, without a bound: its issue 16682), and an idle connection makes room when a new client comes.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from propylon.upstream.connection import Connection
from propylon.upstream.pool import Pool, may_carry
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.proxy_header import local_header

__all__ = ["ClientPool"]

# Seconds. Only one client can use it again, and most clients do so soon or never. Uvicorn and Node keep an idle connection
# as long.
_IDLE_LIMIT = 5.0


class ClientPool(Pool):
    """A pool whose connections are shared by no two clients."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Start without a connection; the arguments are those of `Pool`."""
        super().__init__(*arguments, **options)
        # By header, the idle connection that was used last: O(1) for any number of clients. A client that sends several
        # requests at a time has more of them; those grow old.
        self._own: dict[bytes, Connection] = {}
        # A health check carries no client's request, and has to begin with a header all the same.
        self._local = b"" if self.address.proxy is None else local_header(self.address.proxy)

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Send a request to the instance, over a connection of its client; see `Upstream.send`."""
        outgoing.header = outgoing.header or self._local
        connection = self._take_own(outgoing)
        if connection is not None:
            return connection.begin(outgoing, sink)
        return self._send_later(outgoing, sink)

    def _take_own(self, outgoing: Outgoing) -> Connection | None:
        connection = self._own.get(outgoing.header)
        if connection is None or not may_carry(connection, outgoing.method, self._ticker.now):
            return None
        del self._own[outgoing.header]
        self._idle.remove(connection)
        return connection

    async def _open(
        self,
        timeout: float,  # noqa: ASYNC109 — as in `Pool`
        header: bytes,
    ) -> Connection:
        return await super()._open(timeout, header or self._local)

    # Owner

    def release(self, connection: Connection) -> None:
        """Take back a clean connection, and keep it for its client; close it if a request waits in the queue."""
        # The first in the queue is another client, as a rule. `discard` opens a connection for it.
        if self._queue.waiters:
            connection.abort()
            return
        super().release(connection)
        if connection.usable:
            connection.deadline = self._ticker.now + _IDLE_LIMIT
            self._own[connection.header] = connection

    def discard(self, connection: Connection) -> None:
        """Drop a closed connection; the first request in the queue may open another in its place."""
        if self._own.get(connection.header) is connection:
            del self._own[connection.header]
        super().discard(connection)
