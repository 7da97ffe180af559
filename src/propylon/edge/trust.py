"""Find the client's address behind trusted proxies, and what to tell the upstream of it (X-Forwarded-*).

Any client can send X-Forwarded-For. It counts only if the peer, at the other end of the socket, is a proxy that the
operator trusts. Otherwise a client could choose its own address, and get past an allow list or a rate limit with it.
The same holds for the header of the PROXY protocol, and for X-Client-Cert-*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self

from propylon.errors import InvalidRequest
from propylon.proxy.exchange import Origin
from propylon.proxy.principal import Principal
from propylon.wire.grammar import OWS
from propylon.wire.message import Request
from propylon.wire.target import host_name

__all__ = ["Trust"]

Network = IPv4Network | IPv6Network

_PROTO = re.compile(rb"https?|wss?")


class Trust:
    """The trusted proxies: networks whose X-Forwarded-* is believed. Any other peer is the client itself."""

    __slots__ = ("_networks", "_passed", "_unix", "reads_certificates")

    def __init__(
        self, networks: Sequence[Network], *, unix: bool = False, reads_certificates: bool = False
    ) -> None:
        """Trust the peers in `networks`; none if it is empty. With `unix`, trust every peer on a Unix socket as well.

        `reads_certificates`: the gateway itself tells the upstream of clients' certificates, so no proxy may.
        """
        self._networks = tuple(networks)
        self._unix = unix
        self.reads_certificates = reads_certificates
        self._passed = _PASSED if reads_certificates else (*_PASSED, _CERTIFICATE)

    @classmethod
    def of(cls, written: Iterable[str], *, reads_certificates: bool = False) -> Self:
        """Trust what `server.trusted_proxies` says: networks, and `unix`."""
        written = frozenset(written)
        networks = [ip_network(network) for network in written - {_UNIX}]
        return cls(networks, unix=_UNIX in written, reads_certificates=reads_certificates)

    def origin(
        self,
        peer: str,
        scheme: str,
        *,
        proxied: bool = False,
        holder: Principal | None = None,
        certificate: bytes = b"",
    ) -> Origin:
        """Return the origin of a connection: that of all its requests, unless the peer is trusted.

        `peer` is empty on a Unix socket. The rest is as in `Origin`.
        """
        peer = _unmapped(peer)
        forwarded = _block(peer.encode(), scheme.encode()) + certificate
        return Origin(
            client=peer,
            peer=peer,
            scheme=scheme,
            forwarded=forwarded,
            trusted=self.trusts(peer),
            proxied=proxied,
            holder=holder,
            certificate=certificate,
        )

    def refine(self, origin: Origin, request: Request) -> Origin:
        """Return the origin of one request that a trusted peer has forwarded."""
        special = request.special
        chain = b", ".join(special.get(b"x-forwarded-for", ()))
        scheme = _scheme(special.get(b"x-forwarded-proto")) or origin.scheme.encode()
        # A peer on a Unix socket has no address to append.
        listed = b", ".join(part for part in (chain, origin.peer.encode()) if part)
        rest = b"".join(
            b"\r\n%b: %b" % (name.title(), value)
            for name, values in special.items()
            if name.startswith(self._passed) and name not in _RENDERED
            for value in values
        )
        return Origin(
            client=self._client(chain, origin.peer),
            peer=origin.peer,
            scheme=scheme.decode(),
            forwarded=_block(listed, scheme) + rest + origin.certificate,
            host=_host(special.get(b"x-forwarded-host")),
            trusted=True,
            proxied=origin.proxied,
            holder=origin.holder,
            certificate=origin.certificate,
        )

    def _client(self, chain: bytes, peer: str) -> str:
        """Return the rightmost address in the chain that is not a trusted proxy.

        Each proxy appends the address that it was called from. What stands to the left of the first untrusted address
        was sent by that client, which may have made it up (nginx: `real_ip_recursive on`).
        """
        for entry in reversed(chain.split(b",")):
            address = _address(entry.strip().decode("latin-1"))
            if address is None:
                break
            if not self.trusts(address):
                return address
            peer = address
        return peer

    def trusts(self, peer: str) -> bool:
        """Tell whether the peer is a trusted proxy; an empty peer is one on a Unix socket."""
        if not peer:
            return self._unix
        if not self._networks:
            return False
        address = _parsed(peer)
        return address is not None and any(address in network for network in self._networks)


# In `server.trusted_proxies`: the peers on Unix sockets.
_UNIX = "unix"
_CERTIFICATE = b"x-client-cert-"
_PASSED = (b"x-forwarded-",)
_RENDERED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})


def _block(chain: bytes, scheme: bytes) -> bytes:
    if not chain:  # a Unix socket has no address
        return b"\r\nX-Forwarded-Proto: " + scheme
    return b"\r\nX-Forwarded-For: " + chain + b"\r\nX-Forwarded-Proto: " + scheme


def _last(values: list[bytes] | None) -> bytes:
    """Return the last of a header's values: the nearest proxy wrote that."""
    return values[-1].split(b",")[-1].strip(OWS) if values else b""


def _scheme(values: list[bytes] | None) -> bytes | None:
    value = _last(values)
    return value if _PROTO.fullmatch(value) else None


def _host(values: list[bytes] | None) -> bytes | None:
    """Return the host that a proxy was asked for, if it could be a Host; else ours is passed on."""
    value = _last(values)
    try:
        host_name(value)
    except InvalidRequest:
        return None
    return value


def _address(text: str) -> str | None:
    """Return the address in an X-Forwarded-For entry, without a port or brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = _parsed(text)
    return None if address is None else str(address)


def _unmapped(peer: str) -> str:
    """Return an IPv4 peer of a dual-stack listener (::ffff:a.b.c.d) as a.b.c.d: it is one client, not two."""
    if not peer.startswith("::ffff:"):
        return peer
    address = _parsed(peer)
    return peer if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d; operators write their networks as a.b.c.d.
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
