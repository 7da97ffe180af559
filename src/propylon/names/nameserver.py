"""Ask name servers: addresses and services (SRV) with the time that they hold.

Imported when there is a name to ask about: dnspython takes a tenth of a second to load.
"""

from __future__ import annotations

import asyncio
import math
from functools import reduce
from typing import Self

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.rdata
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.resolver

from propylon.errors import ConnectFailed
from propylon.names.resolve import Found, SrvTarget, unresolved

__all__ = ["NameServers"]

# How long all tries of one question may take: less than a connection may, so that what the system
# knows besides DNS can still be asked within the same connect timeout.
_LIFETIME = 3.0


class NameServers:
    """The name servers of this host, asked as its own resolver would ask them."""

    def __init__(self, resolver: dns.asyncresolver.Resolver) -> None:
        """Ask by `resolver`; its search list applies."""
        self._resolver = resolver
        self._backend = dns.asyncbackend.get_backend("asyncio")

    @classmethod
    def of_system(cls) -> Self | None:
        """Return those that resolv.conf lists, if it lists any."""
        try:
            resolver = dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return None
        resolver.lifetime = _LIFETIME
        return cls(resolver)

    async def addresses(self, name: str) -> Found[str]:
        """Return the addresses of a name, IPv4 first; none: there are none. Raises ConnectFailed."""
        # IPv4 first: a network without IPv6 whose names have AAAA records is the commoner mistake.
        found = await asyncio.gather(self._try(name, "A"), self._try(name, "AAAA"))
        answers = [answer for answer in found if not isinstance(answer, ConnectFailed)]
        addresses = tuple(
            record.address
            for answer in answers
            for record in answer.values
            if isinstance(record, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA)
        )
        for failure in found:
            # The failure of one of the two leaves open whether there is an address.
            if isinstance(failure, ConnectFailed) and not addresses:
                raise failure
        return Found(addresses, min(one.ttl for one in answers if one.values or not addresses))

    async def targets(self, name: str) -> Found[SrvTarget]:
        """Return where a service is (RFC 2782): the targets of the best priority."""
        answer = await self._ask(name, "SRV")
        records = [
            record
            for record in answer.values
            # A target of "." says that there is no such service; at port 0 nobody can be asked.
            if isinstance(record, dns.rdtypes.IN.SRV.SRV)
            and record.target != dns.name.root
            and record.port != 0
        ]
        best = min((record.priority for record in records), default=0)
        targets = tuple(
            (str(record.target.to_text(omit_final_dot=True)).lower(), record.port, record.weight)
            for record in sorted(records, key=lambda record: (record.target, record.port))
            if record.priority == best
        )
        return Found(_weighed(targets), answer.ttl)

    async def _try(self, name: str, kind: str) -> Found[dns.rdata.Rdata] | ConnectFailed:
        try:
            return await self._ask(name, kind)
        except ConnectFailed as error:
            return error

    async def _ask(self, name: str, kind: str) -> Found[dns.rdata.Rdata]:
        """Ask one question; no values: there is no such name. Raises ConnectFailed."""
        try:
            return await self._answer(name, kind)
        except (dns.exception.DNSException, OSError) as error:
            raise unresolved(name, f"{kind}: {error}") from error

    async def _answer(self, name: str, kind: str) -> Found[dns.rdata.Rdata]:
        try:
            answer = await self._resolver.resolve(
                name, kind, search=True, raise_on_no_answer=False, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as error:
            responses: dict[dns.name.Name, dns.message.QueryMessage] = error.kwargs["responses"]
            return Found((), min(map(_ttl, responses.values()), default=0.0))
        return Found(tuple(answer.rrset or ()), _ttl(answer.response))


def _ttl(answer: dns.message.QueryMessage) -> float:
    """Return how long all of the answer holds, the aliases on the way included.

    That there is nothing holds as long as the zone's SOA says (RFC 2308, 5).
    """
    return float(answer.resolve_chaining().minimum_ttl)


def _weighed(targets: tuple[tuple[str, int, int], ...]) -> tuple[SrvTarget, ...]:
    """Scale the weights down: only their proportions count. Zero is "hardly ever", which is one."""
    weights = [max(1, weight) for _, _, weight in targets]
    divisor = reduce(math.gcd, weights, 0) or 1
    return tuple(
        SrvTarget(host, port, weight // divisor)
        for (host, port, _), weight in zip(targets, weights, strict=True)
    )
