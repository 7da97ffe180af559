"""Speak HTTP/1.1 byte by byte: a raw client that knows exactly how each answer ended."""

import contextlib
import json
import re
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.support.secrecy import SECRECY

TIMEOUT = 20.0  # seconds: whoever waits so long waits in vain, however busy the machine is
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})( [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_RESET = struct.pack("ii", 1, 0)

Headers = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """One answer as it arrived; `ended` says how: whole, close (delimited by it), cut or reset."""

    status: int
    head: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    ended: str = "whole"
    chunked: bool = False
    trailers: bytes = b""
    interim: list["Answer"] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the client knows that it has everything."""
        return self.ended == "whole"

    def all(self, name: str) -> list[bytes]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def get(self, name: str) -> str | None:
        """The only value of a header; two are a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0].decode("latin-1") if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Ended(Exception):
    """The connection ended before what was read for was there; says how."""


class RawClient:
    """A connection to a gateway: whatever bytes are wanted, and strict reading of what comes back."""

    def __init__(self, port: int, *, timeout: float = TIMEOUT, window: int = 0) -> None:
        self.port = port
        self.sock = socket.socket()
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.broken = False  # a write failed: the other side has closed

    @classmethod
    def over(cls, sock: socket.socket) -> Self:
        """The same over a socket that is connected already: a Unix socket, or one that speaks TLS."""
        client = cls.__new__(cls)
        sock.settimeout(TIMEOUT)
        client.port, client.sock = 0, sock
        client.buffer = bytearray()
        client.broken = False
        return client

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
        """Write everything, or note that nobody reads it any more."""
        SECRECY.note_sent(data)
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.broken = True
        return self

    def trickle(self, data: bytes, size: int = 1, pause: float = 0.0) -> Self:
        """Write in pieces of `size` bytes, each a segment of its own."""
        for start in range(0, len(data), size):
            self.send(data[start : start + size])
            if self.broken:
                break
            if pause:
                time.sleep(pause)
        return self

    def half_close(self) -> Self:
        """Say that nothing more will be sent."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True
        return self

    def reset(self) -> None:
        """Leave rudely."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()

    def receive(self, size: int = 262_144) -> bytes:
        """Read whatever is there. Raises Ended."""
        try:
            data = self.sock.recv(size)
        except ConnectionResetError:
            raise Ended("reset") from None
        if not data:
            raise Ended("close")
        return data

    def has_come(self, mark: bytes) -> Self:
        """Read until that is there, and take nothing of it. Raises Ended."""
        while mark not in self.buffer:
            self.buffer += self.receive()
        return self

    def _until(self, mark: bytes) -> bytes:
        while (end := self.buffer.find(mark)) < 0:
            self.buffer += self.receive()
        taken = bytes(self.buffer[: end + len(mark)])
        del self.buffer[: end + len(mark)]
        return taken

    def _exactly(self, size: int, into: bytearray) -> None:
        while True:
            piece = self.buffer[:size]
            into += piece
            del self.buffer[: len(piece)]
            size -= len(piece)
            if not size:
                return
            self.buffer += self.receive()

    def read(self, method: str = "GET") -> Answer:
        """Read one final answer, the 1xx before it in its `interim`. Raises Ended before its head."""
        interim = []
        while (answer := self._head()).status < 200 and answer.status != 101:
            interim.append(answer)
        answer.interim = interim
        self._body(answer, method)
        return answer

    def _head(self) -> Answer:
        head = self._until(b"\r\n\r\n")
        line, *lines = head[:-4].split(b"\r\n")
        matched = _STATUS_LINE.fullmatch(line)
        assert matched, f"no status line: {line!r}"
        headers = []
        for text in lines:
            pair = _FIELD.fullmatch(text)
            assert pair, f"no header line: {text!r}"
            headers.append((pair[1], pair[2]))
        return Answer(int(matched[1]), head, headers)

    def _body(self, answer: Answer, method: str) -> None:
        lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
        assert len(lengths) <= 1, f"two lengths: {answer.head!r}"
        assert not (lengths and codings), f"a length and a coding: {answer.head!r}"
        if method == "HEAD" or answer.status < 200 or answer.status in {204, 304}:
            return
        body = bytearray()
        try:
            if codings:
                assert codings == [b"chunked"], answer.head
                answer.chunked = True
                answer.trailers = self._chunks(body)
            elif lengths:
                assert re.fullmatch(rb"[0-9]{1,18}", lengths[0]), answer.head
                self._exactly(int(lengths[0]), body)
            else:
                answer.ended = "close"
                body += self.buffer
                self.buffer.clear()
                while True:
                    body += self.receive()
        except Ended as error:
            how = str(error)
            if answer.ended != "close" or how == "reset":
                answer.ended = "reset" if how == "reset" else "cut"
                body += self.buffer
        answer.body = bytes(body)
        SECRECY.note_issued(answer.body)

    def _chunks(self, body: bytearray) -> bytes:
        while True:
            line = self._until(b"\r\n")
            assert re.fullmatch(rb"[0-9A-Fa-f]{1,15}\r\n", line), f"chunk size {line!r}"
            size = int(line, 16)
            if not size:
                break
            self._exactly(size, body)
            end = bytearray()
            self._exactly(2, end)
            assert end == b"\r\n", f"after a chunk: {bytes(end)!r}"
        trailers = b""
        while (line := self._until(b"\r\n")) != b"\r\n":
            trailers += line
        return trailers

    def rest(self) -> bytes:
        """Read until the connection ends, by whatever means."""
        data = bytearray(self.buffer)
        self.buffer.clear()
        with contextlib.suppress(Ended):
            while True:
                data += self.receive()
        return bytes(data)

    def is_closed(self, within: float = 10.0) -> bool:
        """Whether the other side closes within that time, with nothing more to say."""
        if self.buffer:
            return False
        self.sock.settimeout(within)
        try:
            self.buffer += self.receive()
        except Ended:
            return True
        except TimeoutError:
            return False
        return False


def request(
    method: str = "GET",
    target: str = "/up/x",
    headers: Headers = (),
    body: bytes = b"",
    *,
    host: str = "gw.test",
    version: str = "1.1",
) -> bytes:
    """A well-formed request, its length said where it has a body."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """A body in the chunked coding."""
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n" + trailers + b"\r\n"


def post_chunked(target: str, coded: bytes, headers: Headers = ()) -> bytes:
    """A POST whose body is in the chunked coding."""
    return request("POST", target, [*headers, ("Transfer-Encoding", "chunked")]) + coded


def ask(
    port: int,
    method: str = "GET",
    target: str = "/up/x",
    headers: Headers = (),
    body: bytes = b"",
    *,
    host: str = "gw.test",
) -> Answer:
    """One request on a connection of its own."""
    with RawClient(port) as client:
        return client.send(request(method, target, headers, body, host=host)).read(method)
