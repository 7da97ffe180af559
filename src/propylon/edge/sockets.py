"""Ask a transport's socket for a reset, for which asyncio has no API, and a connection for its two ends."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from propylon.wire.proxy_header import Ends

__all__ = ["ends_from", "ends_of", "reset_on_close"]

# `struct linger`: on, with a timeout of 0. The kernel then sends RST instead of FIN.
_LINGER_ZERO = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the close a reset (RST), so that the peer sees that its data is not complete.

    With a FIN, an answer that is delimited by the close would look whole (RFC 9112, 8).
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def ends_of(transport: asyncio.Transport | None) -> Ends:
    """Return the addresses and ports of a client's connection; empty ones once it is closed."""
    if transport is None:
        return ends_from(None, None)
    return ends_from(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))


def ends_from(client: Any, local: Any) -> Ends:
    """Return the ends for two socket addresses, or for the `client` and `server` of an ASGI scope."""
    return Ends(*_host_and_port(client), *_host_and_port(local))


def _host_and_port(address: Any) -> tuple[str, int]:
    # A Unix socket has a path, or nothing. A zone (RFC 4007) is no part of what the rest of the gateway calls the client.
    if not isinstance(address, tuple | list) or len(address) < 2 or not isinstance(address[1], int):
        return "", 0
    return str(address[0]).partition("%")[0], address[1]
