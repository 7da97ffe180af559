"""Write scripts for the upstream: what it answers, how, and what it does wrong."""

import hashlib
import time
from collections.abc import Callable, Iterable

from tests.support.upstream import Arrived, Peer, Script

End = Callable[[Peer], None]


def close(peer: Peer) -> None:
    """Close in an orderly way."""
    peer.close()


def reset(peer: Peer) -> None:
    """Close with a reset."""
    peer.reset()


def keep(peer: Peer) -> None:
    """Leave the connection open for the next request."""


def plain(
    status: str = "200 OK", headers: Iterable[str] = (), body: bytes = b"", *, end: End = keep
) -> Script:
    """An ordinary answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not status.startswith(("204", "304")):
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        peer.send(head + (b"" if arrived.method == "HEAD" else body))
        end(peer)

    return script


def raw(*pieces: bytes, pause: float = 0.0, end: End = keep, early: bool = False) -> Script:
    """These very bytes, piece by piece; `early`: before the request's body is read."""

    def script(peer: Peer, arrived: Arrived) -> None:
        if not early:
            peer.read_body(arrived)
        for number, piece in enumerate(pieces):
            if number and pause:
                peer.pause(pause)
            peer.send(piece)
        end(peer)

    return script


def hang(peer: Peer, arrived: Arrived) -> None:
    """Never answer; note when the gateway gives up."""
    peer.read_body(arrived)
    peer.wait_gone(arrived)


def after(seconds: float, script: Script) -> Script:
    """The script, a little later."""

    def later(peer: Peer, arrived: Arrived) -> None:
        peer.pause(seconds)
        script(peer, arrived)

    return later


def in_turn(*scripts: Script) -> Script:
    """Another script for each request, the last one for all that follow."""
    left = list(scripts)

    def script(peer: Peer, arrived: Arrived) -> None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(peer, arrived)

    return script


def endless(piece: bytes, first: bytes = b"", pause: float = 0.0) -> Script:
    """`first`, and then one piece after the other, until nobody takes them."""

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        peer.send(first)
        try:
            while True:
                peer.send(piece, pause=pause)
        finally:
            arrived.cancelled = time.monotonic()

    return script


def flood(size: int, piece: int = 65536) -> tuple[Script, str]:
    """A body of that size, and its digest."""
    block = bytes(range(256)) * (piece // 256)
    digest = hashlib.sha256()
    for _ in range(size // piece):
        digest.update(block)

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // piece):
            peer.send(block)

    return script, digest.hexdigest()
