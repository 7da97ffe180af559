"""A name server of our own on UDP, whose answers change when a test says so."""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from propylon.names.nameserver import NameServers


@dataclass
class Responder(asyncio.DatagramProtocol):
    """Answers what `records` holds: {(name, kind): [values]}; a name without any does not exist."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ttl: int = 1
    failing: str = ""  # "servfail", "refused", "silent", "garbage", and "AAAA" or "A" for one kind
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self.transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing to keep."""

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer, or fail as told."""
        question = dns.message.from_wire(data)
        name = question.question[0].name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.question[0].rdtype)
        self.asked.append((name, kind))
        if self.failing in ("silent", kind):
            return
        answer = b"nonsense" if self.failing == "garbage" else self._answer(question, name, kind)
        self.transport.sendto(answer, address)

    def _answer(self, question: dns.message.Message, name: str, kind: str) -> bytes:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if self.failing in ("servfail", "refused"):
            answer.set_rcode(dns.rcode.from_text(self.failing.upper()))
            return answer.to_wire()
        alias = self.records.get((name, "CNAME"))
        if alias:
            answer.answer.append(self._records(name, "CNAME", alias))
            name = alias[0].rstrip(".")
        if not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif values := self.records.get((name, kind)):
            answer.answer.append(self._records(name, kind, values))
        if not answer.answer and (zone := self.records.get(("example", "SOA"))):
            answer.authority.append(self._records("example", "SOA", zone))
        return answer.to_wire()

    def _records(self, name: str, kind: str, values: list[str]) -> dns.rrset.RRset:
        return dns.rrset.from_text(name + ".", self.ttl, "IN", kind, *values)

    def servers(self, lifetime: float = 20.0) -> NameServers:
        """Return this as the only name server of a host."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self.port
        resolver.lifetime = lifetime
        resolver.timeout = lifetime
        return NameServers(resolver)
