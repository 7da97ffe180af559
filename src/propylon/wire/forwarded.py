"""Read and write the lines that tell an upstream of the client: X-Forwarded-Host and -Port, and Forwarded (RFC 7239). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from propylon.wire.grammar import FORWARDED_PAIR, HOST, TOKEN

__all__ = ["Hop", "forwarded", "hops", "x_forwarded_host"]

# RFC 9110, 4.2: the port that a scheme has where none is written.
_PORTS = {"http": b"80", "https": b"443", "ws": b"80", "wss": b"443"}
_ESCAPED = re.compile(rb"\\(.)")
_QUOTED = re.compile(rb'["\\]')

# What one proxy says of the one before it: the pairs of a forwarded-element (4), names in lower case.
Hop = dict[bytes, bytes]


@lru_cache(maxsize=1024)
def x_forwarded_host(scheme: str, host: bytes) -> bytes:
    """Return the block that names the Host that a client asked for, and the port in it; empty without a Host.

    The port is the one that the client wrote, as in Traefik: behind a mapped port, the gateway's own would be another.
    """
    # Cached, because clients repeat few hosts, and bounded, because clients choose them.
    if not host:
        return b""
    match = HOST.fullmatch(host)
    port = match["port"] if match is not None else None
    return b"\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Port: %b" % (
        host,
        port or _PORTS.get(scheme, b"80"),
    )


@lru_cache(maxsize=1024)
def forwarded(before: bytes, peer: str, scheme: str, host: bytes) -> bytes:
    """Return the block with Forwarded: what proxies said `before`, then who asked, how, and for which Host."""
    pairs = [(b"for", _node(peer)), (b"host", host), (b"proto", scheme.encode())]
    element = b";".join([b"%b=%b" % (name, _value(value)) for name, value in pairs if value])
    return b"\r\nForwarded: " + (before + b", " if before else b"") + element


def _node(peer: str) -> bytes:
    """Return the node of an address (6): IPv6 in brackets; a Unix socket has none."""
    if not peer:
        return b"unknown"
    return (f"[{peer}]" if ":" in peer else peer).encode()


def _value(value: bytes) -> bytes:
    return value if TOKEN.fullmatch(value) else b'"%b"' % _QUOTED.sub(rb"\\\g<0>", value)


def hops(lines: Iterable[bytes]) -> list[Hop] | None:
    """Return the elements of all Forwarded lines, the nearest proxy's last; None if any of it is malformed."""
    text = b", ".join(lines)
    found: list[Hop] = [{}]
    position = 0
    while position < len(text):
        match = FORWARDED_PAIR.match(text, position)
        if match is None or (name := match[1].lower()) in found[-1]:
            return None  # 4: each parameter must not occur more than once in an element
        quoted = match[3]
        found[-1][name] = match[2] if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        position = match.end()
        mark = text[position : position + 1]
        if mark not in (b"", b";", b","):
            return None
        if mark == b",":
            found.append({})
        position += 1
    return [hop for hop in found if hop]
