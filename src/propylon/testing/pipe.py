"""The two ends of a connection in memory: what one end writes, the protocol of the other one receives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

__all__ = ["connect"]

# Bytes that may wait for a reader; asyncio's own high-water mark.
_HIGH_WATER = 64 * 1024


class _End(asyncio.Transport):
    """One end. Its protocol gets everything in turns of the loop of their own, as from a socket."""

    other: _End

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, peer: str
    ) -> None:
        super().__init__({"peername": (peer, 40_000), "sockname": ("192.0.2.254", 80)})
        self._loop = loop
        self._protocol = protocol
        self._arrived: deque[bytes | None] = deque()  # None: the other end writes no more
        self._reads = True
        self._closing = False
        self._lost = False
        self._writer_waits = False

    @property
    def waiting(self) -> int:
        """Bytes that have arrived and were not read."""
        return sum(len(data) for data in self._arrived if data is not None)

    def open(self) -> None:
        """Tell the protocol."""
        self._protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Hand over to the other end."""
        if self._closing or not data:
            return
        self.other.arrive(bytes(data))
        if self.other.waiting > _HIGH_WATER and not self._writer_waits:
            self._writer_waits = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Hand over, piece by piece."""
        self.write(b"".join(list_of_data))

    def arrive(self, data: bytes | None) -> None:
        """Take what the other end wrote; None: it writes no more."""
        self._arrived.append(data)
        self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._arrived and self._reads and not self._lost:
            data = self._arrived.popleft()
            protocol = cast("asyncio.Protocol", self._protocol)
            if data is not None:
                protocol.data_received(data)
            elif not protocol.eof_received():
                self.close()
        self.other.resume()

    def resume(self) -> None:
        """Let the protocol write again, if it waits and the other end has read."""
        if self._writer_waits and self.other.waiting <= _HIGH_WATER // 2:
            self._writer_waits = False
            self._protocol.resume_writing()

    def close(self) -> None:
        """End the connection after what was written."""
        if not self._closing:
            self._closing = True
            self.other.arrive(None)
            self._loop.call_soon(self.lose, None)

    def abort(self) -> None:
        """End the connection at once, as a reset does."""
        self._closing = True
        self._loop.call_soon(self.lose, None)
        self._loop.call_soon(self.other.lose, ConnectionResetError("Connection reset by peer"))

    def lose(self, error: Exception | None) -> None:
        """Tell the protocol that the connection is lost, once."""
        if not self._lost:
            self._lost = self._closing = True
            self._arrived.clear()
            self._protocol.connection_lost(error)

    def write_eof(self) -> None:
        """Write no more."""
        if not self._closing:
            self.other.arrive(None)

    def can_write_eof(self) -> bool:
        """As of a TCP connection."""
        return True

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is lost."""
        return self._closing

    def pause_reading(self) -> None:
        """Deliver nothing for now."""
        self._reads = False

    def resume_reading(self) -> None:
        """Deliver again."""
        self._reads = True
        self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        """Whether what arrives is delivered."""
        return self._reads

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has not read."""
        return self.other.waiting

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return what it delivers to."""
        return self._protocol


def connect(
    loop: asyncio.AbstractEventLoop,
    client: asyncio.Protocol,
    server: asyncio.Protocol,
    address: str,
) -> asyncio.Transport:
    """Connect two protocols; `address` is the client's. Return the client's end."""
    near, far = _End(loop, client, "192.0.2.254"), _End(loop, server, address)
    near.other, far.other = far, near
    far.open()
    near.open()
    return near
