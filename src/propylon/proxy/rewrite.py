"""Replace the part of a path that a route matched (`strip_prefix`, `rewrite`), and tell which part that is. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from propylon.errors import Forbidden, InvalidRequest
from propylon.proxy.template import Name, Values

__all__ = ["Rewrite", "after"]

_SLASHES = b"/\\"
# A value in a path is one segment for every reader: what ends one, or begins one above it, after a second decoding too.
_UNSAFE = re.compile(rb"[\x00-\x1f\x7f/\\%;?#]|\A\.{1,2}\Z")
_OF_TOKEN = frozenset({"claim", "user"})

Piece = bytes | int | Name
"""Literal; the number of a segment of the path that stands there, as it was sent; or a name, whose value stands there."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What replaces the first `segments` segments of a path, those that the route matched.

    The replacement ends without a slash; `slash` says that the operator wrote one. `text` is what the operator wrote, empty
    for `strip_prefix`.
    """

    segments: int
    pieces: tuple[Piece, ...] = ()
    slash: bool = False
    text: str = ""

    @property
    def strips(self) -> bool:
        """Whether a part of the path is taken away and nothing put in its place."""
        return self.segments > 0 and not self.pieces

    @property
    def names(self) -> tuple[Name, ...]:
        """What is filled in besides segments of the path."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Name))

    def filled(self, path: bytes, values: Values) -> Rewrite:
        """Return the same with the values of one request in the places of the names.

        Raises Forbidden where the token lacks one, InvalidRequest where the request lacks one, or it cannot stand in a path.
        """
        pieces = [
            _filled(piece, values) if isinstance(piece, Name) else piece for piece in self.pieces
        ]
        filled = Rewrite(self.segments, tuple(pieces), self.slash, self.text)
        # Of two harmless pieces a dot segment may have been made.
        if any(segment in (b".", b"..") for segment in filled.replacement(path).split(b"/")):
            raise _unfit(self.names[0])
        return filled

    def prefix(self, path: bytes) -> bytes:
        """Return the part of the path that is replaced, as the client sent it, and safe to begin a reference with."""
        # Browsers read a backslash as a slash (WHATWG URL, 4.4): `/\evil.test` of a `/{name}` would be another host.
        return path[: after(path, self.segments)].replace(b"\\", b"%5C")

    def replacement(self, path: bytes) -> bytes:
        """Return what replaces it; of the names nothing, which `filled` puts there."""
        if all(isinstance(piece, bytes) for piece in self.pieces):
            return b"".join([piece for piece in self.pieces if isinstance(piece, bytes)])
        sent = path.split(b"/")[1:]
        made = [
            sent[piece] if isinstance(piece, int) else b"" if isinstance(piece, Name) else piece
            for piece in self.pieces
        ]
        return b"".join(made)

    def apply(self, path: bytes, base: bytes) -> bytes:
        """Return the path that the upstream gets, behind the base path of its instance."""
        rest = path[after(path, self.segments) :]
        # The path of the route itself becomes the replacement itself: as the operator wrote it, with or without a slash.
        if rest == b"/" and (self.slash or not self.segments):
            rest = b""
        if self.slash and not rest:
            rest = b"/"
        changed = base + self.replacement(path) + rest
        # `//host/x` is a URL of another host to a reader of references (RFC 3986, 4.2), and many upstreams redirect to it.
        if changed[1:2] and changed[1:2] in _SLASHES:
            changed = changed.lstrip(_SLASHES)
            return b"/" + changed
        return changed or b"/"


def _filled(name: Name, values: Values) -> bytes:
    value = values.plain(name)
    if not value and name.kind in _OF_TOKEN:
        msg = f"The token has no {name.of or name.kind}, which this path needs"
        raise Forbidden(msg)
    if not value or _UNSAFE.search(value) is not None:
        raise _unfit(name)
    return quote(value, safe="").encode("ascii")


def _unfit(name: Name) -> InvalidRequest:
    return InvalidRequest(
        f"The {name.kind} {name.of} cannot be put into the path".replace("  ", " ")
    )


def after(path: bytes, segments: int) -> int:
    """Return where the path goes on after that many segments."""
    position = 0
    for _ in range(segments):
        position = path.find(b"/", position + 1)
        if position < 0:
            return len(path)
    return position
