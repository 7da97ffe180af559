"""Speak WebSocket byte by byte: a raw client over the gateway, and a strict upstream that echoes."""

import base64
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.client import Answer, Ended, Headers, RawClient, request
from tests.support.upstream import Arrived, Gone, Peer

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADERS = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)


def frame(
    opcode: int, payload: bytes = b"", *, masked: bool = True, fin: bool = True, rsv: int = 0
) -> bytes:
    """One frame; a client's is masked."""
    length, bit = len(payload), 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    repeated = key * (length // 4 + 1)
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
    return head + key + mixed.to_bytes(length, "big")


def close(code: int, reason: str = "", *, masked: bool = True) -> bytes:
    """A close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode(), masked=masked)


@dataclass
class Frame:
    """One frame as it arrived."""

    opcode: int
    payload: bytes
    fin: bool
    masked: bool

    @property
    def code(self) -> int:
        """The code of a close frame; 1005 without one."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005

    @property
    def reason(self) -> str:
        """The reason of a close frame."""
        return self.payload[2:].decode()


def _whole(buffer: bytearray) -> tuple[int, int, bool] | None:
    """Where the payload of the frame at the beginning begins and ends, None if it is not whole."""
    if len(buffer) < 2:
        return None
    masked, length, start = bool(buffer[1] & 0x80), buffer[1] & 0x7F, 2
    if length > 125:
        size = 2 if length == 126 else 8
        if len(buffer) < 2 + size:
            return None
        length, start = int.from_bytes(buffer[2 : 2 + size], "big"), 2 + size
    start += 4 if masked else 0
    return (start, start + length, masked) if len(buffer) >= start + length else None


def take(buffer: bytearray) -> Frame | None:
    """Take a whole frame off the buffer."""
    found = _whole(buffer)
    if found is None:
        return None
    start, end, masked = found
    payload = bytes(buffer[start:end])
    if masked:
        repeated = bytes(buffer[start - 4 : start]) * (len(payload) // 4 + 1)
        number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
        payload = number.to_bytes(len(payload), "big")
    taken = Frame(buffer[0] & 0x0F, payload, bool(buffer[0] & 0x80), masked)
    del buffer[:end]
    return taken


class Socket:
    """A client's WebSocket over a raw connection."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.answer: Answer | None = None

    def shake(self, target: str, headers: Headers = (), *, host: str = "gw.test") -> Answer:
        """Send a handshake and read the answer."""
        self.client.send(handshake(target, headers, host=host))
        self.answer = self.client.read()
        return self.answer

    def open(self, target: str, headers: Headers = (), *, host: str = "gw.test") -> "Socket":
        """The same, where it has to succeed."""
        answer = self.shake(target, headers, host=host)
        assert answer.status == 101, (answer.head, answer.body)
        assert answer.get("upgrade") == "websocket"
        assert (answer.get("connection") or "").lower() == "upgrade"
        assert answer.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        return self

    def say(self, text: str) -> "Socket":
        """Send a text."""
        self.client.send(frame(TEXT, text.encode()))
        return self

    def hear(self, *, data: bool = False) -> Frame:
        """Read a frame; with `data`, drop pings and pongs before it. Raises Ended."""
        while True:
            found = take(self.client.buffer)
            if found is None:
                self.client.buffer += self.client.receive()
            elif not (data and found.opcode in {PING, PONG}):
                assert not found.masked
                return found

    def ask(self, text: str) -> str:
        """Send a text and return what comes back."""
        return self.say(text).hear(data=True).payload.decode()

    def farewell(self) -> Frame:
        """Read the close frame that ends it, answer it, and see that the connection ends without a second one."""
        while (found := self.hear()).opcode != CLOSE:
            pass
        self.client.send(frame(CLOSE, found.payload[:2]))
        assert CLOSE not in [one.opcode for one in self.rest()]
        return found

    def rest(self) -> Iterator[Frame]:
        """Every frame until the connection ends."""
        while True:
            try:
                yield self.hear()
            except Ended:
                return


def handshake(
    target: str,
    headers: Headers = (),
    *,
    host: str = "gw.test",
    without: tuple[str, ...] = (),
    method: str = "GET",
    version: str = "1.1",
) -> bytes:
    """A handshake as a browser sends it; `headers` come behind, `without` leaves some of its own out."""
    own = [(name, value) for name, value in _HEADERS if name not in without]
    return request(method, target, [*own, *headers], host=host, version=version)


def accept(key: bytes) -> bytes:
    """What proves that the key was read."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def agree(peer: Peer, arrived: Arrived, *, more: bytes = b"") -> None:
    """Answer a handshake with a 101, and with the first subprotocol that was offered."""
    key = arrived.get("sec-websocket-key")
    assert key
    assert arrived.get("sec-websocket-version") == "13"
    protocols = [
        name.strip()
        for value in arrived.all("sec-websocket-protocol")
        for name in value.split(b",")
    ]
    chosen = b"\r\nSec-WebSocket-Protocol: " + protocols[0] if protocols else b""
    peer.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
        b"\r\nSec-WebSocket-Accept: %b%b%b\r\n\r\n" % (accept(key.encode()), chosen, more)
    )


def read_frame(peer: Peer) -> Frame:
    """Read a client's frame; one that is not masked is a fault. Raises Gone."""
    while (found := take(peer.buffer)) is None:
        peer.buffer += peer.receive()
    if not found.masked:
        peer.upstream.faults.append(f"a frame that is not masked: {found}")
    return found


def converse(peer: Peer) -> None:
    """Echo messages, answer pings and closes. Some texts ask for something else. Raises Gone."""
    fragments = b""
    while True:
        found = read_frame(peer)
        if found.opcode == CLOSE:
            peer.note_close(found.code, found.reason)
            peer.send(frame(CLOSE, found.payload, masked=False))
            peer.close()
        elif found.opcode == PING:
            peer.send(frame(PONG, found.payload, masked=False))
        elif found.opcode == PONG:
            continue
        elif not found.fin or (found.opcode == 0 and fragments):
            fragments += found.payload
            if found.fin:
                peer.send(frame(BINARY, fragments, masked=False))
                fragments = b""
        else:
            _answer(peer, found)


def _answer(peer: Peer, found: Frame) -> None:
    word, _, rest = found.payload[:64].partition(b" ")
    if word == b"close":
        code, _, reason = rest.partition(b" ")
        peer.send(close(int(code), reason.decode(), masked=False))
        answered = read_frame(peer)
        peer.note_close(answered.code, answered.reason)
        peer.close()
    elif word == b"die":
        peer.reset()
    elif word == b"leave":
        peer.close()
    elif word == b"half":  # of a frame, whose rest never comes
        peer.send(b"\x82\x7e\x01\x00half")
        peer.wait_gone(Arrived("", b"", b"", [], 0))
    elif word == b"flood":
        for _ in range(int(rest)):
            peer.send(frame(BINARY, b"x" * 65536, masked=False))
    else:
        peer.send(frame(found.opcode, found.payload, masked=False))


def echo(peer: Peer, arrived: Arrived) -> None:
    """A WebSocket that echoes. Raises Gone."""
    agree(peer, arrived)
    converse(peer)
    raise Gone
