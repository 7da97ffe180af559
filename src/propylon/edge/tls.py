"""Speak TLS with a client between its socket and the protocol of the edge, and let each side end by itself.

    socket ── ciphertext ──► TlsProtocol ── plaintext ──► GatewayProtocol
    socket ◄── ciphertext ── TlsTransport ◄── plaintext ── GatewayProtocol

Facts. The TLS transports of asyncio and uvloop close both directions as soon as the client ends its own, by a close_notify
or by a FIN: they log `returning true from eof_received() has no effect when using ssl`, and the answer is lost. But a client
of TLS may half-close as any client of TCP (RFC 8446, 6.1), and `socat` does.

Rules.

1. The client's end, a close_notify or a FIN, is the end of its input. The protocol says whether the connection goes on.
2. Our end is a close_notify and then a FIN. What comes behind it is not decrypted any more: it is only counted and thrown
   away.
3. No handshake takes longer than it may, and one that fails is closed without a line in the log: scanners fail all day.
4. Who sends plain HTTP is a person with `http://` in the address bar, or a configuration with it. They are told (as by nginx, 497).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any, cast

__all__ = ["TlsProtocol"]

log = logging.getLogger(__name__)

_PLAIN_TEXT = b"This port speaks HTTPS: write https:// instead of http:// in the address.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(_PLAIN_TEXT), _PLAIN_TEXT)
)
_READ = 64 * 1024  # bytes asked of OpenSSL at a time; it returns one record, 16 KiB at the most


class TlsProtocol(asyncio.Protocol):
    """The protocol of the socket: decrypts for `protocol`, which is told of the connection after the handshake."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_first",
        "_handshake_timer",
        "_incoming",
        "_loop",
        "_outgoing",
        "_protocol",
        "_tls",
        "connected",
        "paused",
        "raw",
        "sent_eof",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        protocol: asyncio.Protocol,
        loop: asyncio.AbstractEventLoop,
        handshake_timeout: float,
    ) -> None:
        """Show the client the certificate of `context`, and wait `handshake_timeout` seconds for its handshake."""
        self._protocol = protocol
        self._loop = loop
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._handshake_timer = loop.call_later(handshake_timeout, self.abort)
        self._ended = False  # the client sends no more
        self._first = b""  # its first byte
        self.raw: asyncio.Transport | None = None
        self.connected = False  # the handshake is done
        self.paused = False
        self.sent_eof = False

    # The socket: asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's first message."""
        self.raw = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol, if it knows of the connection."""
        self._handshake_timer.cancel()
        self.raw = None
        if self.connected:
            self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Decrypt what has come, or go on with the handshake."""
        if self.sent_eof:
            if self.connected:
                self._protocol.data_received(data)
            return
        self._first = self._first or data[:1]
        self._incoming.write(data)
        if self.connected or self._shakes_hands():
            self.deliver()

    def eof_received(self) -> bool:
        """Tell the protocol that the client sends no more; return whether the connection goes on."""
        return self.connected and self._end_input()

    def pause_writing(self) -> None:
        """Have the protocol wait: the client reads slowly."""
        if self.connected:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Have the protocol go on."""
        if self.connected:
            self._protocol.resume_writing()

    # TLS

    def _shakes_hands(self) -> bool:
        """Take the next step of the handshake; return whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError:
            if self._first.isupper():  # a method begins so, and no record of TLS (RFC 8446, 5.1)
                self._refuse_plain_http()
            else:
                self._flush()  # the alert that tells the client why
                self.close()
            return False
        self._flush()
        self._handshake_timer.cancel()
        self.connected = True
        self._protocol.connection_made(TlsTransport(self))
        return True

    def _refuse_plain_http(self) -> None:
        """Answer in plain HTTP; what still comes is thrown away, until the client closes or its time is over."""
        if self.raw is None:
            return
        peer = self.raw.get_extra_info("peername")
        client = peer[0] if isinstance(peer, tuple) else "a Unix socket"
        log.info("plain HTTP from %s on the TLS port: it was told to use https://", client)
        self.sent_eof = True
        self.raw.write(_PLAIN_ANSWER)
        self.raw.write_eof()

    def deliver(self) -> None:
        """Hand the protocol all plaintext that is there, and then the end if the client has sent one."""
        pieces: list[bytes] = []
        ended = failed = False
        try:
            while not self.paused and not ended:
                piece = self._tls.read(_READ)
                pieces.append(piece)
                ended = not piece
        except ssl.SSLWantReadError:
            self._flush()  # what OpenSSL answers by itself, such as a new key
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self._flush()
            failed = True
        data = b"".join(pieces)
        if data:
            self._protocol.data_received(data)
        if failed:
            self.abort()
        elif ended and not self._end_input():
            self.close()

    def deliver_soon(self) -> None:
        """Deliver in another turn of the loop what came while the protocol had paused."""
        if self._incoming.pending or self._tls.pending():
            self._loop.call_soon(self._deliver_late)

    def _deliver_late(self) -> None:
        if self.raw is not None and not self.sent_eof:
            self.deliver()

    def _end_input(self) -> bool:
        if self._ended:
            return (
                True  # the protocol was told at the close_notify, and the FIN says the same again
            )
        self._ended = True
        return bool(self._protocol.eof_received())

    def _flush(self) -> None:
        if self._outgoing.pending and self.raw is not None and not self.raw.is_closing():
            self.raw.write(self._outgoing.read())

    def write(self, data: bytes) -> None:
        """Encrypt the data and send it; what the peer cannot take yet is buffered."""
        if self.raw is None or self.sent_eof or not data:
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self.abort()
        else:
            self._flush()

    def send_close_notify(self) -> None:
        """Tell the client that this was all: without it, a truncated answer would look like a whole one (RFC 8446, 6.1)."""
        if self.sent_eof or not self.connected:
            return
        self.sent_eof = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # The close_notify is written, and the client's is not there yet: that is no failure.
            self._flush()
        else:
            self._flush()

    def close(self) -> None:
        """Close both directions, when what was written has gone out."""
        self.send_close_notify()
        if self.raw is not None:
            self.raw.close()

    def abort(self) -> None:
        """Close at once."""
        if self.raw is not None:
            self.raw.abort()

    @property
    def receiver(self) -> asyncio.Protocol:
        """The protocol that gets the plaintext."""
        return self._protocol

    def hand_to(self, protocol: asyncio.Protocol) -> None:
        """Hand the plaintext to another protocol from now on."""
        self._protocol = protocol

    def told_of(self, name: str, default: Any = None) -> Any:
        """Return what asyncio's TLS transports tell about a connection, or about its socket."""
        known = {"ssl_object": self._tls, "sslcontext": self._tls.context}
        if name == "peercert":
            return self._tls.getpeercert()
        if name in known:
            return known[name]
        return default if self.raw is None else self.raw.get_extra_info(name, default)


