"""Hold what a head said, once it has been checked. Pure."""

from __future__ import annotations

from propylon.wire.headers import Special

__all__ = ["CHUNKED", "NO_BODY", "UNTIL_CLOSE", "Fields", "Request", "Response"]

# Body lengths that are not a number of bytes. Negative, so that `length >= 0` asks for a known one.
NO_BODY = -1
CHUNKED = -2
UNTIL_CLOSE = -3


_ORDINARY = {b"host", b"connection"}


class Fields:
    """The header lines of a request, taken apart; shared by requests that repeat them.

    `block` holds the lines that may go to the upstream, in order and byte for byte. `special` maps
    the lower-case names of the others (those with a meaning for a gateway) to their values.
    `length` is the body's length in bytes, or `NO_BODY` or `CHUNKED`. `host` is the authority as
    sent; `authority` is lower-case and without a port, for matching.
    """

    __slots__ = (
        "authority",
        "block",
        "expects_continue",
        "host",
        "keep_alive",
        "length",
        "plain",
        "remembered",
        "special",
        "upgrade",
        "version",
    )

    def __init__(self, block: bytes, special: Special, version: int) -> None:
        """Start with the plainest reading; `version` is the minor one, HTTP/1.0 or HTTP/1.1."""
        self.block = block
        self.special = special
        self.version = version
        self.host = b""
        self.authority = b""
        self.length = NO_BODY
        self.keep_alive = version == 1
        self.expects_continue = False
        self.upgrade = b""
        self.plain = special.keys() <= _ORDINARY  # no header asks for more than its removal
        self.remembered = False  # may be taken for the next request, too


class Request:
    """A request head as it came in: validated, with the lines that do not pass already taken out.

    `line` is the request line in origin form, byte for byte as sent but for an absolute form's
    authority. The other attributes are those of `Fields`.
    """

    __slots__ = (
        "authority",
        "block",
        "expects_continue",
        "fields",
        "host",
        "keep_alive",
        "length",
        "line",
        "method",
        "path",
        "plain",
        "query",
        "special",
        "upgrade",
        "version",
    )

    def __init__(self, method: str, line: bytes, path: bytes, query: bytes, fields: Fields) -> None:
        """Take the parts of the request line, and what the header lines said."""
        self.method = method
        self.line = line
        self.path = path
        self.query = query  # with its "?", or empty
        self.fields = fields
        self.block = fields.block
        self.plain = fields.plain
        self.special = fields.special
        self.version = fields.version
        self.host = fields.host
        self.authority = fields.authority
        self.length = fields.length
        self.keep_alive = fields.keep_alive
        self.expects_continue = fields.expects_continue
        self.upgrade = fields.upgrade

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

    __slots__ = ("block", "keep_alive", "length", "pairs", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, block: bytes, length: int, *, keep_alive: bool
    ) -> None:
        """Take the parts; nothing has a default, because nothing is safe to guess."""
        self.status = status
        self.reason = reason
        self.block = block
        self.length = length
        self.keep_alive = keep_alive
        # The block taken apart, once somebody has needed that.
        self.pairs: list[tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        """Show the status and the framing."""
        return f"<Response {self.status} length={self.length}>"
