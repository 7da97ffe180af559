"""Ask a transport's socket for a reset, for which asyncio has no API."""

from __future__ import annotations

import asyncio
import socket
import struct

__all__ = ["reset_on_close"]

# `struct linger`: on, with a timeout of 0. The kernel then sends RST instead of FIN.
_LINGER_ZERO = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the close a reset (RST), so that the peer sees that its data is not complete.

    With a FIN, an answer that is delimited by the close would look whole (RFC 9112, 8).
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
