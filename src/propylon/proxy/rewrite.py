"""Replace the part of a path that a route matched (`strip_prefix`, `rewrite`), and tell which part that is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Rewrite", "after"]

_SLASHES = b"/\\"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What replaces the first `segments` segments of a path, those that the route matched.

    `pieces` are literal, or the number of a segment of the path that stands there. The replacement ends without a slash;
    `slash` says that the operator wrote one. `text` is what the operator wrote, empty for `strip_prefix`.
    """

    segments: int
    pieces: tuple[bytes | int, ...] = ()
    slash: bool = False
    text: str = ""

    @property
    def strips(self) -> bool:
        """Whether a part of the path is taken away and nothing put in its place."""
        return self.segments > 0 and not self.pieces

    def prefix(self, path: bytes) -> bytes:
        """Return the part of the path that is replaced, as the client sent it, and safe to begin a reference with."""
        # Browsers read a backslash as a slash (WHATWG URL, 4.4): `/\evil.test` of a `/{name}` would be another host.
        return path[: after(path, self.segments)].replace(b"\\", b"%5C")

    def replacement(self, path: bytes) -> bytes:
        """Return what replaces it."""
        if not any(isinstance(piece, int) for piece in self.pieces):
            return b"".join([piece for piece in self.pieces if isinstance(piece, bytes)])
        sent = path.split(b"/")[1:]
        return b"".join([sent[piece] if isinstance(piece, int) else piece for piece in self.pieces])

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


def after(path: bytes, segments: int) -> int:
    """Return where the path goes on after that many segments."""
    position = 0
    for _ in range(segments):
        position = path.find(b"/", position + 1)
        if position < 0:
            return len(path)
    return position
