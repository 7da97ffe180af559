"""Hold what a head said, once it has been checked. Pure."""

from __future__ import annotations

from propylon.wire.headers import Special
from propylon.wire.headers import fields as split

__all__ = ["CHUNKED", "LOOKED_AT", "NO_BODY", "UNTIL_CLOSE", "Fields", "Request", "Response"]

# Body lengths that are not a number of bytes. Negative, so that `length >= 0` asks for a known one.
NO_BODY = -1
CHUNKED = -2
UNTIL_CLOSE = -3


# Special headers of a request that stay in its block all the same.
LOOKED_AT = frozenset(
    {
        b"authorization",
        b"origin",
        b"access-control-request-method",
        b"access-control-request-headers",
    }
)
_PRIVACY = frozenset({b"x-privacy-level", b"dnt", b"sec-gpc"})
_ORDINARY = LOOKED_AT | _PRIVACY | {b"host", b"connection"}


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
        "private",
        "remembered",
        "special",
        "tokenless",
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
        self.plain = special.keys() <= _ORDINARY  # no header has to be put back
        self.private = not special.keys().isdisjoint(_PRIVACY)  # a wish for privacy is among them
        # The block without the token, once somebody has needed that.
        self.tokenless: bytes | None = None
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
        "private",
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
        self.private = fields.private
        self.special = fields.special
        self.version = fields.version
        self.host = fields.host
        self.authority = fields.authority
        self.length = fields.length
        self.keep_alive = fields.keep_alive
        self.expects_continue = fields.expects_continue
        self.upgrade = fields.upgrade

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header field that is known of, names in lower case; for policies, not for speed."""
        special = [
            (name, value)
            for name, sent in self.special.items()
            if name not in LOOKED_AT
            for value in sent
        ]
        found = [(name.lower(), value) for name, value in split(self.block)]
        return [(name.decode("ascii"), value.decode("latin-1")) for name, value in special + found]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the case of its name."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

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
