"""Write the PROXY protocol header that begins a connection to an upstream. Pure.

HAProxy's `proxy-protocol.txt` defines it: version 1 (2.1) is a line of text, version 2 (2.2) is binary. The header tells
the upstream whose connection is forwarded. It comes before everything else, TLS included.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

__all__ = ["Ends", "ProxyVersion", "local_header", "proxy_header"]

ProxyVersion = Literal["v1", "v2"]
Address = IPv4Address | IPv6Address

_V1_UNKNOWN = b"PROXY UNKNOWN\r\n"
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
# Version 2 in the upper four bits, the command in the lower ones.
_V2_LOCAL, _V2_PROXY = b"\x20", b"\x21"
_V2_UNSPEC, _V2_TCP4, _V2_TCP6 = b"\x00", b"\x11", b"\x21"


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a client's connection, as the socket has them; a host is "" where it is not known.

    A port is 0 where it is not known, or where the address was reported by a proxy in front of the gateway.
    """

    client: str
    client_port: int
    local: str
    local_port: int


def proxy_header(version: ProxyVersion, ends: Ends) -> bytes:
    """Return the header for a connection that carries the requests of a client."""
    client, local = _parsed(ends.client), _parsed(ends.local)
    if client is None:  # a client on a Unix socket
        return _V1_UNKNOWN if version == "v1" else _v2(_V2_PROXY, _V2_UNSPEC)
    client, local = _of_one_family(client, local)
    ports = ends.client_port, ends.local_port
    if version == "v1":
        text = f"PROXY TCP{client.version} {client} {local} {ports[0]} {ports[1]}\r\n"
        return text.encode("ascii")
    numbers = b"".join(port.to_bytes(2, "big") for port in ports)
    family = _V2_TCP4 if client.version == 4 else _V2_TCP6
    return _v2(_V2_PROXY, family, client.packed + local.packed + numbers)


def local_header(version: ProxyVersion) -> bytes:
    """Return the header for a connection of the gateway's own: a health check carries no client's request."""
    return _V1_UNKNOWN if version == "v1" else _v2(_V2_LOCAL, _V2_UNSPEC)


def _v2(command: bytes, family: bytes, addresses: bytes = b"") -> bytes:
    return _V2_SIGNATURE + command + family + len(addresses).to_bytes(2, "big") + addresses


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # a zone means something on this host only
    except ValueError:
        return None
    # A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _of_one_family(client: Address, local: Address | None) -> tuple[Address, Address]:
    """Return both addresses in one family, because the header has only one.

    A client that a proxy has reported may be of another family than our socket. As HAProxy does, the IPv4 address is
    then written as an IPv6 address.
    """
    if local is None:  # the gateway was asked over a Unix socket, by a proxy that told the client
        return client, IPv4Address(0) if client.version == 4 else IPv6Address(0)
    if client.version == local.version:
        return client, local
    return _as_ipv6(client), _as_ipv6(local)


def _as_ipv6(address: Address) -> Address:
    return address if address.version == 6 else IPv6Address(f"::ffff:{address}")
