"""Read the PROXY header of a connection that a trusted peer has made, before TLS and HTTP begin.

The header is taken from the socket byte by byte as far as it goes, and no further: what follows may be a TLS handshake,
which has to find all of its bytes. So a listener without the PROXY protocol does not pay for it at all.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from propylon.loop.ticker import Ticker
from propylon.wire.proxy_protocol import MAX_WAITING, ProxyHeader, ProxyHeaderError

__all__ = ["Preface"]

log = logging.getLogger(__name__)


class Preface:
    """An accepted connection whose PROXY header is still arriving."""

    __slots__ = ("_header", "_loop", "_peer", "_sock", "_then", "_ticker", "deadline")

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        ticker: Ticker,
        deadline: float,
        then: Callable[[Preface, socket.socket | None, str | None], None],
    ) -> None:
        """Wait for the header until `deadline`; call `then` with the socket, and the client's address if it says one.

        The socket is None if the connection has been closed: without a whole and valid header.
        """
        self._sock = sock
        self._peer = peer
        self._ticker = ticker
        self._then = then
        self._header = ProxyHeader()
        self._loop = asyncio.get_running_loop()
        self.deadline = deadline
        ticker.watch(self)
        self._loop.add_reader(sock, self._readable)

    def _readable(self) -> None:
        try:
            if self._take():
                self._leave()
                self._then(self, self._sock, self._header.source)
        except (BlockingIOError, InterruptedError):
            return
        except ProxyHeaderError as error:
            log.info("closed a connection of %s: %s", self._peer or "a Unix socket", error)
            self.close()
        except OSError:  # the peer has reset the connection
            self.close()

    def _take(self) -> bool:
        """Take what belongs to the header; return whether it is whole. Raises ProxyHeaderError, OSError."""
        waiting = self._sock.recv(MAX_WAITING, socket.MSG_PEEK)
        if not waiting:
            # A health check of a load balancer may connect and leave without a word.
            raise ConnectionResetError
        taken = self._header.feed(waiting)
        while taken:
            taken -= len(self._sock.recv(taken))
        return self._header.done

    def expire(self) -> None:
        """Close the connection: the header did not arrive in time."""
        log.info(
            "closed a connection of %s: no PROXY header in time", self._peer or "a Unix socket"
        )
        self.close()

    def close(self) -> None:
        """Close the connection without an answer: not a byte of HTTP has come yet."""
        self._leave()
        self._sock.close()
        self._then(self, None, None)

    def _leave(self) -> None:
        self._ticker.forget(self)
        self._loop.remove_reader(self._sock)
