"""Ask a transport how many bytes the peer has not got yet."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios

__all__ = ["unsent"]


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
    except (OSError, ValueError):  # a closed socket has the descriptor -1
        return waiting
    queued: int = struct.unpack("i", answer)[0]
    return waiting + queued
