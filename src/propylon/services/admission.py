"""Decide which hosts may register: the operator's allow list, checked against resolved addresses.

A registration makes the gateway send requests into its own network on behalf of a client. Without these
checks that is server-side request forgery (SSRF): an attacker would register the cloud's metadata service,
a database on localhost, or the gateway itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

__all__ = ["Admission", "refused"]


def refused(*, host: str) -> InvalidRequest:
    """Return the error for an instance that may not be registered; `host` says what is wrong with its host."""
    # FastAPI's users know `fields` from validation errors: the client sees which field of its body is wrong.
    msg = f"This instance may not be registered: {host}"
    return InvalidRequest(msg, details={"fields": {"host": host}})


def _never_own(_address: str, _port: int) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules. `is_own` tells whether the gateway itself listens at an address and port."""

    allow: AllowList
    names: Names
    is_own: Callable[[str, int], bool] = _never_own

    async def admit(self, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses that a host resolves to, if it may register.

        The caller keeps the addresses. Every later connection is checked against the rules again, because a
        DNS name can be changed after it was admitted (DNS rebinding). Raises InvalidRequest.
        """
        self._check_name(host)
        addresses = await self._addresses(host)
        # Every address, not only the first: a connection may go to any of them.
        for address in addresses:
            self._check_address(host, address, port)
        return addresses

    def still_admits(self, host: str, port: int, addresses: Sequence[str]) -> bool:
        """Tell whether these rules admit a host that earlier rules admitted with these addresses.

        Looks up no name: a reload must neither wait for DNS nor drop an instance because DNS is down.
        """
        return all(
            self.allow.admits(host, address) and not self.is_own(address, port)
            for address in addresses
        )

    def _check_name(self, host: str) -> None:
        if not self.allow:
            raise refused(host="registry.allow is empty, so no host may register")
        if looks_numeric(host):
            # inet_aton(3) reads 0x7f.1, 0177.1 and 2130706433 as 127.0.0.1: spellings that slip past an allow list.
            raise refused(host="write the address in full, as in 10.0.0.1")
        if is_metadata_name(host):
            raise refused(host="a cloud's metadata service is never registered")
        if not self.allow.may_lead(host):
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

    def _check_address(self, host: str, address: str, port: int) -> None:
        parsed = parse_address(address)
        shown = host if host == address else f"{host} ({address})"
        if parsed is None or is_forbidden(parsed):
            raise refused(host=f"{shown} is an address that is never registered")
        if not self.allow.admits(host, address):
            raise refused(host=f"registry.allow does not name {shown}")
        if self.is_own(address, port):
            # The gateway would send each request to itself, and that one again, until its sockets run out.
            raise refused(host=f"{shown} is the gateway itself")
