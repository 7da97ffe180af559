"""Look a name up where this host would: in its hosts file, at its name servers, by its resolver.

Facts. getaddrinfo tells no TTL, and its threads may be taken up by names that hang. Name servers tell the TTL, but they
do not know what the hosts file, multicast DNS or a directory (nsswitch.conf) knows.

Strategy. First what needs no query: the hosts file and localhost. Then the name servers, directly. What they do not know,
and names of one label, is for getaddrinfo.
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
from propylon.names.resolve import LookupResult, Names, Source, SrvTarget, no_such_name, unresolved

__all__ = ["SYSTEM", "Lookup", "ask_system", "is_own_address", "is_system_name"]

# Seconds. An answer of getaddrinfo has no TTL. HAProxy keeps a valid one for 10 s (`hold valid`),
# and the names of containers move whenever a container is created again.
_SYSTEM_TTL = 10.0
# Shorter: a client may be waiting for a container that has just been started.
_NO_SUCH_NAME_TTL = 5.0
_HOSTS = Path("/etc/hosts")
_LOOPBACK = ("127.0.0.1", "::1")
# Seconds for the system to answer what the name servers do not know. A directory answers at once;
# what takes longer asks the same name servers again.
_FALLBACK_TIMEOUT = 2.0
# Seconds for which the system is not asked again for a name that it did not know either.
_FALLBACK_PAUSE = 60.0
# In the place of such a moment: the system knew the name, so it is asked every time.
_ALWAYS = 0.0
_MAX_NAMES = 1024
# The error codes of getaddrinfo for "no such name" differ between systems, and macOS lacks some.
_NO_SUCH_NAME = {
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if hasattr(socket, name)
}

# One for the process: a thread of it may outlive a loop.
_system = System()


def is_system_name(host: str) -> bool:
    """Whether only the system can resolve `host`: a name of one label, of multicast DNS, or of this host."""
    # RFC 6762, 3: .local is multicast. RFC 6761, 6.3: a resolver must not query name servers for
    # localhost.
    return "." not in host or host.endswith((".local", ".localhost"))


def is_own_address(address: str) -> bool:
    """Whether `address` belongs to this host: a socket can be bound to no other address."""
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


async def ask_system(host: str) -> LookupResult[str]:
    """Return what getaddrinfo says; no values: there is no such name. Raises ConnectFailed if it fails."""
    try:
        infos = await _system.ask(host)
    except UnicodeError:  # the name has a label that IDNA cannot encode, so no name server knows it
        return LookupResult((), _NO_SUCH_NAME_TTL)
    except OSError as error:
        if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
            return LookupResult((), _NO_SUCH_NAME_TTL)
        raise unresolved(host, error) from error
    return LookupResult(tuple(dict.fromkeys(_scoped(info[4]) for info in infos)), _SYSTEM_TTL)


def _scoped(address: tuple[Any, ...]) -> str:
    """Return the address of a socket address, with the zone (RFC 4007) of a link-local one."""
    # A link-local address exists on every interface: without the zone it cannot be connected to.
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host


class _SystemNames:
    """The system's resolver as `Names`, without a cache."""

    async def addresses(self, host: str) -> Sequence[str]:
        """Return the addresses that getaddrinfo finds, one at least. Raises ConnectFailed."""
        found = await ask_system(host)
        if not found.values:
            raise no_such_name(host)
        return found.values

    def mark_stale(self, host: str) -> None:
        """Do nothing: no answer is kept that could be stale."""


SYSTEM: Names = _SystemNames()
"""The default of a pool that was given no resolver."""


def _name_servers() -> Source | None:
    # Imported when the first name is looked up: dnspython takes a tenth of a second to load.
    from propylon.names.nameserver import NameServers  # noqa: PLC0415

    return NameServers.of_system()


