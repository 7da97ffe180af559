"""Define the values that a checked head becomes: `Request`, with its `Fields`, and `Response`. Pure."""

from __future__ import annotations

import re

from propylon.wire.grammar import FIELD_VALUE_TEXT, TOKEN_TEXT
from propylon.wire.headers import Special
from propylon.wire.headers import fields as split
from propylon.wire.offer import Handshake

__all__ = [
    "ASTERISK",
    "CHUNKED",
    "EXPLAIN",
    "LOOKED_AT",
    "NO_BODY",
    "UNTIL_CLOSE",
    "Fields",
    "Request",
    "Response",
]

# The target of a request that is for the gateway itself (RFC 9112, 3.2.4).
ASTERISK = b"*"
# The header with which a client asks why its request went as it did; it never goes upstream.
EXPLAIN = b"x-propylon-explain"
# Body lengths that are not a number of bytes. Negative, so that `length >= 0` asks for a known one.
NO_BODY = -1
CHUNKED = -2
UNTIL_CLOSE = -3


# Headers of a request that the gateway reads and that stay in its block: the upstream may want
# them, too. The other special ones are removed, and put back by the stage that decides about them.
LOOKED_AT = frozenset(
    {
        b"authorization",
        b"origin",
        b"access-control-request-method",
        b"access-control-request-headers",
    }
)
_MOST_NOTES = 32
_PRIVACY = frozenset({b"x-privacy-level", b"dnt", b"sec-gpc"})
# Framing and hop-by-hop headers (RFC 9112, 6; RFC 9110, 7.6.1), and what the gateway says of the client, the user, the
# request and the trace.
_WRITTEN_BY_US = re.compile(
    r"connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|content-length|upgrade|expect|host|max-forwards"
    r"|forwarded|x-forwarded-.*|x-real-ip|x-user-.*|x-client-cert-.*|x-request-id|traceparent|tracestate|x-propylon-explain"
)
# Special headers that are never put back as they were sent.
_ORDINARY = LOOKED_AT | _PRIVACY | {b"host", b"connection", b"content-length", b"transfer-encoding"}


