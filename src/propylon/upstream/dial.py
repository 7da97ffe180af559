"""Open a connection to an instance: from its name to addresses, from an address to a socket.

A name is looked up once, its addresses are checked, and exactly these are connected to, by address: a name
that leads elsewhere a moment later (DNS rebinding) leads nobody find_strays.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from propylon.errors import ConnectFailed, ConnectTimeout
from propylon.names.addresses import AddressFilter, parse_address
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.connection import Connection

__all__ = ["Address", "Dialer"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance listens; `tls` is what to verify it with, for https.

    `name` is whose certificate it has to show, where that is not `host`: one of several addresses
    of a name shows the name's.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str = ""

    @property
    def authority(self) -> str:
        """`host:port`, with brackets around an IPv6 address (RFC 3986, 3.2.2)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Dialer:
    """Open connections; `names` knows addresses, `permit` says which of them may be asked."""

    __slots__ = ("_loop", "_names", "_peers", "_permit")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        names: Names = SYSTEM,
        permit: AddressFilter | None = None,
    ) -> None:
        """Without `permit`, every address may be asked: what the operator wrote down is meant."""
        self._loop = loop
        self._names = names
        self._permit = permit
        self._peers: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()

    async def open(
        self,
        address: Address,
        make: Callable[[], Connection],
        timeout: float,  # noqa: ASYNC109 — translated here
    ) -> Connection:
        """Return an open connection. Raises ConnectFailed or ConnectTimeout; nothing is left behind."""
        found: Sequence[str] = ()
        try:
            async with asyncio.timeout(timeout):
                found = await self._candidates(address.host)
                return await self._open(found, address, make)
        except TimeoutError as error:
            raise self._too_late(address.host, found, error) from error
        except OSError as error:
            self._names.mark_stale(address.host)
            msg = "No connection to the upstream"
            raise ConnectFailed(msg, reason=str(error)) from error

    async def find_strays(self, host: str, connections: Collection[Connection]) -> list[Connection]:
        """Return those of the connections that go where the name leads no longer."""
        try:
            found = await self._names.addresses(host)
        except ConnectFailed:
            return []  # who cannot be asked is not believed to be gone
        return [one for one in connections if self._peers.get(one) not in found]

    def _too_late(self, host: str, found: Sequence[str], error: TimeoutError) -> ConnectTimeout:
        msg = "No connection to the upstream in time"
        if not found:
            return ConnectTimeout(msg, reason=f"name lookup of {host}: it has not ended")
        self._names.mark_stale(host)
        return ConnectTimeout(msg, reason=str(error) or f"connecting to {', '.join(found)}")

    async def _open(
        self, hosts: Sequence[str], address: Address, make: Callable[[], Connection]
    ) -> Connection:
        """Try the addresses in their order. Raises OSError."""
        failures: list[OSError] = []
        reasons: list[str] = []
        for host in hosts:
            try:
                return await self._connect(host, address, make())
            except OSError as error:
                failures.append(error)
                reasons.append(f"{host}: {error}")
        # The system's own patience may be shorter than ours: that is a timeout, too.
        late = all(isinstance(failure, TimeoutError) for failure in failures)
        raise (TimeoutError if late else OSError)("; ".join(reasons))

    async def _candidates(self, host: str) -> Sequence[str]:
        literal = parse_address(host) is not None
        found = [host] if literal else await self._names.addresses(host)
        permit = self._permit
        if permit is None:
            return found
        allowed = [address for address in found if permit(address)]
        if not allowed:
            msg = "The upstream's address is not one that may be asked"
            raise ConnectFailed(msg, reason=f"{host} is {', '.join(found)}")
        return allowed

    async def _connect(self, host: str, address: Address, connection: Connection) -> Connection:
        name = address.name or address.host
        opened = False
        try:
            await self._loop.create_connection(
                lambda: connection,
                host,
                address.port,
                ssl=address.tls,
                server_hostname=name if address.tls else None,
            )
            self._peers[connection] = host
            opened = True
        finally:
            if not opened:
                # Cancelled at the last moment, uvloop closes the socket without telling anybody.
                connection.abort()
        return connection
