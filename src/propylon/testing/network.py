"""Lead connections to what stands in for services, and look up no name.

Strategy. The gateway's pools, breakers, retries and probes stay as they are. Only what opens a connection is exchanged:
it finds what stands in by host and port, and connects both ends in memory. There is no TLS on such a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar
from unittest import mock

from propylon.assembly import running
from propylon.errors import ConnectFailed
from propylon.names.resolve import LookupResult, SrvTarget
from propylon.testing import pipe
from propylon.testing.upstream import Upstream
from propylon.upstream import pool
from propylon.upstream.connection import Connection
from propylon.upstream.dial import Address

__all__ = ["Network", "Place"]

C = TypeVar("C", bound=Connection)
# Host and port; of a Unix socket, its path and 0.
Place = tuple[str, int]
# RFC 5737: an address that nobody has. A name has one, so that it is one instance.
_ADDRESS = "192.0.2.10"
_TTL = 7 * 86400.0


class Network:
    """What listens where."""

    def __init__(self) -> None:
        self._listening: dict[Place, Upstream] = {}

    def listen(self, place: Place, upstream: Upstream) -> Upstream:
        """Return what listens there: `upstream`, if nothing did."""
        return self._listening.setdefault(place, upstream)

    def find(self, address: Address) -> Upstream | None:
        """Return what listens at an address."""
        return self._listening.get(
            (address.path, 0) if address.path else (address.host, address.port)
        )

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Have gateways that start meanwhile connect here."""

        def dialer(loop: asyncio.AbstractEventLoop, *_: object) -> _Dialer:
            return _Dialer(loop, self)

        with (
            mock.patch.object(pool, "Dialer", dialer),
            mock.patch.object(running, "Lookup", _Names),
        ):
            yield


class _Names:
    """Name servers that know each name."""

    async def addresses(self, name: str) -> LookupResult[str]:  # noqa: ARG002 — of the port
        """Return one address for any name."""
        return LookupResult((_ADDRESS,), _TTL)

    async def targets(self, name: str) -> LookupResult[SrvTarget]:  # noqa: ARG002 — of the port
        """Return nothing; such services are refused before."""
        return LookupResult((), _TTL)


class _Dialer:
    """Opens the connections of one pool, in memory; what a pool needs of `propylon.upstream.dial.Dialer`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, network: Network) -> None:
        self._loop = loop
        self._network = network

    async def open(
        self,
        address: Address,
        make: Callable[[], C],
        timeout: float,  # noqa: ASYNC109, ARG002 — it takes no time
        header: bytes = b"",  # noqa: ARG002 — a header of the PROXY protocol: an ASGI app has no use for it
    ) -> C:
        """Return an open connection. Raises ConnectFailed."""
        upstream = self._network.find(address)
        if upstream is None or upstream.refuses():
            msg = "No connection to the upstream"
            raise ConnectFailed(msg, reason=f"{address.authority}: Connection refused")
        connection = make()
        upstream.accepted(
            pipe.connect(self._loop, connection, upstream.server(self._loop), "192.0.2.254")
        )
        return connection

    async def find_strays(self, _: str, __: Collection[Connection]) -> list[Connection]:
        """Return none: no name ever resolves to another address."""
        return []
