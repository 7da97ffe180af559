"""Find the client's address behind trusted proxies, and what to tell the upstream of it (X-Forwarded-*).

Any client can send X-Forwarded-For. It counts only if the peer, at the other end of the socket, is a proxy that the
operator trusts. Otherwise a client could choose its own address, and get past an allow list or a rate limit with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from propylon.errors import InvalidRequest
from propylon.proxy.exchange import Origin
from propylon.wire.grammar import OWS
from propylon.wire.message import Request
from propylon.wire.target import host_name

__all__ = ["Trust"]

Network = IPv4Network | IPv6Network

_PROTO = re.compile(rb"https?|wss?")


class Trust:
    """The trusted proxies: networks whose X-Forwarded-* is believed. Any other peer is the client itself."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[Network]) -> None:
        """Trust the peers in `networks`; none if it is empty."""
        self._networks = tuple(networks)

    def origin(self, peer: str, scheme: str) -> Origin:
        """Return the origin of a connection: that of all its requests, unless the peer is trusted."""
        forwarded = _block(peer.encode(), scheme.encode())
        return Origin(
            client=peer,
            peer=peer,
            scheme=scheme,
            forwarded=forwarded,
            trusted=self._is_trusted(peer),
        )

    def refine(self, origin: Origin, request: Request) -> Origin:
        """Return the origin of one request that a trusted peer has forwarded."""
        special = request.special
        chain = b", ".join(special.get(b"x-forwarded-for", ()))
        scheme = _scheme(special.get(b"x-forwarded-proto")) or origin.scheme.encode()
        listed = chain + b", " + origin.peer.encode() if chain else origin.peer.encode()
        rest = b"".join(
            b"\r\n%b: %b" % (name.title(), value)
            for name, values in special.items()
            if name.startswith(b"x-forwarded-") and name not in _RENDERED
            for value in values
        )
        return Origin(
            client=self._client(chain, origin.peer),
            peer=origin.peer,
            scheme=scheme.decode(),
            forwarded=_block(listed, scheme) + rest,
            host=_host(special.get(b"x-forwarded-host")),
            trusted=True,
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
            if not self._is_trusted(address):
                return address
            peer = address
        return peer

    def _is_trusted(self, peer: str) -> bool:
        if not self._networks:
            return False
        address = _parsed(peer)
        return address is not None and any(address in network for network in self._networks)


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


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d; operators write their networks as a.b.c.d.
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
