"""Judge the hosts that clients send. Pure."""

from __future__ import annotations

from functools import lru_cache

from propylon.errors import InvalidRequest
from propylon.wire.grammar import HOST, MAX_PORT

__all__ = ["host_name"]


@lru_cache(maxsize=256)
def host_name(host: bytes) -> bytes:
    """Return the name in a Host, in lower case and without its port. Raises InvalidRequest."""
    # Cached, because connections repeat few hosts, and bounded, because clients choose them.
    match = HOST.fullmatch(host)
    if match is None or (match["port"] and int(match["port"]) > MAX_PORT):
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    # RFC 1034, 3.1: the name with a dot at its end is the same name.
    name = match["name"].lower().removesuffix(b".")
    # No name has an empty label (RFC 1035, 2.3.1). An upstream that drops it would see the host of
    # another route.
    if not name or b".." in b".%b." % name:
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    return name