class Fields:
    """The header lines of a request, taken apart; requests on one connection that repeat them share one.

    `block` holds the lines that may go to the upstream, in order and byte for byte. `special` maps the lower-case names
    of the headers with a meaning for a gateway to their values. `length` is the body's length in bytes, or `NO_BODY` or
    `CHUNKED`. `host` is the authority as the client sent it; `authority` is lower-case and without a port, for matching.
    """

    __slots__ = (
        "asking",
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
        """Start as a request without a body; `version` is the minor version, 0 or 1. The reader fills in the rest."""
        self.block = block
        self.special = special
        self.version = version
        self.host = b""
        self.authority = b""
        self.length = NO_BODY
        self.keep_alive = version == 1  # RFC 9112, 9.3: 1.1 persists unless it says `close`
        self.expects_continue = False
        self.upgrade = b""
        # Two questions of the hot path, answered once for all requests that share these lines.
        # `plain`: no header has to be put back. `private`: a header about privacy is among them.
        self.plain = special.keys() <= _ORDINARY
        self.private = not special.keys().isdisjoint(_PRIVACY)
        # The block without `Authorization`, made when a service with `forward_token: false` first
        # needs it.
        self.tokenless: bytes | None = None
        self.remembered = False  # the next request may share them
        # What the lines want of a cache (`proxy.cache.asking`), read when a route with one first needs it.
        self.asking: object = None


class Request:
    """A request head: validated, and without the header lines that must not pass.

    `line` is the request line in origin form (RFC 9112, 3.2.1), as the client sent it; an absolute form has lost its
    authority. The other attributes are those of `Fields`.
    """

    __slots__ = (
        "authority",
        "block",
        "expects_continue",
        "fields",
        "handshake",
        "host",
        "keep_alive",
        "length",
        "line",
        "method",
        "noted",
        "path",
        "plain",
        "private",
        "query",
        "special",
        "upgrade",
        "version",
        "vouched",
    )

    def __init__(self, method: str, line: bytes, path: bytes, query: bytes, fields: Fields) -> None:
        """Take the parts of the request line, and the header lines; `query` includes its `?`, or is empty."""
        self.method = method
        self.line = line
        self.path = path
        self.query = query
        self.fields = fields
        # Copied, because a stage may change them for this request alone.
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
        # What the gateway vouches for beside the headers of its own: claims of the token, and what policies say. By the
        # lower-case name with `-` for `_`, the line's name and value; `outgoing` removes what the client sent so.
        self.vouched: dict[bytes, tuple[bytes, bytes]] | None = None
        # What policies say of the request to the access log, by name.
        self.noted: dict[str, str] | None = None
        # The offer of another protocol that the route takes up; see `wire.offer`.
        self.handshake: Handshake | None = None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All header fields, names in lower case, those that do not pass among them; slow, for policies."""
        special = [
            (name, value)
            for name, sent in self.special.items()
            if name not in LOOKED_AT
            for value in sent
        ]
        found = [(name.lower(), value) for name, value in split(self.block)]
        return [(name.decode("ascii"), value.decode("latin-1")) for name, value in special + found]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None; the name in any case (RFC 9110, 5.1)."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def set_header(self, name: str, value: str) -> None:
        """Tell the upstream something that the gateway vouches for; for policies.

        The line replaces what the client sent under that name, in any case and with `_` for `-`. Raises ValueError for
        a name or a value that is none (RFC 9110, 5.1 and 5.5), and for headers that frame the message or that the
        gateway writes itself.
        """
        if TOKEN_TEXT.fullmatch(name) is None or FIELD_VALUE_TEXT.fullmatch(value) is None:
            msg = f"{name!r} with this value is no header field"
            raise ValueError(msg)
        plain = name.lower().replace("_", "-")
        if _WRITTEN_BY_US.fullmatch(plain):
            msg = f"{name} is written by the gateway itself"
            raise ValueError(msg)
        if self.vouched is None:
            self.vouched = {}
        self.vouched[plain.encode("ascii")] = (name.encode("ascii"), value.encode("latin-1"))

    def note(self, name: str, value: str) -> None:
        """Say something of the request to the access log, where `log.fields` has `policy:NAME`; for policies.

        The record has the first characters of the value. Raises ValueError for more than a few names.
        """
        if self.noted is None:
            self.noted = {}
        if name not in self.noted and len(self.noted) >= _MOST_NOTES:
            msg = f"a request has {_MOST_NOTES} notes at the most"
            raise ValueError(msg)
        self.noted[name] = value

    def __repr__(self) -> str:
        """Show method and path, and no header and no query: those may hold secrets."""
        return f"<Request {self.method} {self.path!r}>"


class Response:
    """A response head: validated, and without the hop-by-hop lines (RFC 9110, 7.6.1).

    `reason` is the status line without the version (` 200 OK`), so that it passes as the upstream sent it. `length`
    is the body's length in bytes, or `NO_BODY`, `CHUNKED` or `UNTIL_CLOSE`.
    """

    __slots__ = (
        "addressed",
        "block",
        "keep_alive",
        "length",
        "pairs",
        "reason",
        "sets_cookies",
        "status",
        "tells_limits",
    )

    def __init__(
        self, status: int, reason: bytes, block: bytes, length: int, *, keep_alive: bool
    ) -> None:
        """Take the parts; none has a default, because a wrong guess about framing is request smuggling."""
        self.status = status
        self.reason = reason
        self.block = block
        self.length = length
        self.keep_alive = keep_alive
        # Whether a header in it may hold an address of the upstream, and whether it sets cookies.
        self.addressed = False
        self.sets_cookies = False
        # Whether it tells of rate limits; None: nobody has asked. A head that an upstream repeats is one object.
        self.tells_limits: bool | None = None
        # The block as pairs, made when an ASGI server first needs them.
        self.pairs: list[tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        """Show the status and the framing."""
        return f"<Response {self.status} length={self.length}>"
