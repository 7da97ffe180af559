"""Hold what a head said, once it has been checked. Pure."""

from __future__ import annotations

__all__ = ["CHUNKED", "NO_BODY", "UNTIL_CLOSE", "Request", "Response"]

# Body lengths that are not a number of bytes. Negative, so that `length >= 0` asks for a known one.
NO_BODY = -1
CHUNKED = -2
UNTIL_CLOSE = -3

Special = dict[bytes, list[bytes]]


class Request:
    """A request head as it came in: validated, with the lines that do not pass already taken out.

    `block` holds the header lines that may go to the upstream, in order and byte for byte.
    `special` maps the lower-case names of the others (those with a meaning for a gateway) to
    their values. `length` is the body's length in bytes, or `NO_BODY` or `CHUNKED`.
    `host` is the authority as sent; `authority` is lower-case and without a port, for matching.
    """

    __slots__ = (
        "authority",
        "block",
        "expects_continue",
        "host",
        "keep_alive",
        "length",
        "method",
        "path",
        "query",
        "special",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: str,
        path: bytes,
        query: bytes,
        version: int,
        block: bytes,
        special: Special,
    ) -> None:
        """Take the parts that every request has; the rest starts at its plainest value."""
        self.method = method
        self.path = path
        self.query = query  # with its "?", or empty
        self.version = version  # the minor one: HTTP/1.0 or HTTP/1.1
        self.block = block
        self.special = special
        self.host = b""
        self.authority = b""
        self.length = NO_BODY
        self.keep_alive = version == 1
        self.expects_continue = False
        self.upgrade = b""

    @property
    def target(self) -> bytes:
        """The origin-form of the target, byte for byte as sent."""
        return self.path + self.query

    def first(self, name: bytes) -> bytes | None:
        """Return the first value of a special header by its lower-case name."""
        values = self.special.get(name)
        return values[0] if values else None

    def __repr__(self) -> str:
        """Show the request line, never a header: those may hold secrets."""
        return f"<Request {self.method} {self.path!r}>"


class Response:
    """A response head as the upstream sent it: validated, hop-by-hop lines taken out.

    `reason` is everything between the version and the line's end (` 200 OK`), so that it can pass
    as it is. `length` is the body's length in bytes, or `NO_BODY`, `CHUNKED` or `UNTIL_CLOSE`.
    """

    __slots__ = ("block", "keep_alive", "length", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, block: bytes, length: int, *, keep_alive: bool
    ) -> None:
        """Take the parts; nothing has a default, because nothing is safe to guess."""
        self.status = status
        self.reason = reason
        self.block = block
        self.length = length
        self.keep_alive = keep_alive

    def __repr__(self) -> str:
        """Show the status and the framing."""
        return f"<Response {self.status} length={self.length}>"
