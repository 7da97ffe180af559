"""Hold a stored answer, decide whether it serves a request, and make the answer out of it (RFC 9111, 4; RFC 9110, 13 and 14). Pure."""

from __future__ import annotations

import re
from enum import Enum

from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.fields import date, entity_tags
from propylon.proxy.cache.judgement import Judgement, read_answer
from propylon.wire.headers import fields, render, without
from propylon.wire.message import NO_BODY, Response

__all__ = ["Stored", "Use", "conditions", "decide", "merged", "not_modified", "part"]

_OK, _PARTIAL, _NOT_MODIFIED, _UNSATISFIABLE = 200, 206, 304, 416
_BODILESS = frozenset({204, 304})
# Of an answer's head, what is not stored, and what each answer out of the store gets anew.
_NOT_STORED = (b"age", b"content-length", b"set-cookie")
# RFC 9111, 3.2: what a 304 must not change. The others describe the body that is stored.
_NOT_UPDATED = frozenset(
    {
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"digest",
        b"etag",
        b"content-digest",
        b"repr-digest",
        b"age",
        b"set-cookie",
    }
)
# RFC 9110, 15.4.5: what describes a body goes, where there is none.
_OF_BODY = (
    b"content-encoding",
    b"content-language",
    b"content-length",
    b"content-md5",
    b"content-range",
    b"content-type",
)
# Bytes of Python's objects for a header that Vary names, and for a tag with its set of keys.
_ENTRY, _INDEXED = 200, 600


class Use(Enum):
    """What may be done with a stored answer for one request."""

    FRESH = "hit"
    STALE = "stale"  # it may be served, and is validated meanwhile
    EXPIRED = "expired"  # it must be validated first
    ASKED = "request"  # the request wants it validated


class Stored:
    """An answer that is kept whole, with its body.

    `born` is the time of the store's clock at which it had no age, `lifetime` how long it is fresh, in seconds. `vary` has
    the headers that chose it, with the values of the request that it was made for.
    """

    __slots__ = (
        "_age",
        "_head",
        "block",
        "body",
        "born",
        "judged",
        "location",
        "reason",
        "route",
        "size",
        "status",
        "vary",
    )

    def __init__(
        self,
        head: Response,
        judged: Judgement,
        vary: tuple[tuple[bytes, bytes], ...],
        now: float,
        *,
        route: str = "",
    ) -> None:
        """Keep a head that has arrived at `now`; `complete` adds the body."""
        self.status = head.status
        self.reason = head.reason
        self.block = without(head.block, (*_NOT_STORED, *judged.unlisted))
        self.body: bytes | tuple[bytes, ...] = b""
        self.judged = judged
        self.born = now - judged.age
        self.vary = vary
        self.route = route
        self.size = 0
        self._age = -1
        self._head: Response | None = None

    def complete(self, body: bytes | tuple[bytes, ...], length: int) -> None:
        """Add the body, of `length` bytes."""
        self.body = body
        if self.status not in _BODILESS:
            self.block += b"\r\nContent-Length: %d" % length
        # What Python's objects take besides the bytes, roughly: an empty answer is not free. Clients choose the values of
        # headers that Vary names, and each tag has an entry in an index.
        names = sum(_ENTRY + 2 * len(name) + len(value) for name, value in self.vary)
        tags = sum(_INDEXED + len(tag) for tag in self.judged.tags)
        self.size = length + len(self.block) + 1024 + names + tags

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else sum(map(len, self.body))

    def age(self, now: float) -> float:
        """Return the age of the answer (RFC 9111, 4.2.3); the clock never goes back."""
        return now - self.born

    def left(self, now: float) -> float:
        """Return for how long it is still fresh; negative: for how long it has been stale."""
        return self.judged.lifetime - now + self.born

    def head(self, now: float) -> Response:
        """Return the head of the whole answer, with its age."""
        age = int(now - self.born)
        if self._head is None or age != self._age:
            block = b"%b\r\nAge: %d" % (self.block, age)
            length = NO_BODY if self.status in _BODILESS else self.length
            self._head = Response(self.status, self.reason, block, length, keep_alive=True)
            self._age = age
        return self._head

    def arriving(self, now: float, length: int) -> Response:
        """Return the head of an answer whose body, of `length` bytes, is still on its way."""
        block = b"%b\r\nContent-Length: %d\r\nAge: %d" % (self.block, length, int(self.age(now)))
        return Response(self.status, self.reason, block, length, keep_alive=True)

    def matches(self, asking: Asking, said: dict[bytes, bytes]) -> bool:
        """Tell whether the headers that chose it have the same values in this request (RFC 9111, 4.1).

        `said` has the headers that the gateway writes itself.
        """
        for name, value in self.vary:
            if (said[name] if name in said else asking.value(name)) != value:
                return False
        return True


