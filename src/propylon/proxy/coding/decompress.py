"""Unpack requests for a service that cannot: the forward stage of a route with `decompress`.

The stage stands before all others that look at the body, so a check against the service's document sees the plain one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from propylon.errors import GatewayError, PayloadTooLarge, UnsupportedCoding
from propylon.proxy.coding.decoders import Decoder
from propylon.proxy.coding.fields import DIGESTS
from propylon.proxy.coding.unpack import Bounds, PlainBody, Unpacker
from propylon.proxy.exchange import Downstream, Exchange
from propylon.proxy.route import Forwards, Route
from propylon.upstream.ports import Answer, Flow
from propylon.wire.headers import tokens, values, without
from propylon.wire.message import CHUNKED, NO_BODY, Request

__all__ = ["Decompress", "DecompressRules", "MakeBody"]

_FIELD = b"content-encoding"
# Codings of one body. Nobody sends more but to keep the gateway busy.
_MOST = 2
_SAME = {b"x-gzip": b"gzip"}
_FLAG = "unpacked"


class MakeBody(Protocol):
    """Makes the plain body, of unknown length."""

    def __call__(self, length: int, flow: Flow, send_continue: None) -> PlainBody:
        """Return the body, which comes from `flow`."""


@dataclass(frozen=True, slots=True)
class DecompressRules:
    """How long a body may become, in bytes and as a multiple of what came."""

    max_size: int
    max_ratio: int


@dataclass(frozen=True, slots=True)
class Decompress:
    """The forward stage: unpack the body, then do what `then` does. In a dry run no body comes, and `make` is None."""

    rules: DecompressRules
    then: Forwards
    decoders: Mapping[bytes, Callable[[], Decoder]] = field(compare=False)
    make: MakeBody | None = field(compare=False)
    clock: Callable[[], float] = field(default=time.perf_counter, compare=False)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Return the answer. Raises UnsupportedCoding, PayloadTooLarge, InvalidRequest, and what `then` raises."""
        if request.length not in (NO_BODY, 0) and request.handshake is None:
            codings = self._codings(request.block)
            if codings:
                await self._unpacked(exchange, request, route, codings)
        answer: Answer = await self.then(exchange, request, route)
        return answer

    def _codings(self, block: bytes) -> list[bytes]:
        """Return the codings in the order in which they were applied. Raises UnsupportedCoding."""
        sent = tokens(values(block, _FIELD))
        codings = [_SAME.get(one, one) for one in sent if one != b"identity"]
        unknown = next((one for one in codings if one not in self.decoders), None)
        if unknown is not None or len(codings) > _MOST:
            known = b", ".join(self.decoders)
            # RFC 9110, 12.5.3: in a 415 it says what would have been read.
            msg = "The body of the request has a Content-Encoding that is not read here"
            raise UnsupportedCoding(msg, headers=((b"Accept-Encoding", known),))
        return codings

    async def _unpacked(
        self, exchange: Exchange, request: Request, route: Route, codings: list[bytes]
    ) -> None:
        """Put the plain body in the place of the one that comes. Raises PayloadTooLarge, InvalidRequest."""
        body = exchange.downstream.body
        request.block = without(request.block, (_FIELD, *DIGESTS))
        if body is None or self.make is None:
            request.length = CHUNKED
            return
        body.limit = route.max_body
        if max(request.length, body.received) > route.max_body:
            msg = f"The body may have {route.max_body} bytes at the most"
            raise PayloadTooLarge(msg)
        exchange.flags += (_FLAG,)
        bounds = Bounds(min(self.rules.max_size, route.max_body), self.rules.max_ratio)
        layers = [self.decoders[coding]() for coding in reversed(codings)]
        fail = partial(_failed, exchange.downstream)
        unpacker = Unpacker(body, layers, bounds, fail)
        plain = self.make(CHUNKED, unpacker, None)
        unpacker.into(plain)
        exchange.unpacked = plain
        # Nearly all are small. The service is told their length then, and is not asked at all where something is wrong.
        began = self.clock()
        whole = await plain.gathered()
        exchange.gathered = self.clock() - began
        request.length = CHUNKED if whole is None else len(whole)
        if whole is not None:
            plain.length = len(whole)


def _failed(downstream: Downstream, error: GatewayError) -> None:
    downstream.closes = True
    downstream.throw(error)
