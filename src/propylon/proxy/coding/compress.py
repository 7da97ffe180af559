"""Compress answers for the clients that want it: the forward stage of a route with `compress`.

Rules.

1. The stage stands before the cache: what is stored is the service's answer, and each client gets it in its own coding.
2. An answer is left as it is if it has a coding already, says `no-transform` (RFC 9111, 5.2.2.6), is an event stream, is of
   another type, is a part of one, has no body, or is so small that nothing is gained.
3. What another client would get compressed says `Vary: Accept-Encoding` also where it is not (RFC 9110, 12.5.5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from propylon.proxy.coding.accepted import Chooser
from propylon.proxy.coding.codecs import SLICE, Encoder
from propylon.proxy.coding.fields import Tags, compressed, read, varied
from propylon.proxy.coding.stream import Encoded, Room
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Forwards, Route
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.grammar import CONTENT_LENGTH, OWS
from propylon.wire.headers import Special, tokens
from propylon.wire.message import Request

__all__ = ["Compress", "CompressRules", "Encoders"]

Encoders = Mapping[bytes, Callable[[], Encoder]]

_FIRST_FINAL, _NOT_MODIFIED = 200, 304
# RFC 9110, 15.3: without a body, or a part of one.
_NEVER = frozenset({204, 205, 206, _NOT_MODIFIED})
_EVENT_STREAM = b"text/event-stream"
_NO_TRANSFORM = re.compile(rb"\r\ncache-control:[^\r]*no-transform", re.IGNORECASE)
_FLAG = "compressed"
_UNKNOWN = 2**63
# Bytes. A body that came whole is compressed at once up to here, and its client is told the length.
_AT_ONCE = 2 * SLICE


@dataclass(frozen=True, slots=True)
class CompressRules:
    """What of a route's answers is compressed: the codings, the best first; the types; the smallest body, in bytes.

    A type may have a `*` at its end, or for all before a suffix: `text/*`, `application/*+json`.
    """

    codings: tuple[bytes, ...]
    types: tuple[bytes, ...]
    min_size: int
    level: int | None = None


def _types(patterns: Sequence[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(one).replace(rb"\*", rb"[^ \t;,]*") for one in patterns))


@dataclass(frozen=True, slots=True)
class Compress:
    """The forward stage: ask `then`, and compress what it answers."""

    rules: CompressRules
    then: Forwards
    encoders: Encoders = field(compare=False)
    room: Room = field(compare=False)
    choose: Chooser = field(init=False, compare=False)
    tags: Tags = field(init=False, compare=False)
    types: re.Pattern[bytes] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what depends on the rules alone."""
        put = object.__setattr__
        put(self, "choose", Chooser(self.rules.codings))
        put(self, "tags", Tags(self.rules.codings))
        put(self, "types", _types(self.rules.types))

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Return the answer. Raises what `then` raises."""
        if request.handshake is not None:
            passed: Answer = await self.then(exchange, request, route)
            return passed
        sent = request.block
        coding = self.choose.of(sent)
        request.block = self.tags.restored(sent, coding)
        try:
            answer: Answer = await self.then(exchange, request, route)
        finally:
            request.block = sent
        if answer.head.status == _NOT_MODIFIED:
            answer.head = self.tags.unchanged(answer.head, sent, coding)
            return answer
        found = read(answer.head.block)
        if not self._compresses(answer, found, request.method):
            return answer
        if coding is None or self.room.full or _NO_TRANSFORM.search(sent) is not None:
            answer.head = varied(answer.head, found)
            return answer
        return self._encoded(exchange, request, answer, found, coding)

    def _compresses(self, answer: Answer, found: Special, method: str) -> bool:
        """Tell whether an answer is compressed for those that want it."""
        head = answer.head
        if head.status < _FIRST_FINAL or head.status in _NEVER or b"content-range" in found:
            return False
        if any(coding != b"identity" for coding in tokens(found.get(b"content-encoding", ()))):
            return False
        if any(b"no-transform" in value.lower() for value in found.get(b"cache-control", ())):
            return False
        kinds = found.get(b"content-type", ())
        if len(kinds) != 1 or not self._has_type(kinds[0].partition(b";")[0].strip(OWS).lower()):
            return False
        return _length(answer, found, method) >= self.rules.min_size

    def _has_type(self, kind: bytes) -> bool:
        return kind != _EVENT_STREAM and self.types.fullmatch(kind) is not None

    def _encoded(
        self, exchange: Exchange, request: Request, answer: Answer, found: Special, coding: bytes
    ) -> Answer:
        head = answer.head
        if request.method == "HEAD":
            answer.head = compressed(head, found, coding, None)
            return answer
        body, encoder = answer.body, self.encoders[coding]()
        if body is not None and len(body) <= _AT_ONCE:
            made = encoder.write(body) + encoder.finish()
            if len(made) >= len(body):
                answer.head = varied(head, found)
                return answer
            exchange.flags += (_FLAG,)
            return Reply(compressed(head, found, coding, len(made)), made, None)
        exchange.flags += (_FLAG,)
        return Encoded(answer, compressed(head, found, coding, None), encoder, self.room)


def _length(answer: Answer, found: Special, method: str) -> int:
    """Return the length of the body, as far as it is known; else a number that is large enough for everything."""
    if answer.body and method != "HEAD":
        return len(answer.body)
    if answer.head.length >= 0:
        return answer.head.length
    lengths = found.get(b"content-length", ())
    # An answer to HEAD tells the length of the body that it does not have.
    if len(lengths) == 1 and CONTENT_LENGTH.fullmatch(lengths[0]) is not None:
        return int(lengths[0])
    return 0 if answer.body == b"" and method != "HEAD" else _UNKNOWN
