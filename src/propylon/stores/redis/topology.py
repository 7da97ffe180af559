"""Find the server to connect to: a fixed one, the master that Sentinels name, or the nodes of a Cluster.

Both answers are one command each, over the same client as everything else. A second client for them would bring timeouts,
retries and TLS settings of its own.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from propylon.stores.redis.connection import Connection, ErrorReply, Lost, Reply, pack
from propylon.stores.redis.login import open_logged_in
from propylon.stores.redis.target import Address, Login, Target

__all__ = ["Finder", "Fixed", "Range", "SentinelFinder", "find_ranges"]


_PORT = re.compile(rb"[0-9]{1,5}")


class Finder(Protocol):
    """Says where the server is now."""

    async def find(self) -> Address:
        """Return its address. Raises Lost."""

    def close(self) -> None:
        """Let go of what was opened to find it."""


class Fixed(Finder):
    """A server that is always at the same address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def find(self) -> Address:
        """Return the address that the operator has written."""
        return self._address

    def close(self) -> None:
        """Do nothing: no connection was opened to find the address."""


class SentinelFinder(Finder):
    """A master that Sentinels watch (https://redis.io/docs/latest/develop/reference/sentinel-clients/)."""

    def __init__(self, target: Target) -> None:
        """Ask the Sentinels of the target, the one that answered last first."""
        self._target = target
        self._sentinels = list(target.addresses)
        self._open: Connection | None = None

    async def find(self) -> Address:
        """Return the master that the first Sentinel names which answers. Raises Lost."""
        reasons: list[str] = []
        for sentinel in tuple(self._sentinels):
            try:
                found = await self._ask(sentinel)
            except Lost as error:
                reasons.append(f"{sentinel}: {error}")
                self.close()
                self._sentinels.append(self._sentinels.pop(0))
            else:
                return found
        msg = f"no Sentinel says where {self._target.master} is: {'; '.join(reasons)}"
        raise Lost(msg)

    async def _ask(self, sentinel: Address) -> Address:
        target = self._target
        if self._open is None or self._open.is_closed:
            login = target.sentinel_login
            self._open = await open_logged_in(sentinel, login, target.tls, target.patience)
        command = pack("SENTINEL", "get-master-addr-by-name", target.master)
        reply = (await self._open.call_all([command], target.patience))[0]
        if isinstance(reply, ErrorReply):
            msg = f"it refuses to say ({reply.shown})"
            raise Lost(msg)
        match reply:
            case [bytes(host), bytes(port)] if _PORT.fullmatch(port):
                return Address(host.decode("utf-8", "replace"), int(port))
            case _:
                msg = "it does not know that master"
                raise Lost(msg)

    def close(self) -> None:
        """Close the connection to the Sentinel."""
        if self._open is not None:
            self._open.abort("it is not needed")
            self._open = None


class Range(NamedTuple):
    """Slots of a Cluster from the first to the last, and their master."""

    first: int
    last: int
    address: Address


async def find_ranges(
    addresses: Sequence[Address], login: Login, tls: ssl.SSLContext | None, patience: float
) -> list[Range]:
    """Ask the nodes, one after the other, who has which slots (CLUSTER SLOTS). Raises Lost."""
    reasons: list[str] = []
    for address in addresses:
        try:
            connection = await open_logged_in(address, login, tls, patience)
            try:
                reply = (await connection.call_all([pack("CLUSTER", "SLOTS")], patience))[0]
            finally:
                connection.abort("it has answered")
            return list(_ranges(reply, address))
        except Lost as error:
            reasons.append(f"{address}: {error}")
    msg = f"no node of the Cluster says who has which keys: {'; '.join(reasons)}"
    raise Lost(msg)


def _ranges(reply: Reply, asked: Address) -> Iterator[Range]:
    if isinstance(reply, ErrorReply):
        msg = f"it is no node of a Cluster ({reply.shown})"
        raise Lost(msg)
    for item in reply if isinstance(reply, list) else ():
        match item:
            case [int(first), int(last), [host, int(port), *_], *_]:
                # Without a host: the node does not know its own name, and it is the one that was asked.
                name = host.decode("utf-8", "replace") if isinstance(host, bytes) else ""
                yield Range(first, last, Address(name or asked.host, port))
            case _:
                msg = "it answers CLUSTER SLOTS in a form that is not known"
                raise Lost(msg)
