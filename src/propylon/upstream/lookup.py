"""Look a name up where this host would: its hosts file, its name servers, whatever else it knows.

The name servers are asked directly, because only they say how long their answer holds. For everything
that is not theirs there is getaddrinfo.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from propylon.errors import ConnectFailed
from propylon.upstream.allow import parse_address
from propylon.upstream.resolve import Found, Names, Source, Target

__all__ = ["SYSTEM", "Lookup", "ask_system", "is_own_address", "is_system_name"]

# What getaddrinfo says has no TTL. Names of containers move whenever one is made anew.
_SYSTEM_TTL = 10.0
_HOSTS = Path("/etc/hosts")
_NO_SUCH_NAME = {
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if hasattr(socket, name)
}


def is_system_name(host: str) -> bool:
    """Whether `host` is for the system to resolve: one label, multicast DNS, or this host itself."""
    # RFC 6762, 3: .local is multicast. RFC 6761, 6.3: localhost is never asked for over the wire.
    return "." not in host or host.endswith((".local", ".localhost"))


def is_own_address(address: str) -> bool:
    """Whether `address` is one of this host's own: only those can be bound."""
    parsed = parse_address(address)
    if parsed is None:
        return False
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(parsed), 0))
    except OSError:
        return False
    return True


async def ask_system(host: str) -> Found[str]:
    """Ask getaddrinfo, in a thread. Raises ConnectFailed if it could not say."""
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that no name can have
        return Found((), 0.0)
    except socket.gaierror as error:
        if error.errno in _NO_SUCH_NAME:
            return Found((), 0.0)
        msg = "The upstream's name does not resolve"
        raise ConnectFailed(msg, reason=f"{host}: {error}") from error
    return Found(tuple(dict.fromkeys(_scoped(info[4]) for info in infos)), _SYSTEM_TTL)


def _scoped(address: tuple[Any, ...]) -> str:
    """Return the address; a link-local one of IPv6 means nothing without its interface."""
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host


class _System:
    """The system's resolver, asked every time."""

    async def addresses(self, host: str) -> Sequence[str]:
        """Return what getaddrinfo does. Raises ConnectFailed."""
        found = await ask_system(host)
        if not found.values:
            msg = "The upstream's name does not resolve"
            raise ConnectFailed(msg, reason=f"{host}: no such name")
        return found.values

    def doubt(self, host: str) -> None:
        """Nothing is remembered."""


SYSTEM: Names = _System()
"""What a pool asks that was not given anything better."""


def _name_servers() -> Source | None:
    # Loaded when there is a name to ask about: it takes a tenth of a second.
    from propylon.upstream.nameserver import NameServers  # noqa: PLC0415

    return NameServers.of_system()


class Lookup:
    """A source of addresses that asks in the order that this host would."""

    def __init__(
        self,
        name_servers: Callable[[], Source | None] = _name_servers,
        hosts: Path = _HOSTS,
    ) -> None:
        """Take where the name servers and the hosts file are, which tests say."""
        self._open = name_servers
        self._hosts = hosts
        self._servers: Source | None = None

    async def addresses(self, name: str) -> Found[str]:
        """Return the addresses of a name. Raises ConnectFailed if nobody could say."""
        servers = None
        if not (is_system_name(name) or self._is_listed(name)):
            servers = self._name_servers()
        found = None if servers is None else await self._ask(servers, name)
        # What the name servers do not know may stand in a directory that nsswitch.conf names.
        return found if found is not None and found.values else await ask_system(name)

    async def targets(self, name: str) -> Found[Target]:
        """Return where a service is. Raises ConnectFailed if nobody could say."""
        servers = self._name_servers()
        if servers is None:
            msg = "The upstream's name does not resolve"
            raise ConnectFailed(msg, reason=f"{name}: an SRV record needs a name server")
        return await servers.targets(name)

    async def _ask(self, servers: Source, name: str) -> Found[str] | None:
        try:
            return await servers.addresses(name)
        except ConnectFailed:
            self._servers = None  # resolv.conf may have changed: read it again
            return None

    def _name_servers(self) -> Source | None:
        if self._servers is None:
            self._servers = self._open()
        return self._servers

    def _is_listed(self, name: str) -> bool:
        """Whether the hosts file has the name: a few lines, read when an answer is over."""
        try:
            text = self._hosts.read_text(errors="replace")
        except OSError:
            return False
        lines = (line.partition("#")[0].split()[1:] for line in text.splitlines())
        return any(name in map(str.lower, names) for names in lines)
