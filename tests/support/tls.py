"""Speak TLS record by record: a client that can end its direction alone."""

import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.client import TIMEOUT, Ended, RawClient


class TlsClient(RawClient):
    """A connection to a TLS listener. The certificate is not checked: the cases are about the ends."""

    def __init__(self, port: int, *, version: ssl.TLSVersion | None = None) -> None:
        super().__init__(port, timeout=TIMEOUT)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)
        self._repeat(self.tls.do_handshake)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Self:
        """Encrypt and write everything, or note that the other side has closed."""
        if data:
            self.tls.write(data)
        self._flush()
        return self

    def send_close_notify(self) -> Self:
        """Say that nothing more will be sent, as TLS says it."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            self._flush()  # the other side has not said it yet
        return self

    def send_fin(self) -> Self:
        """Say that nothing more will be sent, as TCP says it."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def receive(self, size: int = 262_144) -> bytes:
        """Read whatever is there. Raises Ended."""
        try:
            data = self._repeat(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            data = b""
        if not data:
            raise Ended("close")
        return data

    def _repeat(self, step: Callable[[], bytes | None]) -> bytes:
        while True:
            try:
                found = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return found or b""

    def _fill(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            raise Ended("reset") from None
        if not data:
            raise Ended("cut")  # without a close_notify it may not be all
        self._incoming.write(data)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            super().send(data)
