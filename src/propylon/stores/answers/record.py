"""Write an answer as bytes, and read it again with distrust: other versions and other programs write into a Redis, too. Pure.

    MAGIC (format and version) · MAC · numbers · fields, each with its length

Rules.

1. The format is our own, and reading it makes nothing but bytes and numbers. (A pickle would run what it says.)
2. The MAC is over the name that the record stands under: a record that was copied under another key is refused. Without a
   secret it is a checksum, which tells garbage and other versions; with one, nobody who lacks it can write an answer.
3. The head is read as strictly as an upstream's. What must not be stored is refused again: a cookie, an answer that has no
   certain length, a number out of its range.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b

from propylon.errors import BadResponse
from propylon.proxy.cache.behind import Held
from propylon.proxy.cache.judgement import Judgement, read_answer, tags_of
from propylon.proxy.cache.key import Key
from propylon.proxy.cache.stored import Stored
from propylon.wire.grammar import FIELD_VALUE, TOKEN
from propylon.wire.headers import without
from propylon.wire.message import Response
from propylon.wire.response import parse_response

__all__ = ["NAME", "Codec", "Garbled", "chunks_of", "variant_of"]

NAME = 32  # bytes of the digest that stands for a key
_MAGIC = b"PPA\x01"
_MAC = 16
_VARIANT = 8
# When it was born (seconds since 1970), the number of the last deletion, bytes of the body, status, pieces, flags, and how
# long it is fresh, and may be used stale.
_NUMBERS = struct.Struct(">dQQHIBddd")
_LENGTH = struct.Struct(">I")
_VALIDATES, _STRICT = 1, 2
_LEAST_FIELDS, _MOST_FIELDS = 6, 256  # with those that Vary names, and their values
_LONGEST = 2.0**33  # seconds: no lifetime is longer
_LEAST_STATUS, _LAST_STATUS = 200, 599


class Garbled(ValueError):
    """The bytes are no record of ours."""


def variant_of(stored: Stored) -> bytes:
    """Return what stands for the values of the headers that chose an answer."""
    digest = blake2b(digest_size=_VARIANT)
    for name, value in stored.vary:
        digest.update(b"%d:%b%d:%b" % (len(name), name, len(value), value))
    return digest.digest()


def chunks_of(body: bytes | Sequence[bytes], size: int) -> Sequence[bytes]:
    """Return a body in pieces of so many bytes; only pieces that cross a bound are put together."""
    chunks: list[bytes] = []
    rest = b""
    for piece in (body,) if isinstance(body, bytes) else body:
        data = rest + piece if rest else piece
        whole = len(data) - len(data) % size
        chunks += [data[at : at + size] for at in range(0, whole, size)]
        rest = data[whole:]
    return [*chunks, rest] if rest else chunks


class Codec:
    """Writes and reads records; `clock` is the one of stored answers, `wall` is seconds since 1970."""

    __slots__ = ("_clock", "_secret", "_wall")

    def __init__(
        self, secret: bytes, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """Sign with `secret`; empty: only what is broken or of another version is found out."""
        self._secret = blake2b(secret, digest_size=32).digest() if secret else b""
        self._clock = clock
        self._wall = wall

    def name(self, key: Key) -> bytes:
        """Return what stands for a key outside of this process: nothing of the request is to be read in it."""
        digest = blake2b(digest_size=NAME, key=self._secret, person=b"key")
        for part in key:
            digest.update(b"%d:%b" % (len(part), part))
        return digest.digest()

    def digest(self, body: bytes | Sequence[bytes]) -> bytes:
        """Return the digest of a body."""
        digest = blake2b(digest_size=_MAC, key=self._secret, person=b"body")
        for piece in (body,) if isinstance(body, bytes) else body:
            digest.update(piece)
        return digest.digest()

    def written(self, name: bytes, stored: Stored, since: int, ident: bytes, pieces: int) -> bytes:
        """Return the record of an answer; without pieces its body is in it."""
        judged = stored.judged
        block = without(stored.block, (b"content-length",))
        body = stored.body
        inline = b"" if pieces else body if isinstance(body, bytes) else b"".join(body)
        numbers = _NUMBERS.pack(
            self._wall() - stored.age(self._clock()),
            since,
            stored.length,
            stored.status,
            pieces,
            judged.validates * _VALIDATES | judged.strict * _STRICT,
            judged.lifetime,
            judged.stale_while_revalidate,
            judged.stale_if_error,
        )
        route = stored.route.encode()
        fields = [stored.reason, block, route, ident, self.digest(stored.body), inline]
        fields += [part for pair in stored.vary for part in pair]
        payload = numbers + b"".join([_LENGTH.pack(len(one)) + one for one in fields])
        return _MAGIC + self._mac(name, payload) + payload

    def read(self, name: bytes, record: bytes) -> tuple[Held, int]:
        """Return the answer that a record is of, and the number of the last deletion that it knows. Raises Garbled."""
        payload = record[len(_MAGIC) + _MAC :]
        if not record.startswith(_MAGIC) or len(payload) < _NUMBERS.size:
            raise Garbled
        if record[len(_MAGIC) :][:_MAC] != self._mac(name, payload):
            raise Garbled
        born, since, length, status, pieces, flags, *times = _NUMBERS.unpack_from(payload)
        if not all(math.isfinite(one) and 0 <= one <= _LONGEST for one in (born, *times)):
            raise Garbled
        reason, block, route, ident, digest, inline, *names = _fields(payload)
        head = _head(status, reason, block, length)
        now = self._clock()
        # Another machine's clock may be ahead.
        age = max(0.0, self._wall() - born)
        found = read_answer(head.block)
        judged = Judgement(
            lifetime=times[0],
            age=age,
            validates=bool(flags & _VALIDATES),
            strict=bool(flags & _STRICT),
            stale_while_revalidate=times[1],
            stale_if_error=times[2],
            etag=found.get(b"etag", [b""])[0],
            modified=found.get(b"last-modified", [b""])[0],
            tags=tags_of(found),
        )
        stored = Stored(head, judged, _pairs(names), now, route=_text(route))
        if not pieces and (len(inline) != length or digest != self.digest(inline)):
            raise Garbled
        return Held(stored, length, digest, ident, pieces, inline), since

    def _mac(self, name: bytes, payload: bytes) -> bytes:
        digest = blake2b(name, digest_size=_MAC, key=self._secret, person=b"record")
        digest.update(payload)
        return digest.digest()


def _fields(payload: bytes) -> list[bytes]:
    fields = []
    at = _NUMBERS.size
    while at < len(payload):
        if len(payload) - at < _LENGTH.size:
            raise Garbled
        (size,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        if size > len(payload) - at:
            raise Garbled
        fields.append(payload[at : at + size])
        at += size
    if not _LEAST_FIELDS <= len(fields) <= _MOST_FIELDS:
        raise Garbled
    return fields


def _head(status: int, reason: bytes, block: bytes, length: int) -> Response:
    """Return the head, read as an upstream's. Raises Garbled."""
    if not _LEAST_STATUS <= status <= _LAST_STATUS or b"\r\n\r\n" in reason + block:
        raise Garbled
    lines = b"HTTP/1.1%b%b\r\nContent-Length: %d\r\n\r\n" % (reason, block, length)
    try:
        head = parse_response(lines, "GET")
    except BadResponse as error:
        raise Garbled from error
    if head.status != status or head.sets_cookies or head.length not in (length, -1):
        raise Garbled
    return head


def _pairs(names: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    if len(names) % 2:
        raise Garbled
    pairs = tuple(zip(names[::2], names[1::2], strict=True))
    for name, value in pairs:
        if TOKEN.fullmatch(name) is None or name != name.lower():
            raise Garbled
        if FIELD_VALUE.fullmatch(value) is None:
            raise Garbled
    return pairs


def _text(route: bytes) -> str:
    try:
        return route.decode()
    except UnicodeDecodeError as error:
        raise Garbled from error
