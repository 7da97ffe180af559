"""Let the workers of one gateway tell each other what only one of them was told.

Facts.

- A message arrives whole, and those of one worker arrive in the order in which it told them. Messages of two workers may
  cross.
- Best effort: a worker that does not read (it is stopped by a debugger, say) loses what is too much to be kept for it. It
  is told so, on every topic (`MISSED`), and asks.
- A worker hears nothing of what was told before it began. It asks, too.

What carries the messages is a `Channel`: sockets that were made before the fork (`Lines`, here), or sockets that unrelated
processes find in a directory (`meeting`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

__all__ = ["MISSED", "Channel", "Line", "Lines", "Message", "Siblings", "lines"]

log = logging.getLogger(__name__)

Message = dict[str, Any]

# Messages keep their bounds, and none is lost on the way. macOS has no such sockets of the Unix kind.
_KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_LARGEST = 128 * 1024  # bytes: under the kernel's default for one message
# A worker that does not read must not fill the memory of the others. Twice as many as there can be registrations
# and memories of those that left.
_WAITING = 16384

MISSED: Message = {"op": "missed"}
"""What a worker hears instead of what it was told while it did not listen: it is to ask."""
_ALL_TOPICS = ""


class Channel(Protocol):
    """The sockets that lead to the other workers; none of them blocks."""

    name: str  # the others reach this worker by it

    def open(self) -> socket.socket | None:
        """Return the socket to read from; None: there are no others. Raises OSError."""

    def ways(self, to: str | None) -> Iterable[tuple[str, socket.socket]]:
        """Return the name of each other worker and the socket to it; or only of the one named `to`."""

    def lost(self, name: str) -> None:
        """Forget a worker whose process is gone."""

    def close(self) -> None:
        """Let go of what `open` opened."""


@dataclass(frozen=True, slots=True)
class Line:
    """The two ends of the way to one worker."""

    read: socket.socket
    write: socket.socket

    def close(self) -> None:
        """Close both ends. What is told on the line later is lost."""
        self.read.close()
        self.write.close()


def lines(workers: int) -> tuple[Line, ...]:
    """Return a line to each of so many workers, to be made before they are forked."""
    made = []
    for _ in range(workers):
        read, write = socket.socketpair(socket.AF_UNIX, _KIND)
        read.setblocking(False)
        write.setblocking(False)
        made.append(Line(read, write))
    return tuple(made)


class Lines(Channel):
    """The channel of workers that one process forks.

    Every worker reads from its own line, and can write to all. The lines outlive the workers, so that a
    replacement reads on where a dead one stopped.
    """

    def __init__(self, among: Sequence[Line] = (), at: int = 0) -> None:
        """Be the worker at that place among the lines; without lines there are no others."""
        self.name = str(at)
        self._mine = among[at].read if among else None
        self._others = {str(i): line.write for i, line in enumerate(among) if i != at}

    def open(self) -> socket.socket | None:
        """Return this worker's end of its line."""
        return self._mine

    def ways(self, to: str | None) -> Iterable[tuple[str, socket.socket]]:
        """Return the other workers' lines."""
        if to is None:
            return tuple(self._others.items())
        return ((to, self._others[to]),) if to in self._others else ()

    def lost(self, name: str) -> None:
        """A dead worker's line waits for its replacement."""

    def close(self) -> None:
        """The lines are the process's that made them."""


class Siblings:
    """The other workers: `stores.shared.Facts` over a channel."""

    def __init__(self) -> None:
        """Have no others before the start."""
        self._channel: Channel = Lines()
        self._mine: socket.socket | None = None
        self._callbacks: dict[str, Callable[[Message], None]] = {}
        self._waiting: dict[socket.socket, deque[bytes]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def name(self) -> str:
        """How the others reach this worker, and only this one."""
        return self._channel.name

    @property
    def others(self) -> int:
        """How many other workers there are; one that was killed counts until it is found out."""
        return len([*self._channel.ways(None)]) if self._mine is not None else 0

    def start(self, loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
        """Hear and tell over a channel from now on. Raises OSError."""
        self._channel = channel
        self._mine = channel.open()
        self._loop = loop
        if self._mine is not None:
            loop.add_reader(self._mine, self._read, self._mine)

    def close(self) -> None:
        """Hear nothing any more, and say nothing."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        if self._mine is not None:
            loop.remove_reader(self._mine)
        for sock in self._waiting:
            loop.remove_writer(sock)
        self._waiting.clear()
        self._channel.close()

    def hear(self, topic: str, callback: Callable[[Message], None]) -> None:
        """Call back with whatever the others tell on a topic, and with MISSED; one callback a topic."""
        self._callbacks[topic] = callback

    def tell(self, topic: str, message: Message, to: str | None = None) -> None:
        """Tell all others, or the one of a name, in the order in which it is said."""
        if self._loop is None or self._mine is None:
            return
        data = orjson.dumps((topic, message))
        if len(data) > _LARGEST:
            log.error("too long to be told to the other workers: %d bytes", len(data))
            return
        for name, sock in self._channel.ways(to):
            self._send(name, sock, data)

    def _send(self, name: str, sock: socket.socket, data: bytes) -> None:
        waiting = self._waiting.get(sock)
        if waiting is None:
            if self._sent(name, sock, data) or self._loop is None:
                return
            waiting = self._waiting[sock] = deque()
            self._loop.add_writer(sock, self._send_on, name, sock)
        if len(waiting) == _WAITING:
            log.error("a worker does not hear the others; it will have to ask what it missed")
            waiting.clear()
            waiting.append(orjson.dumps((_ALL_TOPICS, MISSED)))
        waiting.append(data)

    def _send_on(self, name: str, sock: socket.socket) -> None:
        waiting = self._waiting[sock]
        while waiting:
            if not self._sent(name, sock, waiting[0]):
                return
            if waiting:
                waiting.popleft()
        self._wait_no_more(sock)

    def _sent(self, name: str, sock: socket.socket, data: bytes) -> bool:
        """Send it; False: there is no room. What is for a worker that is gone counts as sent."""
        try:
            sock.send(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            self._wait_no_more(sock)
            self._channel.lost(name)
        except OSError as error:
            # The system is short of memory, say: that is no reason to forget a worker.
            log.error("a message is lost: %s", error)  # noqa: TRY400 — in a sentence
        return True

    def _wait_no_more(self, sock: socket.socket) -> None:
        waiting = self._waiting.pop(sock, None)
        if waiting is not None:
            waiting.clear()
            if self._loop is not None:
                self._loop.remove_writer(sock)

    def _read(self, sock: socket.socket) -> None:
        while True:
            try:
                data = sock.recv(_LARGEST)
            except BlockingIOError:
                return
            if data:
                self._hear(data)
            elif sock.type is not socket.SOCK_DGRAM:
                # The supervisor is gone, and so shall we be in a moment.
                if self._loop is not None:
                    self._loop.remove_reader(sock)
                return

    def _hear(self, data: bytes) -> None:
        topic, message = orjson.loads(data)
        if topic == _ALL_TOPICS:
            for callback in self._callbacks.values():
                callback(message)
        elif topic in self._callbacks:
            self._callbacks[topic](message)
