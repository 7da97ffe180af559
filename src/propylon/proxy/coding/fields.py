"""Change the head of an answer that is compressed, and the conditions of a request for one. Pure.

Facts. A compressed answer is another representation (RFC 9110, 8.4), so a strong entity tag must be another one (8.8.1). nginx
makes the tag weak. Then `If-Match` never holds (13.1.1: the strong comparison), and a client that reads a compressed answer
can never write it back under a condition; and services that compare tags as texts never answer 304 again.

Strategy. As Caddy does it, a strong tag gets the name of the coding: `"v7"` becomes `"v7~gzip"`. What a client sends back loses it
again, so the service sees its own tag only. In `If-None-Match` only the coding that this request would get loses it: a 304 would
otherwise tell a shared cache to use an answer that this client cannot read. In `If-Range` it stays: a part of the plain answer
does not fit a part of a compressed one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from propylon.wire.grammar import ENTITY_TAG
from propylon.wire.headers import Special, take, tokens, without
from propylon.wire.message import CHUNKED, NO_BODY, Response

__all__ = ["DIGESTS", "Tags", "compressed", "read", "varied", "without_digests"]

_READ = re.compile(
    rb"\r\n(content-type|content-encoding|content-length|content-range|cache-control|etag|vary"
    rb"):[ \t]*([^\r]*)"
)
_NAMES = frozenset(
    {b"content-type", b"content-encoding", b"content-length", b"content-range"}
    | {b"cache-control", b"etag", b"vary"}
)
# Digests of the body as the service has sent it (RFC 9530, 2 and 3; RFC 1864; RFC 3230).
DIGESTS = (b"content-digest", b"repr-digest", b"digest", b"content-md5")
# Ranges are of the plain answer: who asks for one gets it from the service, under the other tag.
_GONE = (*DIGESTS, b"content-length", b"content-encoding", b"accept-ranges", b"etag")
_VARY = b"\r\nVary: Accept-Encoding"
_MARK = b"~"


def read(block: bytes) -> Special:
    """Return the values of the fields that compression is about."""
    return take(block, _READ, kept=_NAMES)[1]


def _vary(found: Special) -> bytes:
    named = tokens(found.get(b"vary", ()))
    return b"" if b"*" in named or b"accept-encoding" in named else _VARY


def _replaced(head: Response, block: bytes, length: int) -> Response:
    made = Response(head.status, head.reason, block, length, keep_alive=head.keep_alive)
    made.addressed, made.sets_cookies = head.addressed, head.sets_cookies
    return made


def varied(head: Response, found: Special) -> Response:
    """Return the head of an answer that another client would get compressed (RFC 9110, 12.5.5)."""
    more = _vary(found)
    return _replaced(head, head.block + more, head.length) if more else head


def compressed(head: Response, found: Special, coding: bytes, length: int | None) -> Response:
    """Return the head of the compressed answer; `length` is that of the compressed body, None if it is not known."""
    block = b"%b%b\r\nContent-Encoding: %b" % (without(head.block, _GONE), _vary(found), coding)
    for tag in found.get(b"etag", ()):
        block += b"\r\nETag: " + _named(tag, coding)
    if length is not None:
        return _replaced(head, b"%b\r\nContent-Length: %d" % (block, length), length)
    return _replaced(head, block, NO_BODY if head.length == NO_BODY else CHUNKED)


def _named(tag: bytes, coding: bytes) -> bytes:
    """Return the tag of the compressed answer; a weak one means the same for both (RFC 9110, 8.8.3.3)."""
    if tag.startswith(b"W/") or ENTITY_TAG.fullmatch(tag) is None:
        return tag
    return b'%b%b%b"' % (tag[:-1], _MARK, coding)


def without_digests(trailers: bytes) -> bytes:
    """Return the trailers without digests of the plain body."""
    return without(trailers, DIGESTS) if trailers else trailers


class Tags:
    """The names that codings have in tags."""

    __slots__ = ("_any", "_lines", "_marks")

    def __init__(self, codings: Iterable[bytes]) -> None:
        """Know these codings."""
        self._marks = tuple(b'%b%b"' % (_MARK, coding) for coding in codings)
        self._any = re.compile(b"|".join(map(re.escape, self._marks)))
        self._lines = re.compile(rb"\r\nif-(none-)?match:[^\r]*", re.IGNORECASE)

    def restored(self, block: bytes, coding: bytes | None) -> bytes:
        """Return the block of a request with the service's own tags; as it is, if it has no other ones.

        `coding` is what this request would get.
        """
        # Nearly no request has one: a search for a few bytes, and no pattern over the whole block.
        if not any(mark in block for mark in self._marks):
            return block

        def restore(match: re.Match[bytes]) -> bytes:
            if match[1] is None:
                return self._any.sub(b'"', match[0])
            return match[0] if coding is None else match[0].replace(self._mark(coding), b'"')

        return self._lines.sub(restore, block)

    def unchanged(self, head: Response, sent: bytes, coding: bytes | None) -> Response:
        """Return the head of a 304 with the tag that the client has; `sent` is the block of its request.

        RFC 9111, 4.3.4: a strong tag that the client does not have would update nothing there.
        """
        found = read(head.block)
        tags = found.get(b"etag", ())
        if coding is None or len(tags) != 1:
            return head
        named = _named(tags[0], coding)
        if named == tags[0] or not any(named in match[0] for match in self._lines.finditer(sent)):
            return head
        block = b"%b%b\r\nETag: %b" % (without(head.block, (b"etag",)), _vary(found), named)
        return _replaced(head, block, head.length)

    @staticmethod
    def _mark(coding: bytes) -> bytes:
        return b'%b%b"' % (_MARK, coding)
