"""Let the workers of one gateway tell each other what only one of them was told.

The supervisor makes a pair of sockets for each worker before it forks: every worker reads from its own, and
can write to all. They outlive the workers, so that a replacement reads on where a dead one stopped.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["MISSED", "Line", "Siblings", "lines"]

log = logging.getLogger(__name__)

# Messages keep their bounds, and nobody's are lost; macOS has no such sockets of the Unix kind.
_KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_LARGEST = 128 * 1024  # bytes: under the kernel's default for one message
# A worker that does not read (it is stopped by a debugger, say) must not fill the memory of the others.
# Twice as many as there can be registrations and memories of those that left.
_WAITING = 16384

MISSED = {"op": "missed"}
"""What a worker hears instead of what it was told while it did not listen: it is to ask."""


@dataclass(frozen=True, slots=True)
class Line:
    """The two ends of the way to one worker."""

    read: socket.socket
    write: socket.socket


def lines(workers: int) -> tuple[Line, ...]:
    """Return a line to each of so many workers, to be made before they are forked."""
    made = []
    for _ in range(workers):
        read, write = socket.socketpair(socket.AF_UNIX, _KIND)
        read.setblocking(False)
        write.setblocking(False)
        made.append(Line(read, write))
    return tuple(made)


class Siblings:
    """The other workers."""

    def __init__(self, among: Sequence[Line] = (), place: int = 0) -> None:
        """Be the worker at that place among the lines; without lines there is nobody else."""
        self.place = place
        self._mine = among[place].read if among else None
        self._others = {at: line.write for at, line in enumerate(among) if at != place}
        self._waiting: dict[socket.socket, deque[bytes]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(
        self, loop: asyncio.AbstractEventLoop, heard: Callable[[dict[str, Any]], None]
    ) -> None:
        """Call `heard` with whatever the others tell, from now on."""
        self._loop = loop
        if self._mine is not None:
            loop.add_reader(self._mine, self._read, self._mine, heard)

    def close(self) -> None:
        """Hear nothing any more, and say nothing."""
        loop, self._loop = self._loop, None
        if loop is None or self._mine is None:
            return
        loop.remove_reader(self._mine)
        for sock in self._waiting:
            loop.remove_writer(sock)
        self._waiting.clear()

    def tell(self, message: dict[str, Any], to: int | None = None) -> None:
        """Tell all others, or the one at a place, in the order in which it is said."""
        data = orjson.dumps(message)
        if len(data) > _LARGEST:
            log.error("too long to be told to the other workers: %d bytes", len(data))
            return
        for place, sock in self._others.items():
            if to is None or to == place:
                self._send(sock, data)

    def _send(self, sock: socket.socket, data: bytes) -> None:
        waiting = self._waiting.get(sock)
        if waiting is None and _sent(sock, data):
            return
        if waiting is None and self._loop is not None:
            waiting = self._waiting[sock] = deque()
            self._loop.add_writer(sock, self._send_on, sock)
        if waiting is None:
            return
        if len(waiting) == _WAITING:
            log.error("a worker does not hear the others; it will have to ask what it missed")
            waiting.clear()
            waiting.append(orjson.dumps(MISSED))
        waiting.append(data)

    def _send_on(self, sock: socket.socket) -> None:
        waiting = self._waiting[sock]
        while waiting:
            if not _sent(sock, waiting[0]):
                return
            waiting.popleft()
        del self._waiting[sock]
        if self._loop is not None:
            self._loop.remove_writer(sock)

    def _read(self, sock: socket.socket, heard: Callable[[dict[str, Any]], None]) -> None:
        while True:
            try:
                data = sock.recv(_LARGEST)
            except BlockingIOError:
                return
            if not data:  # the supervisor is gone, and so shall we be in a moment
                if self._loop is not None:
                    self._loop.remove_reader(sock)
                return
            heard(orjson.loads(data))


def _sent(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.send(data)
    except BlockingIOError:
        return False
    return True
