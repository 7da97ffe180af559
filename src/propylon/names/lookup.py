"""Look a name up where this host would: its hosts file, its name servers, whatever else it knows.

The name servers are asked directly, because only they say how long their answer holds. For everything
that is not theirs there is getaddrinfo.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from propylon.errors import ConnectFailed
from propylon.names.addresses import parse_address
from propylon.names.getaddrinfo import System
from propylon.names.resolve import Found, Names, Source, SrvTarget, no_such_name, unresolved

__all__ = ["SYSTEM", "Lookup", "ask_system", "is_own_address", "is_system_name"]

# What getaddrinfo says has no TTL. Names of containers move whenever one is made anew.
_SYSTEM_TTL = 10.0
_NO_SUCH_NAME_TTL = 5.0
_HOSTS = Path("/etc/hosts")
_LOOPBACK = ("127.0.0.1", "::1")
# A directory answers at once. What takes longer asks the same name servers once more, in vain.
_BEYOND = 2.0
_ALWAYS = 0.0
_IN_VAIN = 60.0  # seconds for which the system is not asked for a name that it did not know
_MAX_NAMES = 1024
_NO_SUCH_NAME = {
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if hasattr(socket, name)
}

# Threads belong to the process, not to a loop.
_system = System()


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
    try:
        infos = await _system.ask(host)
    except UnicodeError:  # a label that no name can have
        return Found((), _NO_SUCH_NAME_TTL)
    except OSError as error:
        if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
            return Found((), _NO_SUCH_NAME_TTL)
        raise unresolved(host, error) from error
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
            raise no_such_name(host)
        return found.values

    def mark_stale(self, host: str) -> None:
        """Nothing is remembered."""


SYSTEM: Names = _System()
"""What a pool asks that was not given anything better."""


def _name_servers() -> Source | None:
    # Loaded when there is a name to ask about: it takes a tenth of a second.
    from propylon.names.nameserver import NameServers  # noqa: PLC0415

    return NameServers.of_system()


class Lookup:
    """A source of addresses that asks in the order that this host would."""

    def __init__(
        self,
        name_servers: Callable[[], Source | None] = _name_servers,
        hosts: Path = _HOSTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take where the name servers and the hosts file are, which tests say."""
        self._open = name_servers
        self._hosts = hosts
        self._clock = clock
        self._servers: Source | None = None
        # When the system may be asked again for what the name servers do not know.
        self._beyond: dict[str, float] = {}

    async def addresses(self, name: str) -> Found[str]:
        """Return the addresses of a name. Raises ConnectFailed if nobody could say."""
        # Without a thread, what can be: threads may be taken up by names that hang.
        near = self._near(name)
        if near:
            return Found(near, _SYSTEM_TTL)
        servers = None if is_system_name(name) else self._name_servers()
        if servers is None:
            return await ask_system(name)
        try:
            found = await servers.addresses(name)
        except ConnectFailed:
            self._servers = None  # resolv.conf may have changed: read it again
            beyond = await self._ask_beyond(name)
            if beyond is None:
                raise
            return beyond
        return found if found.values else await self._ask_beyond(name) or found

    async def targets(self, name: str) -> Found[SrvTarget]:
        """Return where a service is. Raises ConnectFailed if nobody could say."""
        servers = self._name_servers()
        if servers is None:
            raise unresolved(name, "an SRV record needs a name server")
        try:
            return await servers.targets(name)
        except ConnectFailed:
            self._servers = None  # as above
            raise

    async def _ask_beyond(self, name: str) -> Found[str] | None:
        """Ask the system for what the name servers do not know; None: it does not, either.

        It may stand in a directory that nsswitch.conf names. Raises ConnectFailed if it did stand there
        and the system cannot say.
        """
        again = self._beyond.get(name)
        if again is not None and again > self._clock():
            return None
        try:
            found = await _ask_briefly(name)
        except ConnectFailed:
            if again == _ALWAYS:
                raise
            found = Found((), 0.0)
        if again is None and len(self._beyond) >= _MAX_NAMES:
            del self._beyond[next(iter(self._beyond))]
        self._beyond[name] = _ALWAYS if found.values else self._clock() + _IN_VAIN
        return found if found.values else None

    def _name_servers(self) -> Source | None:
        if self._servers is None:
            self._servers = self._open()
        return self._servers

    def _near(self, name: str) -> tuple[str, ...]:
        """Return the addresses that are known without asking anybody."""
        listed = self._listed(name)
        # RFC 6761, 6.3: whatever the hosts file lacks.
        is_local = name == "localhost" or name.endswith(".localhost")
        return listed or (_LOOPBACK if is_local else ())

    def _listed(self, name: str) -> tuple[str, ...]:
        """Return what the hosts file says: a few lines, read when an answer is over."""
        try:
            text = self._hosts.read_text(errors="replace")
        except OSError:
            return ()
        lines = (line.partition("#")[0].split() for line in text.splitlines())
        found = [words[0] for words in lines if name in map(str.lower, words[1:])]
        addresses = [address for address in map(parse_address, found) if address is not None]
        # IPv4 first, as from a name server.
        addresses.sort(key=lambda address: address.version)
        return tuple(dict.fromkeys(map(str, addresses)))


async def _ask_briefly(name: str) -> Found[str]:
    try:
        async with asyncio.timeout(_BEYOND):
            return await ask_system(name)
    except TimeoutError as error:
        raise unresolved(name, f"the system has not answered within {_BEYOND:g} s") from error
