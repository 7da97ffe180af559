"""Open a connection to an instance: resolve its name, check the addresses, connect to one of them.

Facts. An attacker who owns a name can have it resolve to a permitted address when it is checked, and to 169.254.169.254
when it is connected to (DNS rebinding).

Strategy. The name is resolved once. Its addresses are checked, and exactly these are connected to, by address. They are
tried one after the other, and not in parallel as by Happy Eyeballs (RFC 8305): upstreams would see connections that are
reset unused.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from propylon.errors import ConnectFailed, ConnectTimeout
from propylon.names.addresses import AddressFilter, parse_address
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.connection import Connection

__all__ = ["Address", "Dialer"]

C = TypeVar("C", bound=Connection)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance listens; `tls` verifies its certificate, for https.

    `name` is the name that its certificate must have, if that is not `host`: an instance that is one of several addresses
    of a name has the certificate of the name.
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
    """Opens the connections of one pool."""

    __slots__ = ("_loop", "_names", "_peers", "_permit")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        names: Names = SYSTEM,
        permit: AddressFilter | None = None,
    ) -> None:
        """Resolve hosts by `names`, and connect only to addresses that `permit` admits.

        Without `permit`, every address is admitted: the operator wrote the host down.
        """
        self._loop = loop
        self._names = names
        self._permit = permit
        # By connection, the address that it was opened to. Weak: a connection outlives its pool's
        # interest in it by a turn of the loop, and must not stay because of this.
        self._peers: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()

    async def open(
        self,
        address: Address,
        make: Callable[[], C],
        timeout: float,  # noqa: ASYNC109 — translated here
    ) -> C:
        """Return an open connection, which `make` creates, within `timeout` seconds, the name lookup included.

        Raises ConnectFailed or ConnectTimeout, and closes what it has opened.
        """
        found: Sequence[str] = ()
        try:
            # One timeout for the lookup and all attempts: a client waits for their sum.
            async with asyncio.timeout(timeout):
                found = await self._candidates(address.host)
                return await self._open(found, address, make)
        except TimeoutError as error:
            raise self._too_late(address.host, found, error) from error
        except OSError as error:
            # The host may have moved: the next attempt looks the name up again.
            self._names.mark_stale(address.host)
            msg = "No connection to the upstream"
            raise ConnectFailed(msg, reason=str(error)) from error

    async def find_strays(self, host: str, connections: Collection[Connection]) -> list[Connection]:
        """Return those of the connections whose address is no longer among those of the name."""
        try:
            found = await self._names.addresses(host)
        except ConnectFailed:
            return []  # a name server that does not answer says nothing about the upstream
        return [
            connection for connection in connections if self._peers.get(connection) not in found
        ]

    def _too_late(self, host: str, found: Sequence[str], error: TimeoutError) -> ConnectTimeout:
        msg = "No connection to the upstream in time"
        # Before there were addresses, the name server was slow, not the upstream: nothing is stale.
        if not found:
            return ConnectTimeout(msg, reason=f"name lookup of {host}: it has not ended")
        self._names.mark_stale(host)
        return ConnectTimeout(msg, reason=str(error) or f"connecting to {', '.join(found)}")

    async def _open(self, hosts: Sequence[str], address: Address, make: Callable[[], C]) -> C:
        """Try the addresses in their order. Raises OSError, with the reason for each of them."""
        failures: list[OSError] = []
        reasons: list[str] = []
        for host in hosts:
            try:
                return await self._connect(host, address, make())
            except OSError as error:
                failures.append(error)
                reasons.append(f"{host}: {error}")
        # The system's own connect timeout may be shorter than ours. It raises ETIMEDOUT, which is a
        # timeout to clients, too.
        late = all(isinstance(failure, TimeoutError) for failure in failures)
        raise (TimeoutError if late else OSError)("; ".join(reasons))

    async def _candidates(self, host: str) -> Sequence[str]:
        """Return the addresses to try, in order. Raises ConnectFailed if there are none, or none that is admitted."""
        # RFC 3986, 3.2.2: an address is not a name. A resolver may still look it up, and answer.
        literal = parse_address(host) is not None
        found = [host] if literal else await self._names.addresses(host)
        permit = self._permit
        if permit is None:
            return found
        # All addresses that are not admitted are dropped, and not only the first one checked: a
        # name with a public and an internal address is how a list is passed.
        allowed = [address for address in found if permit(address)]
        if not allowed:
            msg = "The upstream's address is not one that may be asked"
            raise ConnectFailed(msg, reason=f"{host} is {', '.join(found)}")
        return allowed

    async def _connect(self, host: str, address: Address, connection: C) -> C:
        # RFC 6066, 3, and RFC 9110, 4.3.4: SNI and the certificate are for the name in the URL,
        # though the connection is to an address.
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
                # When it is cancelled at the last moment, uvloop closes the socket without calling
                # `connection_lost`.
                connection.abort()
        return connection
