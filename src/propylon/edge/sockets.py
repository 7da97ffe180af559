"""Ask a transport's socket for two things that asyncio has no API for: a reset, and the size of the send queue."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios

__all__ = ["reset_on_close", "unsent"]

# `struct linger`: on, with a timeout of 0. The kernel then sends RST instead of FIN.
_LINGER_ZERO = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the close a reset (RST), so that the peer sees that its data is not complete.

    With a FIN, an answer that is delimited by the close would look whole (RFC 9112, 8).
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes the peer has not acknowledged yet: the transport's buffer and the kernel's queue.

    The kernel reports a socket as writable only when a third of its send buffer is free. With a slow reader that can
    take longer than any timeout, so the size of the kernel's queue is the only sign of progress.
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None:
        return waiting
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")  # SIOCOUTQ, on Linux
    except OSError:
        return waiting
    queued: int = struct.unpack("i", answer)[0]
    return waiting + queued
