"""Ask of a transport's socket what asyncio has no words for."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios

__all__ = ["reset_on_close", "unsent"]

_RESET = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Have the close tell the other end that what it has is not all."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes the other end has not taken yet, the kernel's included.

    The kernel wakes a writer only when a third of its buffer is free, which for a slow reader can be
    longer than any timeout: what it still holds is the only sign of progress.
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