class TlsTransport(asyncio.Transport):
    """The transport that the protocol of the edge sees."""

    __slots__ = ("_tls",)

    def __init__(self, tls: TlsProtocol) -> None:
        """Write to `tls`."""
        super().__init__()
        self._tls = tls

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes to another protocol from now on: a tunnel's."""
        self._tls.hand_to(cast("asyncio.Protocol", protocol))

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that gets what comes."""
        return self._tls.receiver

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the TLS session or of the socket."""
        return self._tls.told_of(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`."""
        self._tls.write(bytes(data))

    def can_write_eof(self) -> bool:
        """Return True: our direction can be closed alone."""
        return True

    def write_eof(self) -> None:
        """Close our direction, when what was written has gone out."""
        self._tls.send_close_notify()
        if self._tls.raw is not None:
            self._tls.raw.write_eof()

    def is_closing(self) -> bool:
        """Tell whether it is closed, or is going to be."""
        return self._tls.raw is None or self._tls.raw.is_closing()

    def close(self) -> None:
        """Close both directions, when what was written has gone out."""
        self._tls.close()

    def abort(self) -> None:
        """Close at once."""
        self._tls.abort()

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes wait in this process."""
        return 0 if self._tls.raw is None else self._tls.raw.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Hand over no more until `resume_reading`."""
        self._tls.paused = True
        if self._tls.raw is not None:
            self._tls.raw.pause_reading()

    def resume_reading(self) -> None:
        """Hand over what has come meanwhile, in another turn of the loop, and read on."""
        self._tls.paused = False
        if self._tls.raw is not None:
            self._tls.raw.resume_reading()
            self._tls.deliver_soon()
