"""Query the name servers of this host for addresses (A, AAAA) and services (SRV), with the TTL of the answer.

`lookup` imports this module when the first name is looked up: dnspython takes a tenth of a second to load.
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
from propylon.names.resolve import LookupResult, SrvTarget, unresolved

__all__ = ["NameServers"]

# Seconds for all tries of one query. Less than `timeouts.connect` (5 s), so that the system's
# resolver can still be asked within it.
_LIFETIME = 3.0


class NameServers:
    """The name servers of this host, queried as its own resolver would: with its search list, ndots and retries."""

    def __init__(self, resolver: dns.asyncresolver.Resolver) -> None:
        """Query by `resolver`, which `of_system` makes."""
        self._resolver = resolver
        self._backend = dns.asyncbackend.get_backend("asyncio")

    @classmethod
    def of_system(cls) -> Self | None:
        """Return the name servers that resolv.conf lists, or None if it lists none."""
        try:
            resolver = dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return None
        resolver.lifetime = _LIFETIME
        return cls(resolver)

    async def addresses(self, name: str) -> LookupResult[str]:
        """Return the addresses of a name, IPv4 first; none: there is no such name. Raises ConnectFailed."""
        # RFC 6724 would have IPv6 first, and Happy Eyeballs (RFC 8305) try both. Addresses are
        # tried in order here, and a network without IPv6 whose names have AAAA records is a
        # commoner mistake than the reverse.
        found = await asyncio.gather(
            self._query_or_error(name, "A"), self._query_or_error(name, "AAAA")
        )
        answers = [answer for answer in found if not isinstance(answer, ConnectFailed)]
        addresses = tuple(
            record.address
            for answer in answers
            for record in answer.values
            if isinstance(record, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA)
        )
        for failure in found:
            # With one failure and no address, the name may have one: this is no "no such name".
            if isinstance(failure, ConnectFailed) and not addresses:
                raise failure
        # The TTL of an empty answer counts only if both are empty: it is the zone's negative TTL.
        return LookupResult(
            addresses, min(one.ttl for one in answers if one.values or not addresses)
        )

    async def targets(self, name: str) -> LookupResult[SrvTarget]:
        """Return the targets of an SRV record that have the best priority (RFC 2782). Raises ConnectFailed."""
        answer = await self._query(name, "SRV")
        records = [
            record
            for record in answer.values
            # RFC 2782: a target of "." says that there is no such service. Nothing listens on port
            # 0.
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
        return LookupResult(_scaled(targets), answer.ttl)

    async def _query_or_error(
        self, name: str, kind: str
    ) -> LookupResult[dns.rdata.Rdata] | ConnectFailed:
        try:
            return await self._query(name, kind)
        except ConnectFailed as error:
            return error

    async def _query(self, name: str, kind: str) -> LookupResult[dns.rdata.Rdata]:
        """Return the records of one kind; none: there is no such name. Raises ConnectFailed."""
        try:
            return await self._resolve(name, kind)
        except (dns.exception.DNSException, OSError) as error:
            raise unresolved(name, f"{kind}: {error}") from error

    async def _resolve(self, name: str, kind: str) -> LookupResult[dns.rdata.Rdata]:
        try:
            answer = await self._resolver.resolve(
                name, kind, search=True, raise_on_no_answer=False, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as error:
            responses: dict[dns.name.Name, dns.message.QueryMessage] = error.kwargs["responses"]
            return LookupResult((), min(map(_ttl, responses.values()), default=0.0))
        return LookupResult(tuple(answer.rrset or ()), _ttl(answer.response))


def _ttl(answer: dns.message.QueryMessage) -> float:
    """Return the seconds for which an answer holds: the smallest TTL in it, those of aliases (CNAME) included.

    An answer without records holds as long as the zone's SOA says (RFC 2308, 5).
    """
    return float(answer.resolve_chaining().minimum_ttl)


def _scaled(targets: tuple[tuple[str, int, int], ...]) -> tuple[SrvTarget, ...]:
    """Return the targets with their weights divided by the common divisor: only proportions count.

    RFC 2782: weight 0 is for targets that should get hardly any requests; here it counts as 1.
    """
    weights = [max(1, weight) for _, _, weight in targets]
    divisor = reduce(math.gcd, weights, 0) or 1
    return tuple(
        SrvTarget(host, port, weight // divisor)
        for (host, port, _), weight in zip(targets, weights, strict=True)
    )
