"""Play an upstream: a scripted peer that records every byte, and judges strictly what it gets."""

import contextlib
import hashlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.client import Answer
from tests.support.secrecy import SECRECY
from tests.support.strict import faults_in_head

_RESET = struct.pack("ii", 1, 0)
_KEPT = 1 << 20  # of a body, and of the raw record: uploads are only hashed
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}\r\n")


class Gone(Exception):
    """The gateway closed the connection."""


@dataclass
class Arrived:
    """One request as it arrived."""

    method: str
    target: bytes
    head: bytes
    headers: list[tuple[bytes, bytes]]
    connection: int
    body: bytearray = field(default_factory=bytearray)
    length: int = 0
    hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    trailers: bytes = b""
    complete: bool = False
    started: float = field(default_factory=time.monotonic)
    cancelled: float = 0.0

    def all(self, name: str) -> list[bytes]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def get(self, name: str) -> str | None:
        """The only value of a header; two are a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0].decode("latin-1") if values else None

    @property
    def names(self) -> set[str]:
        """The names of its headers, in lower case."""
        return {name.lower().decode("latin-1") for name, _ in self.headers}

    def take(self, data: bytes) -> None:
        """Count a piece of its body."""
        self.hash.update(data)
        self.length += len(data)
        if len(self.body) < _KEPT:
            self.body += data


Script = Callable[["Peer", Arrived], None]


class Peer:
    """One connection from the gateway."""

    def __init__(self, upstream: "Upstream", sock: socket.socket, number: int) -> None:
        self.upstream = upstream
        self.sock = sock
        self.number = number
        self.buffer = bytearray()
        self.epoch = upstream.epoch
        self.busy = False

    def receive(self) -> bytes:
        """Read whatever comes. Raises Gone."""
        try:
            data = self.sock.recv(262_144)
        except OSError:
            data = b""
        if not data:
            raise Gone
        if not self.busy and not self.buffer:
            self.epoch = self.upstream.epoch
        self.upstream.note_raw(self, data)
        return data

    def send(self, data: bytes, *, pause: float = 0.0) -> None:
        """Write everything. Raises Gone."""
        SECRECY.note_sent(data)
        try:
            self.sock.sendall(data)
        except OSError:
            raise Gone from None
        if pause:
            self.pause(pause)

    def pause(self, seconds: float) -> None:
        """Do nothing for a while, unless the upstream is closed. Raises Gone."""
        if self.upstream.stopping.wait(seconds):
            raise Gone

    def note_close(self, code: int, reason: str) -> None:
        """Keep how a WebSocket was closed, of the current test only."""
        if self.epoch == self.upstream.epoch:
            self.upstream.closes.append((code, reason))

    def close(self) -> None:
        """Close in an orderly way. Raises Gone."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        raise Gone

    def reset(self) -> None:
        """Close with a reset. Raises Gone."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise Gone

    def wait_gone(self, arrived: Arrived) -> None:
        """Answer nothing until the gateway gives up, and note when. Raises Gone."""
        try:
            while True:
                self.receive()
        finally:
            arrived.cancelled = time.monotonic()

    def _until(self, mark: bytes) -> bytes:
        while (end := self.buffer.find(mark)) < 0:
            self.buffer += self.receive()
        taken = bytes(self.buffer[: end + len(mark)])
        del self.buffer[: end + len(mark)]
        return taken

    def read_head(self) -> Arrived:
        """Read the next request's head, and judge it. Raises Gone."""
        self.busy = False
        head = self._until(b"\r\n\r\n")
        self.busy = True
        self.upstream.faults += faults_in_head(
            head, identified=self.upstream.identified, upgrades=self.upstream.upgrades
        )
        line, *lines = head[:-4].split(b"\r\n")
        parts = [*line.split(b" "), b"", b""]
        headers = []
        for text in lines:
            name, _, value = text.partition(b":")
            headers.append((name, value.strip(b" \t")))
        arrived = Arrived(parts[0].decode("latin-1"), parts[1], head, headers, self.number)
        if self.epoch == self.upstream.epoch:
            self.upstream.requests.append(arrived)
        return arrived

    def read_body(self, arrived: Arrived, *, slowly: float = 0.0) -> None:
        """Read the body that the head announced, in pieces with pauses if wanted. Raises Gone."""
        if arrived.complete:
            return
        if arrived.all("transfer-encoding"):
            self._read_chunks(arrived)
        elif arrived.all("content-length"):
            self._read_length(arrived, int(arrived.all("content-length")[0]), slowly)
        arrived.complete = True

    def _read_length(self, arrived: Arrived, size: int, slowly: float = 0.0) -> None:
        while size:
            if not self.buffer:
                self.buffer += self.receive()
            piece = bytes(self.buffer[:size])
            del self.buffer[: len(piece)]
            size -= len(piece)
            arrived.take(piece)
            if slowly:
                self.pause(slowly)

    def _read_chunks(self, arrived: Arrived) -> None:
        while True:
            line = self._until(b"\r\n")
            if _SIZE.fullmatch(line) is None:
                self.upstream.faults.append(f"chunk size {line!r}")
                raise Gone
            size = int(line, 16)
            if not size:
                break
            self._read_length(arrived, size)
            if (end := self._until(b"\r\n")) != b"\r\n":
                self.upstream.faults.append(f"after a chunk: {end!r}")
                raise Gone
        while (line := self._until(b"\r\n")) != b"\r\n":
            arrived.trailers += line