class Lookup:
    """A `Source` that asks hosts file, name servers and system, in the order in which this host would."""

    def __init__(
        self,
        name_servers: Callable[[], Source | None] = _name_servers,
        hosts: Path = _HOSTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what finds the name servers, the path of the hosts file, and a monotonic clock in seconds."""
        self._find_servers = name_servers
        self._hosts = hosts
        self._clock = clock
        self._servers: Source | None = None
        # By name that the name servers do not know: when the system may be asked for it again.
        self._fallback_at: dict[str, float] = {}

    async def addresses(self, name: str) -> LookupResult[str]:
        """Return the addresses of a name; none: there is no such name. Raises ConnectFailed if no source answers."""
        # Before any query, and without a thread: threads may be taken up by names that hang.
        local = self._local(name)
        if local:
            return LookupResult(local, _SYSTEM_TTL)
        servers = None if is_system_name(name) else self._name_servers()
        if servers is None:
            return await ask_system(name)
        try:
            found = await servers.addresses(name)
        except ConnectFailed:
            self._servers = None  # resolv.conf may have changed: read it again
            fallback = await self._ask_fallback(name)
            if fallback is None:
                raise
            return fallback
        return found if found.values else await self._ask_fallback(name) or found

    async def targets(self, name: str) -> LookupResult[SrvTarget]:
        """Return the targets of an SRV record (RFC 2782). Raises ConnectFailed if no name server answers."""
        servers = self._name_servers()
        if servers is None:
            raise unresolved(name, "an SRV record needs a name server")
        try:
            return await servers.targets(name)
        except ConnectFailed:
            self._servers = None  # as in `addresses`
            raise

    async def _ask_fallback(self, name: str) -> LookupResult[str] | None:
        """Ask the system for a name that the name servers do not know; None: it does not know it either.

        The name may stand in a directory that nsswitch.conf lists (LDAP, NIS, mDNS). Raises ConnectFailed if the
        system knew the name before and fails now: the name is not gone then.
        """
        ask_at = self._fallback_at.get(name)
        if ask_at is not None and ask_at > self._clock():
            return None
        try:
            found = await _ask_system_briefly(name)
        except ConnectFailed:
            if ask_at == _ALWAYS:
                raise
            found = LookupResult((), 0.0)
        if ask_at is None and len(self._fallback_at) >= _MAX_NAMES:
            del self._fallback_at[next(iter(self._fallback_at))]
        self._fallback_at[name] = _ALWAYS if found.values else self._clock() + _FALLBACK_PAUSE
        return found if found.values else None

    def _name_servers(self) -> Source | None:
        if self._servers is None:
            self._servers = self._find_servers()
        return self._servers

    def _local(self, name: str) -> tuple[str, ...]:
        """Return the addresses that this host knows without a query: of its hosts file, and of localhost."""
        listed = self._from_hosts_file(name)
        # RFC 6761, 6.3: localhost is loopback, even if the hosts file lacks it. Containers often
        # have an empty one.
        is_local = name == "localhost" or name.endswith(".localhost")
        return listed or (_LOOPBACK if is_local else ())

    def _from_hosts_file(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a name in the hosts file, which is read each time: it is short, and may change."""
        try:
            text = self._hosts.read_text(errors="replace")
        except OSError:
            return ()
        lines = (line.partition("#")[0].split() for line in text.splitlines())
        found = [words[0] for words in lines if name in map(str.lower, words[1:])]
        addresses = [address for address in map(parse_address, found) if address is not None]
        # IPv4 first, as `nameserver` has it.
        addresses.sort(key=lambda address: address.version)
        return tuple(dict.fromkeys(map(str, addresses)))


async def _ask_system_briefly(name: str) -> LookupResult[str]:
    try:
        async with asyncio.timeout(_FALLBACK_TIMEOUT):
            return await ask_system(name)
    except TimeoutError as error:
        why = f"the system has not answered within {_FALLBACK_TIMEOUT:g} s"
        raise unresolved(name, why) from error
