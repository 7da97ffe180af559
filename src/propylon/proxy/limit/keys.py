"""Make the key that a request is counted by: its caller, its address, a header, a claim, or several of them. Pure.

Rules.

1. What a request does not have, its address stands for: a header that is missing, a claim of a token without one, the
   caller of a request without a token. So leaving something out never gives a client another budget.
2. Keys of different kinds are never alike: no client can write an address into a header and spend another one's budget.
3. A key is short, whatever the client sends: a long value counts by its digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

from propylon.names.addresses import IPV6_BITS, subnet
from propylon.proxy.principal import Principal
from propylon.wire.cookies import cookie
from propylon.wire.grammar import OWS
from propylon.wire.message import Request

__all__ = [
    "KeyOf",
    "by_address",
    "by_caller",
    "by_claim",
    "by_cookie",
    "by_header",
    "by_name",
    "by_query",
    "by_segment",
    "joined",
]

KeyOf = Callable[[Request, Principal, str], str]
"""The key of a request, made of the request, its principal and its client address."""

_LONGEST = 64  # characters
_DIGEST = 24  # bytes
# Kept, because taking an IPv6 address apart costs as much as all the rest of a decision.
_SUBNETS = 4096


def by_address(bits: int = IPV6_BITS) -> KeyOf:
    """Return a key that is the client's address; IPv6 clients count by a network of so many bits."""
    network = lru_cache(_SUBNETS)(lambda client: subnet(client, bits))

    def key_of(request: Request, principal: Principal, client: str) -> str:  # noqa: ARG001
        return network(client) if ":" in client else client

    return key_of


def by_caller(address: KeyOf) -> KeyOf:
    """Return a key that is the caller, the pair of issuer and subject."""

    def key_of(request: Request, principal: Principal, client: str) -> str:
        # Inlined from `Principal.caller`. An address holds no line end, and this key does.
        subject = principal.subject
        if not subject:
            return address(request, principal, client)
        key = f"{subject}\n{principal.issuer}"
        return key if len(key) <= _LONGEST else _digest(key)

    return key_of


def by_name(name: str) -> KeyOf:
    """Return the same key for all requests: the name of the route or the service, or nothing."""

    def key_of(request: Request, principal: Principal, client: str) -> str:  # noqa: ARG001
        return name

    return key_of


def by_header(name: str, address: KeyOf) -> KeyOf:
    """Return a key that is the value of a header, all of them if the client repeats it."""
    # Only in the block: what is removed from there (identity and X-Forwarded-* of a client) counts as missing.
    line = re.compile(rb"\r\n" + re.escape(name.encode("ascii")) + rb":([^\r\n]*)", re.IGNORECASE)

    def key_of(request: Request, principal: Principal, client: str) -> str:
        values = [value.strip(OWS) for value in line.findall(request.block)]
        text = b",".join(values).decode("latin-1")
        return _short(text) if text else address(request, principal, client)

    return key_of


def by_claim(read: Callable[[Principal], object], address: KeyOf) -> KeyOf:
    """Return a key that is a claim of the token; `read` returns it, or None if there is none."""

    def key_of(request: Request, principal: Principal, client: str) -> str:
        value = read(principal)
        if value is None or value == "":
            return address(request, principal, client)
        # As JSON, so that the number 1 and the text "1" differ, and a list has one spelling.
        return _short(json.dumps(value, sort_keys=True, default=str))

    return key_of


def by_cookie(name: str, address: KeyOf) -> KeyOf:
    """Return a key that is the value of a cookie, the first of that name."""
    wanted = name.encode("ascii")

    def key_of(request: Request, principal: Principal, client: str) -> str:
        value = cookie(request.block, wanted)
        return _short(value.decode("latin-1")) if value else address(request, principal, client)

    return key_of


def by_query(name: str, address: KeyOf) -> KeyOf:
    """Return a key that is the value of a parameter as it was sent, the first of that name."""
    start = quote(name, safe="").encode("ascii") + b"="

    def key_of(request: Request, principal: Principal, client: str) -> str:
        pairs = request.query[1:].split(b"&")
        value = next((pair[len(start) :] for pair in pairs if pair.startswith(start)), b"")
        return _short(value.decode("latin-1")) if value else address(request, principal, client)

    return key_of


def by_segment(at: int, address: KeyOf) -> KeyOf:
    """Return a key that is a segment of the path as it was sent, counted from 0."""

    def key_of(request: Request, principal: Principal, client: str) -> str:
        segments = request.path.split(b"/", at + 2)
        value = segments[at + 1] if len(segments) > at + 1 else b""
        return _short(value.decode("latin-1")) if value else address(request, principal, client)

    return key_of


def joined(keys: Sequence[KeyOf]) -> KeyOf:
    """Return a key made of several: each combination is counted for itself."""
    if len(keys) == 1:
        return keys[0]

    def key_of(request: Request, principal: Principal, client: str) -> str:
        # No part can hold a NUL: subjects, headers and addresses have none, JSON escapes it.
        return "\0".join([key(request, principal, client) for key in keys])

    return key_of


def _short(text: str) -> str:
    return f"={text}" if len(text) <= _LONGEST else _digest(text)


def _digest(text: str) -> str:
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_DIGEST)
    return f"#{digest.hexdigest()}"