class Upstream:
    """A listening upstream; `on` says what it does for a path, an echo is what it does otherwise.

    `identified`: it stands behind authentication, so that identity headers may reach it, once each. `upgrades`: another
    protocol may be offered to it.
    """

    def __init__(
        self,
        *,
        greeting: bytes = b"",
        fallback: Script | None = None,
        identified: bool = False,
        upgrades: bool = False,
        port: int = 0,
    ) -> None:
        self.listener = self.listen(port)
        address = self.listener.getsockname()
        self.port: int = address[1] if isinstance(address, tuple) else 0
        self.greeting = greeting
        self.identified = identified
        self.upgrades = upgrades
        self.fallback = fallback or ok
        self.scripts: dict[bytes, Script] = {}
        self.requests: list[Arrived] = []
        self.raw = bytearray()
        self.faults: list[str] = []
        self.closes: list[tuple[int, str]] = []  # of WebSockets: codes and reasons of what came in
        self.connections = 0
        self.epoch = 0
        self.stopping = threading.Event()
        self._peers: set[Peer] = set()
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def listen(self, port: int) -> socket.socket:
        """Listen on a port, any free one if it is 0."""
        return socket.create_server(("127.0.0.1", port), backlog=512)

    def on(self, path: str, script: Script) -> str:
        """Answer requests for the path (without its query) with the script; return the path."""
        self.scripts[path.encode()] = script
        return path

    def reset(self) -> None:
        """Forget what was recorded and scripted, and what has arrived and was not read yet."""
        self.wait(self._is_quiet, 5)
        self.epoch += 1
        self.scripts.clear()
        self.requests.clear()
        self.raw.clear()
        self.faults.clear()
        self.closes.clear()

    @property
    def last(self) -> Arrived:
        """The latest request, as soon as there is one: who answers in our place may be faster than we."""
        assert self.wait(lambda: self.requests), "nothing arrived"
        return self.requests[-1]

    def of(self, answer: Answer) -> Arrived:
        """The request that got this answer, as soon as it is there; it is known by its id.

        The latest one may be another: of a request that was refused in the middle of its body, the head
        may still come in when its client has its answer, and the next case has begun.
        """
        identity, found = answer.get("x-request-id"), list[Arrived]()
        assert identity

        def came() -> bool:
            found.extend(one for one in self.requests if one.get("x-request-id") == identity)
            return bool(found)

        assert self.wait(came), f"{identity} did not arrive"
        return found[0]

    @property
    def idle(self) -> list[Peer]:
        """Open connections on which nothing is going on."""
        return [peer for peer in set(self._peers) if not peer.busy]

    def arrived(self, target: str) -> Arrived:
        """The first request for that target, as soon as it is there."""
        found: list[Arrived] = []

        def came() -> bool:
            found.extend(one for one in self.requests if one.target == target.encode())
            return bool(found)

        assert self.wait(came), f"{target} did not arrive"
        return found[0]

    def wait(self, true: Callable[[], object], within: float = 20.0) -> bool:
        """Whether it becomes true in time."""
        deadline = time.monotonic() + within
        while not true():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Close the listener and every connection."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for peer in set(self._peers):
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(3)
        self.listener.close()

    def _is_quiet(self) -> bool:
        """Whether no connection waits to be accepted, and none that is idle has anything to read."""
        waiting = select.poll()
        for sock in [self.listener, *(peer.sock for peer in self.idle)]:
            if (number := sock.fileno()) >= 0:
                waiting.register(number, select.POLLIN)
        return not waiting.poll(0)

    def note_raw(self, peer: Peer, data: bytes) -> None:
        """Keep what came in, of the current test only."""
        if peer.epoch == self.epoch and len(self.raw) < _KEPT:
            self.raw += data

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads = [old for old in self._threads if old.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            peer = Peer(self, sock, self.connections)
            self._peers.add(peer)
            self._spawn(self._serve, peer)

    def _serve(self, peer: Peer) -> None:
        try:
            self.serve(peer)
        finally:
            self._peers.discard(peer)

    def serve(self, peer: Peer) -> None:
        """Serve one connection to its end."""
        try:
            if self.greeting:
                peer.send(self.greeting)
            while True:
                arrived = peer.read_head()
                path = arrived.target.partition(b"?")[0]
                self.scripts.get(path, self.fallback)(peer, arrived)
                peer.busy = False
        except Gone:
            return
        finally:
            peer.sock.close()


def ok(peer: Peer, arrived: Arrived) -> None:
    """Read the request and say what was in it: method, target, digest of the body."""
    peer.read_body(arrived)
    said = f"{arrived.method} {arrived.target.decode('latin-1')} {arrived.hash.hexdigest()}"
    body = b"" if arrived.method == "HEAD" else said.encode("latin-1")
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), body))
