"""Find the client's address behind trusted proxies, and what to tell the upstream of it (X-Forwarded-*, Forwarded).

Any client can send X-Forwarded-For. It counts only if the peer, at the other end of the socket, is a proxy that the
operator trusts. Otherwise a client could choose its own address, and get past an allow list or a rate limit with it.
The same holds for the header of the PROXY protocol, and for X-Client-Cert-*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Literal, Self
from urllib.parse import quote

from propylon.errors import InvalidRequest
from propylon.proxy.exchange import Origin
from propylon.proxy.principal import Principal
from propylon.wire.forwarded import forwarded, hops, x_forwarded_host
from propylon.wire.grammar import OWS
from propylon.wire.headers import Special
from propylon.wire.message import Request
from propylon.wire.target import host_name

__all__ = ["Style", "Trust"]

Network = IPv4Network | IPv6Network

# Which headers tell of the client (`server.forwarded`).
Style = Literal["x-forwarded", "rfc7239", "both"]

_PROTO = re.compile(rb"https?|wss?")


@dataclass(frozen=True, slots=True)
class _Said:
    """What a trusted proxy said of the client: the chain as it stands in the header, its entries, scheme and Host."""

    chain: bytes
    nodes: Sequence[bytes]
    scheme: bytes
    host: bytes


class Trust:
    """The trusted proxies: networks whose word is believed. Any other peer is the client itself.

    `style` says in which headers that word stands, and in which the upstream is told: X-Forwarded-*, Forwarded (RFC 7239),
    or both. With both, X-Forwarded-* is believed: a proxy that sets one header may let the client's other one pass.
    """

    __slots__ = ("_networks", "_passed", "_style", "_unix", "reads_certificates")

    def __init__(
        self,
        networks: Sequence[Network],
        style: Style = "x-forwarded",
        *,
        unix: bool = False,
        reads_certificates: bool = False,
    ) -> None:
        """Trust the peers in `networks`; none if it is empty. With `unix`, trust every peer on a Unix socket as well.

        `reads_certificates`: the gateway itself tells the upstream of clients' certificates, so no proxy may.
        """
        self._networks = tuple(networks)
        self._style = style
        self._unix = unix
        self.reads_certificates = reads_certificates
        self._passed = _PASSED if reads_certificates else (*_PASSED, _CERTIFICATE)

    @classmethod
    def of(
        cls,
        written: Iterable[str],
        style: Style = "x-forwarded",
        *,
        reads_certificates: bool = False,
    ) -> Self:
        """Trust what `server.trusted_proxies` says: networks, and `unix`."""
        written = frozenset(written)
        networks = [ip_network(network, strict=False) for network in written - {_UNIX}]
        return cls(networks, style, unix=_UNIX in written, reads_certificates=reads_certificates)

    def origin(
        self,
        peer: str,
        scheme: str,
        root: str = "",
        *,
        proxied: bool = False,
        holder: Principal | None = None,
        certificate: bytes = b"",
    ) -> Origin:
        """Return the origin of a connection: that of all its requests, unless the peer is trusted.

        `peer` is empty on a Unix socket. The rest is as in `Origin`.
        """
        peer = _unmapped(peer)
        lines = b"" if self._style == "rfc7239" else _block(peer.encode(), scheme.encode())
        return Origin(
            client=peer,
            peer=peer,
            scheme=scheme,
            forwarded=lines + certificate,
            trusted=self.trusts(peer),
            naming=self._naming(b"", peer, scheme),
            root=quote(root.rstrip("/")).encode(),
            proxied=proxied,
            holder=holder,
            certificate=certificate,
        )

    def refine(self, origin: Origin, request: Request) -> Origin:
        """Return the origin of one request that a trusted peer has forwarded."""
        special = request.special
        said = self._said(request)
        scheme = _scheme(said.scheme) or origin.scheme.encode()
        lines = self._others(special)
        if self._style != "rfc7239":
            # A peer on a Unix socket has no address to append.
            listed = b", ".join(part for part in (said.chain, origin.peer.encode()) if part)
            lines = _block(listed, scheme) + lines
        before = b", ".join(special.get(b"forwarded", ()))
        if self._style == "x-forwarded" and before:
            lines += b"\r\nForwarded: " + before
        return Origin(
            client=self._client(said.nodes, origin.peer),
            peer=origin.peer,
            scheme=scheme.decode(),
            forwarded=lines + origin.certificate,
            host=_host(said.host),
            trusted=True,
            naming=self._naming(
                b"" if hops([before]) is None else before,
                origin.peer,
                scheme.decode(),
                port=b"x-forwarded-port" not in special,
            ),
            root=origin.root,
            proxied=origin.proxied,
            holder=origin.holder,
            certificate=origin.certificate,
        )

    def _naming(
        self, before: bytes, peer: str, scheme: str, *, port: bool = True
    ) -> Callable[[bytes], bytes]:
        """Return what names the Host in the headers of this style; `port` is False where a trusted proxy has said it."""
        if self._style == "rfc7239":
            return partial(forwarded, before, peer, scheme)
        named = partial(x_forwarded_host, scheme) if port else _only_host
        if self._style == "x-forwarded":
            return named
        return lambda host: named(host) + forwarded(before, peer, scheme, host)

    def _others(self, special: Special) -> bytes:
        """Return the other lines of a trusted proxy, which pass as they are: X-Forwarded-*, and X-Client-Cert-*."""
        return b"".join(
            b"\r\n%b: %b" % (name.title(), value)
            for name, values in special.items()
            if name.startswith(self._passed) and name not in _RENDERED
            for value in values
        )

    def _said(self, request: Request) -> _Said:
        special = request.special
        if self._style == "rfc7239":
            # A malformed header names no client: the peer counts as the client then.
            found = hops(special.get(b"forwarded", ())) or [{}]
            nodes = [hop.get(b"for", b"") for hop in found] if found != [{}] else []
            return _Said(b"", nodes, found[-1].get(b"proto", b""), found[-1].get(b"host", b""))
        chain = b", ".join(special.get(b"x-forwarded-for", ()))
        return _Said(
            chain,
            chain.split(b","),
            _last(special.get(b"x-forwarded-proto")),
            _last(special.get(b"x-forwarded-host")),
        )

    def _client(self, nodes: Sequence[bytes], peer: str) -> str:
        """Return the rightmost address in the chain that is not a trusted proxy.

        Each proxy appends the address that it was called from. What stands to the left of the first untrusted address
        was sent by that client, which may have made it up (nginx: `real_ip_recursive on`).
        """
        for entry in reversed(nodes):
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


def _only_host(host: bytes) -> bytes:
    return b"\r\nX-Forwarded-Host: " + host if host else b""


def _last(values: list[bytes] | None) -> bytes:
    """Return the last of a header's values: the nearest proxy wrote that."""
    return values[-1].split(b",")[-1].strip(OWS) if values else b""


def _scheme(value: bytes) -> bytes | None:
    return value if _PROTO.fullmatch(value) else None


def _host(value: bytes) -> bytes | None:
    """Return the host that a proxy was asked for, if it could be a Host; else ours is passed on."""
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
