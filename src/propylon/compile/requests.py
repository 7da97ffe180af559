"""Compile `requests`: a route that checks what it sends on against its service's document.

Rules.

1. Where a request may reach several operations, it must fit one of them: the gateway does not know which the service takes.
2. What the client cannot send is not asked of it: headers that the gateway writes itself.
3. A body of up to 64 KiB is waited for. A larger one, or one in a coding such as gzip, passes with the flag `unchecked`.
4. While there is no document, all passes. What is not in it passes, unless `undocumented: refuse` is set.
5. A handshake of a WebSocket is checked like a GET: a service that knows no WebSockets answers it like one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from json import JSONDecodeError

from propylon.documents.in_force import InForce
from propylon.errors import InvalidFields, InvalidRequest, PayloadTooLarge
from propylon.proxy.check import RESULTS
from propylon.proxy.check.operation import Fault, OperationCheck
from propylon.proxy.counts import Counts
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Forwards, Route
from propylon.proxy.values import ValuesOf
from propylon.upstream.ports import Answer
from propylon.wire.headers import values
from propylon.wire.lookalikes import reduced
from propylon.wire.message import NO_BODY, Request

__all__ = ["CheckRequests"]

PASSED, REFUSED, SHADOW, UNCHECKED, UNDOCUMENTED, NO_DOCUMENT = range(len(RESULTS))
_FLAGS = {SHADOW: "shadow_check", UNCHECKED: "unchecked"}
# The gateway writes these, or takes them away.
_OURS = frozenset(
    {b"host", b"x-request-id", b"traceparent", b"tracestate", b"via", b"forwarded", b"x-real-ip"}
    | {b"connection", b"content-length", b"transfer-encoding", b"x-privacy-level", b"expect"}
)
# A line of a block, in one go: `values` takes every line apart, and nearly each checked request comes here.
_CONTENT_TYPE = re.compile(rb"\r\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Tt][Yy][Pp][Ee]:[ \t]*([^\r\n]*)")
_OUR_FAMILIES = (b"x-forwarded-", b"x-user-", b"x-client-cert-", b"x-propylon-")

Candidates = Sequence[tuple[OperationCheck, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class CheckRequests:
    """The forward stage of such a route: check, then do what `then` does."""

    documents: InForce
    then: Forwards
    shadow: bool
    refuses_undocumented: bool
    counts: Counts = field(compare=False)
    clock: Callable[[], float] = field(default=time.perf_counter, compare=False)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Let the request pass. Raises InvalidRequest, InvalidFields, PayloadTooLarge, and what `then` raises."""
        found = self.documents.checks(
            route.service.name, route.rewrite, request.method, request.path
        )
        if not found:
            self._unknown(exchange, UNDOCUMENTED if found is not None else NO_DOCUMENT)
        else:
            await self._check(exchange, request, route, found)
        answer: Answer = await self.then(exchange, request, route)
        return answer

    def _unknown(self, exchange: Exchange, result: int) -> None:
        self.counts[result] += 1
        if result == UNDOCUMENTED and self.refuses_undocumented:
            exchange.faults = ("operation",)
            if self.shadow:
                exchange.flags += (_FLAGS[SHADOW],)
                return
            msg = "The operation is not in the service's document"
            raise InvalidFields(msg, details={"fields": {"operation": "is not in the document"}})

    async def _check(
        self,
        exchange: Exchange,
        request: Request,
        route: Route,
        found: Sequence[tuple[OperationCheck | None, dict[str, str]]],
    ) -> None:
        checks = [(one, path) for one, path in found if one is not None]
        if len(checks) < len(found):
            self._count(exchange, UNCHECKED)  # the one that is not known may take anything
            return
        left, faults = _heads(checks, exchange, request, route)
        if not left:
            self._refuse(exchange, faults)
        elif any(not one.reads for one, _ in left):
            self._count(exchange, PASSED)
        else:
            await self._check_body(exchange, request, route, left)

    async def _check_body(
        self, exchange: Exchange, request: Request, route: Route, left: Candidates
    ) -> None:
        body = await self._body(exchange, request, route)
        if body is None or any(len(body) > one.largest for one, _ in left):
            self._count(exchange, UNCHECKED)
            return
        kinds = _CONTENT_TYPE.findall(request.block)
        faults: Iterable[Fault] = ()
        bad: InvalidRequest | None = None
        for one, _ in left:
            try:
                faults = one.body(_text(kinds), body)
            except InvalidRequest as error:
                bad = error
            else:
                if not faults:
                    self._count(exchange, PASSED)
                    return
        # What can be read without decoding was not coded, whatever the client calls it.
        unread = bad is not None and isinstance(bad.__cause__, JSONDecodeError)
        if unread and values(request.block, b"content-encoding"):
            self._count(exchange, UNCHECKED)
        else:
            self._refuse(exchange, faults, bad)

    async def _body(self, exchange: Exchange, request: Request, route: Route) -> bytes | None:
        body = exchange.body
        if body is None or request.length in (NO_BODY, 0):
            return b""
        body.limit = route.max_body
        if max(request.length, body.received) > route.max_body:
            msg = f"The body may have {route.max_body} bytes at the most"
            raise PayloadTooLarge(msg)
        if body.complete:
            return await body.gathered()
        began = self.clock()
        try:
            return await body.gathered()
        finally:
            exchange.gathered = self.clock() - began

    def _count(self, exchange: Exchange, result: int) -> None:
        self.counts[result] += 1
        if result in _FLAGS:
            exchange.flags += (_FLAGS[result],)

    def _refuse(
        self, exchange: Exchange, faults: Iterable[Fault], bad: InvalidRequest | None = None
    ) -> None:
        """Refuse the request, or note that it would have been refused."""
        fields = {fault.place: fault.why for fault in faults}
        exchange.faults = tuple(fields) or ("body",)
        self._count(exchange, SHADOW if self.shadow else REFUSED)
        if self.shadow:
            return
        if bad is not None and not fields:
            raise bad
        msg = "The request does not fit the service's document"
        raise InvalidFields(msg, details={"fields": fields}, reason=", ".join(fields))


def _heads(
    checks: Candidates, exchange: Exchange, request: Request, route: Route
) -> tuple[Candidates, list[Fault]]:
    """Return the checks that the head fits, and if it fits none, what does not fit the first."""

    def sent(name: str) -> list[str] | None:
        return _sent(request, route, name.encode("latin-1", "replace"))

    query = request.query
    if route.changes is not None and route.changes.query is not None:
        # What the service gets is what its document is about.
        query = route.changes.query.apply(query, ValuesOf(exchange, request, route))
    judged = [(one, path, one.head(path, query[1:], sent)) for one, path in checks]
    return [(one, path) for one, path, faults in judged if not faults], judged[0][2]


def _sent(request: Request, route: Route, name: bytes) -> list[str] | None:
    """Return the values of a header; None if they are not the client's to send."""
    if name in _OURS or name.startswith(_OUR_FAMILIES) or reduced(name) in route.vouched:
        return None
    if values(route.request_set + route.request_overrides.block, name):
        return None
    if route.changes is not None and any(name == one.lower() for one, _ in route.changes.lines):
        return None
    found = values(request.block, name) or request.special.get(name, [])
    return [value.decode("latin-1") for value in found]


def _text(kinds: Sequence[bytes]) -> str:
    """Return the type of the body; one that is named twice is of no type that a document has."""
    if not kinds:
        return ""
    return kinds[0].decode("latin-1").rstrip() if len(kinds) == 1 else "sent twice"