def decide(stored: Stored, asking: Asking, now: float) -> Use:
    """Decide what may be done with a stored answer for a request (RFC 9111, 4)."""
    judged = stored.judged
    age = now - stored.born
    left = judged.lifetime - age
    if asking.no_cache or (asking.max_age is not None and age > asking.max_age):
        return Use.ASKED
    if judged.validates:
        return Use.EXPIRED
    if left > 0:
        return Use.FRESH if left >= asking.min_fresh else Use.ASKED
    if judged.strict or asking.min_fresh:
        return Use.EXPIRED
    if asking.max_stale and -left <= asking.max_stale:
        return Use.FRESH
    return Use.STALE if -left < judged.stale_while_revalidate else Use.EXPIRED


def conditions(stored: Stored) -> bytes:
    """Return the block that asks an upstream whether the stored answer is still good (RFC 9111, 4.3.1); empty: it cannot."""
    judged = stored.judged
    block = b"\r\nIf-None-Match: " + judged.etag if judged.etag else b""
    return block + (b"\r\nIf-Modified-Since: " + judged.modified if judged.modified else b"")


def merged(stored: Stored, head: Response) -> Response:
    """Return the head of the stored answer with the fields of a 304 (RFC 9111, 3.2 and 4.3.4), and without its length."""
    new = [pair for pair in fields(head.block) if pair[0].lower() not in _NOT_UPDATED]
    names = {name.lower() for name, _ in new}
    block = without(stored.block, (*names, b"content-length")) + render(new)
    return Response(stored.status, stored.reason, block, stored.length, keep_alive=True)


# What the client gets


def not_modified(stored: Stored, asking: Asking, now: float, wall: float) -> Response | None:
    """Return the 304 for a client that has the answer already (RFC 9110, 13.1.2 and 13.1.3); None: it has not."""
    if stored.status != _OK or not asking.conditional or not _unchanged(stored, asking, wall):
        return None
    block = without(stored.head(now).block, _OF_BODY)
    return Response(_NOT_MODIFIED, b" 304 Not Modified", block, NO_BODY, keep_alive=True)


def _unchanged(stored: Stored, asking: Asking, wall: float) -> bool:
    if asking.none_match:
        tags = entity_tags(asking.none_match)
        etag = _opaque(stored.judged.etag)
        return b"*" in tags or (bool(etag) and etag in map(_opaque, tags))
    since = date(asking.modified_since[0], wall) if len(asking.modified_since) == 1 else None
    changed = read_answer(stored.block)
    lines = changed.get(b"last-modified") or changed.get(b"date") or [b""]
    modified = date(lines[0], wall)
    return since is not None and modified is not None and modified <= since


def _opaque(tag: bytes) -> bytes:
    """Return a tag for the weak comparison (RFC 9110, 8.8.3.2)."""
    return tag[2:] if tag.startswith(b"W/") else tag


_RANGE = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


def part(stored: Stored, asking: Asking, now: float, wall: float) -> tuple[Response, bytes] | None:
    """Return the 206 or 416 for one range of bytes (RFC 9110, 14.2); None: the whole answer serves.

    Several ranges get the whole: who asks for many small ones could make an answer of a megabyte a hundred times as long.
    """
    if stored.status != _OK or len(asking.range) != 1 or not _range_applies(stored, asking, wall):
        return None
    match = _RANGE.fullmatch(asking.range[0])
    if match is None or not (match[1] or match[2]):
        return None
    length = stored.length
    if match[1]:
        begin = int(match[1])
        end = min(int(match[2]) if match[2] else length, length - 1)
        if match[2] and int(match[2]) < begin:
            return None  # 14.1.1: invalid, so ignored
    else:
        begin, end = max(0, length - int(match[2])), length - 1
    block = without(stored.head(now).block, (b"content-length",))
    if begin >= length or begin > end:
        block = b"%b\r\nContent-Range: bytes */%d\r\nContent-Length: 0" % (
            without(block, _OF_BODY),
            length,
        )
        head = Response(_UNSATISFIABLE, b" 416 Range Not Satisfiable", block, 0, keep_alive=True)
        return head, b""
    size = end - begin + 1
    block = b"%b\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d" % (
        block,
        begin,
        end,
        length,
        size,
    )
    head = Response(_PARTIAL, b" 206 Partial Content", block, size, keep_alive=True)
    body = stored.body if isinstance(stored.body, bytes) else b"".join(stored.body)
    return head, body[begin : end + 1]


def _range_applies(stored: Stored, asking: Asking, wall: float) -> bool:
    """Tell whether If-Range lets the range apply (RFC 9110, 13.1.5): the strong comparison, or the same date."""
    if not asking.if_range:
        return True
    if len(asking.if_range) != 1:
        return False
    wanted = asking.if_range[0]
    if wanted.startswith(b'"'):
        return wanted == stored.judged.etag
    moment = date(wanted, wall)
    return moment is not None and wanted == stored.judged.modified
