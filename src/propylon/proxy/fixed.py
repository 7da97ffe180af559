"""Answer without an upstream: a fixed answer, or a redirect.

A client must not choose where a redirect leads. Scheme and host are the operator's; what the client has sent is put behind
them, with every byte escaped that could end a path, begin another host, or begin a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from propylon.proxy.exchange import Exchange
from propylon.proxy.rewrite import after
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.message import NO_BODY, Request, Response

__all__ = ["Fixed", "Piece", "Redirected", "answer_of"]

_BODILESS = frozenset({204, 304})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# Of a path (RFC 3986, 3.3); its escapes were checked when it was read. Of a query, whole (3.4).
_IN_PATH, _IN_QUERY = "/%!$&'()*+,;=:@~", "/?%!$&'()*+,;=:@~"

Piece = bytes | tuple[Literal["path", "value"], int] | Literal["query"]
"""A part of a target: literal; a segment of the path by its number, or what follows the route's path (-1), in a path or as a
value; or the client's query."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The forward stage of a route with `respond`. `block` are its header lines, without Content-Length."""

    status: int
    block: bytes
    body: bytes

    async def __call__(self, *_: object) -> Answer:
        """Return the answer."""
        return answer_of(self.status, self.block, self.body)


@dataclass(frozen=True, slots=True)
class Redirected:
    """The forward stage of a route with `redirect`. `segments` is how many segments the route matches."""

    status: int
    pieces: tuple[Piece, ...]
    segments: int

    async def __call__(self, _: Exchange, request: Request, __: Route) -> Answer:
        """Return the answer."""
        target = self.target(request.path, request.query)
        return answer_of(self.status, b"\r\nLocation: " + target, b"")

    def target(self, path: bytes, query: bytes) -> bytes:
        """Return where a path and its query, which begins with `?` or is empty, are sent."""
        sent = path.split(b"/")[1:]
        # Without its slashes: behind the operator's own slash they would begin another host.
        rest = path[after(path, self.segments) :].lstrip(b"/\\")
        made = []
        for piece in self.pieces:
            if isinstance(piece, bytes):
                made.append(piece)
            elif isinstance(piece, str):
                made.append(quote(query, safe=_IN_QUERY).encode("ascii"))
            else:
                kind, at = piece
                made.append(_escaped(rest if at < 0 else sent[at], kind))
        return b"".join(made)


def _escaped(text: bytes, kind: Literal["path", "value"]) -> bytes:
    if kind == "path":
        return quote(text, safe=_IN_PATH).encode("ascii")
    return quote(unquote_to_bytes(text), safe="").encode("ascii")


def answer_of(status: int, block: bytes, body: bytes) -> Answer:
    """Return an answer of the gateway's own. `block` are its header lines, without Content-Length."""
    reason = f" {status} {_PHRASES.get(status, '')}".encode("ascii")
    length = NO_BODY if status in _BODILESS else len(body)
    if length >= 0:
        block += b"\r\nContent-Length: %d" % length
    return Reply(Response(status, reason, block, length, keep_alive=True), body, None)
