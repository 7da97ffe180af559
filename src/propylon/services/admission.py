"""Decide which hosts may register for which service: the operator's allow list, checked against resolved addresses.

A registration makes the gateway send requests into its own network on behalf of a client. Without these
checks that is server-side request forgery (SSRF): an attacker would register the cloud's metadata service,
a database on localhost, or the gateway itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from propylon.errors import ConnectFailed, InvalidRequest
from propylon.names.addresses import (
    AllowList,
    is_forbidden,
    is_metadata_name,
    looks_numeric,
    parse_address,
)
from propylon.names.resolve import Names
from propylon.wire.grammar import MAX_PORT, read_port

__all__ = ["ALL_SERVICES", "Admission", "Allowed", "refused", "split_ports"]

ALL_SERVICES = ""
"""The key of the rules that hold for every service: the operator wrote a list, and no mapping."""

# Ports stand behind a name, brackets or a prefix length: `fd00::1:80` alone is an address of its own.
_WITH_PORTS = re.compile(
    r"(?P<host>[^:\[\]]+|\[[^\[\]]+\](?:/[0-9]{1,3})?|[^\[\]]+/[0-9]{1,3}):(?P<ports>[^:/]*)"
)


def split_ports(text: str) -> tuple[str, str | None]:
    """Return the host of an entry of `registry.allow`, without brackets, and its ports: `8000`, `8000-8099`, or None.

    Raises ValueError, whose message tells the operator what to write instead.
    """
    match = _WITH_PORTS.fullmatch(text)
    if match is None:
        return text, None
    first, last = _ports(match["ports"])
    host = match["host"].replace("[", "").replace("]", "")
    return host, f"{first}" if first == last else f"{first}-{last}"


def _ports(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = read_port(low)
    last = read_port(high) if dash else first
    if not first or not last or last < first:
        msg = f'"{text}" is no port: write one from 1 to {MAX_PORT}, or a range such as 8000-8099'
        raise ValueError(msg)
    return first, last


class Allowed:
    """The rules for one service: hosts and networks, and the ports on which their instances may listen."""

    __slots__ = ("_groups",)

    def __init__(self, rules: Iterable[str] = ()) -> None:
        """Compile the rules; without one, nothing may be registered. Raises ValueError."""
        by_ports: dict[str | None, list[str]] = {}
        for rule in rules:
            host, ports = split_ports(rule)
            by_ports.setdefault(ports, []).append(host)
        self._groups = tuple(
            (None if ports is None else _ports(ports), AllowList(hosts))
            for ports, hosts in by_ports.items()
        )

    def __bool__(self) -> bool:
        """Whether anything may be registered."""
        return any(hosts for _, hosts in self._groups)

    def may_lead(self, host: str) -> bool:
        """Whether `host` may be registered, provided that its addresses and its port are admitted."""
        return any(hosts.may_lead(host) for _, hosts in self._groups)

    def admits(self, host: str, address: str, port: int) -> bool:
        """Whether the gateway may connect to this port of `address`, to which `host` resolves."""
        return any(hosts.admits(host, address) for hosts in self._for(port))

    def admits_elsewhere(self, host: str, address: str) -> bool:
        """Whether the gateway may connect to some port of `address`."""
        return any(hosts.admits(host, address) for _, hosts in self._groups)

    def _for(self, port: int) -> Iterator[AllowList]:
        for ports, hosts in self._groups:
            if ports is None or ports[0] <= port <= ports[1]:
                yield hosts


_NONE = Allowed()


def refused(*, host: str) -> InvalidRequest:
    """Return the error for an instance that may not be registered; `host` says what is wrong with its host."""
    # FastAPI's users know `fields` from validation errors: the client sees which field of its body is wrong.
    msg = f"This instance may not be registered: {host}"
    return InvalidRequest(msg, details={"fields": {"host": host}})


def _never_own(_address: str, _port: int) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules, by service. `is_own` tells whether the gateway itself listens at an address and port."""

    allow: Mapping[str, Allowed]
    names: Names
    is_own: Callable[[str, int], bool] = _never_own

    async def admit(self, service: str, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses that a host resolves to, if it may register for the service.

        The caller keeps the addresses. Every later connection is checked against the rules again, because a
        DNS name can be changed after it was admitted (DNS rebinding). Raises InvalidRequest.
        """
        allowed = self._allowed(service)
        self._check_name(service, allowed, host)
        addresses = await self._addresses(host)
        # Every address, not only the first: a connection may go to any of them.
        for address in addresses:
            self._check_address(allowed, host, address, port)
        return addresses

    def still_admits(self, service: str, host: str, port: int, addresses: Sequence[str]) -> bool:
        """Tell whether these rules admit a host that earlier rules admitted with these addresses.

        Looks up no name: a reload must neither wait for DNS nor drop an instance because DNS is down.
        """
        allowed = self._allowed(service)
        return all(
            allowed.admits(host, address, port) and not self.is_own(address, port)
            for address in addresses
        )

    def _allowed(self, service: str) -> Allowed:
        return self.allow.get(ALL_SERVICES) or self.allow.get(service, _NONE)

    def _check_name(self, service: str, allowed: Allowed, host: str) -> None:
        if not any(self.allow.values()):
            raise refused(host="registry.allow is empty, so no host may register")
        if not allowed:
            raise refused(host=f"registry.allow names no host for the service {service}")
        if looks_numeric(host):
            # inet_aton(3) reads 0x7f.1, 0177.1 and 2130706433 as 127.0.0.1: spellings that slip past an allow list.
            raise refused(host="write the address in full, as in 10.0.0.1")
        if is_metadata_name(host):
            raise refused(host="a cloud's metadata service is never registered")
        if not allowed.may_lead(host):
            # The check by name comes before the lookup, so that a client cannot use the gateway to send DNS
            # queries of its choice (a way to carry data out of a closed network).
            raise refused(host=f"registry.allow does not name {host}")

    async def _addresses(self, host: str) -> tuple[str, ...]:
        if parse_address(host) is not None:
            return (host,)
        try:
            return tuple(await self.names.addresses(host))
        except ConnectFailed as error:
            raise refused(host=f"{host} does not resolve") from error

    def _check_address(self, allowed: Allowed, host: str, address: str, port: int) -> None:
        parsed = parse_address(address)
        shown = host if host == address else f"{host} ({address})"
        if parsed is None or is_forbidden(parsed):
            raise refused(host=f"{shown} is an address that is never registered")
        if not allowed.admits(host, address, port):
            at = f" with port {port}" if allowed.admits_elsewhere(host, address) else ""
            raise refused(host=f"registry.allow does not name {shown}{at}")
        if self.is_own(address, port):
            # The gateway would send each request to itself, and that one again, until its sockets run out.
            raise refused(host=f"{shown} is the gateway itself")
