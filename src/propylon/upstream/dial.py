"""Open a connection to an instance: resolve its name, check the addresses, connect to one of them; or to a Unix socket.

Facts. An attacker who owns a name can have it resolve to a permitted address when it is checked, and to 169.254.169.254
when it is connected to (DNS rebinding).

Strategy. The name is resolved once. Its addresses are checked, and exactly these are connected to, by address. They are
tried one after the other, and not in parallel as by Happy Eyeballs (RFC 8305): upstreams would see connections that are
reset unused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from propylon.errors import CertificateRejected, ConnectFailed, ConnectTimeout, LocalFault
from propylon.names.addresses import AddressFilter, parse_address
from propylon.names.exhausted import Faults, is_local
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.connection import Connection
from propylon.upstream.tls import tls_failure
from propylon.wire.proxy_header import ProxyVersion

__all__ = ["Address", "Dialer"]

# One for the process: a lack of descriptors is the process's, and is logged once.
_faults = Faults()
# Seconds until a Unix socket is connected to again whose queue is full. TCP does that by itself, first after a second.
_QUEUE_FULL_PAUSE = 0.01
C = TypeVar("C", bound=Connection)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance listens; `tls` verifies its certificate, for https.

    `name` is the name that its certificate must have, if that is not `host`: an instance that is one of several addresses
    of a name has the certificate of the name. `path` is a Unix socket, which is connected to instead of `host` and
    `port`. With `proxy`, each connection begins with a header of the PROXY protocol, and carries the requests of one
    client only.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str = ""
    path: str = ""
    proxy: ProxyVersion | None = None

    @property
    def authority(self) -> str:
        """`host:port`, with brackets around an IPv6 address (RFC 3986, 3.2.2); `unix:/path` of a Unix socket."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_named(self) -> bool:
        """Whether connections follow a name, which may resolve to other addresses later."""
        return not self.path and parse_address(self.host) is None


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
        header: bytes = b"",
    ) -> C:
        """Return an open connection, which `make` creates, within `timeout` seconds, the name lookup included.

        `header` is sent first, before TLS begins. Raises ConnectFailed, ConnectTimeout, CertificateRejected or LocalFault, and
        closes what it has opened.
        """
        found: Sequence[str] = ()
        try:
            # One timeout for the lookup and all attempts: a client waits for their sum.
            async with asyncio.timeout(timeout):
                found = (
                    [address.authority] if address.path else await self._candidates(address.host)
                )
                return await self._open(found, address, make, header)
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
        except (ConnectFailed, LocalFault):
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

    async def _open(
        self,
        hosts: Sequence[str],
        address: Address,
        make: Callable[[], C],
        header: bytes,
    ) -> C:
        """Try the addresses in their order. Raises OSError, with the reason for each of them.

        Raises CertificateRejected and LocalFault, too.
        """
        failures: list[OSError] = []
        reasons: list[str] = []
        for host in hosts:
            try:
                return await self._connect(host, address, make(), header)
            except ssl.SSLCertVerificationError as error:
                # Not at the next address either: a name of which one address is an impostor's is not to be trusted.
                msg = "The upstream's certificate is not valid"
                why = tls_failure(error, address.name or address.host)
                raise CertificateRejected(msg, reason=f"{host}: {why}") from error
            except OSError as error:
                failures.append(error)
                reasons.append(f"{host}: {tls_failure(error, address.name or address.host)}")
        # Only if all failed so: where a machine has no IPv6, EADDRNOTAVAIL is what ::1 gives, and 127.0.0.1 is refused.
        if all(is_local(failure) for failure in failures):
            raise _faults.of(failures[0])
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

    async def _connect(self, host: str, address: Address, connection: C, header: bytes) -> C:
        # RFC 6066, 3, and RFC 9110, 4.3.4: SNI and the certificate are for the name in the URL,
        # though the connection is to an address. A last dot (the root of DNS) is no part of it.
        name = (address.name or address.host).removesuffix(".") if address.tls else None
        opened = False
        try:
            if address.path or header:
                sock = await self._socket(host, address, header)
                await self._loop.create_connection(
                    lambda: connection, sock=sock, ssl=address.tls, server_hostname=name
                )
            else:
                await self._loop.create_connection(
                    lambda: connection, host, address.port, ssl=address.tls, server_hostname=name
                )
            self._peers[connection] = host
            opened = True
        finally:
            if not opened:
                # When it is cancelled at the last moment, uvloop closes the socket without calling
                # `connection_lost`.
                connection.abort()
        return connection

    async def _socket(self, host: str, address: Address, header: bytes) -> socket.socket:
        """Return a connected socket over which `header` was sent. Raises OSError."""
        sock, connected = _new_socket(host, address), False
        try:
            if address.path:
                await _connect_unix(sock, address.path)
            else:
                await self._loop.sock_connect(sock, _sockaddr(host, address.port))
            await self._loop.sock_sendall(sock, header)
            connected = True
        finally:
            if not connected:
                sock.close()
        return sock


def _new_socket(host: str, address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(socket.AF_UNIX if address.path else family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def _sockaddr(host: str, port: int) -> tuple[Any, ...]:
    """Return an address as the system has it: with its zone, which a link-local address needs."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV  # no lookup, so it does not block
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0][4]


async def _connect_unix(sock: socket.socket, path: str) -> None:
    """Connect to a Unix socket. Raises OSError."""
    # Such a connect never blocks. If the queue of the listener is full it fails at once, where TCP would try again.
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_QUEUE_FULL_PAUSE)
        else:
            return
