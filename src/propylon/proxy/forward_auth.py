"""ASK: have another service decide about a request, before a cache or a service answers it (`forward_auth`).

    lines of the client's head → question → 2xx: go on, with some of its headers · anything else: that is the answer

Rules.

1. Each request is one question, whatever a cache holds. The question has no body; the client's body waits.
2. If there is no answer, there is no permission: 503, unless the operator lets requests pass then, and the log says so.
3. What the answer says of the caller goes to the service in headers that no client can send: `compile` has them removed
   from every request.
4. While the service that is asked is down, most requests do not wait for it: a breaker refuses them at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from propylon.errors import GatewayError, ServiceUnavailable
from propylon.loop.tasks import in_task
from propylon.proxy.cors import is_preflight
from propylon.proxy.counts import Counts
from propylon.proxy.exchange import Exchange
from propylon.proxy.fixed import answer_of
from propylon.proxy.route import Forwards, Route
from propylon.services.breaker import Breaker, Outcome, judge
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Answer, Upstream
from propylon.wire.cookies import only_set_cookies
from propylon.wire.headers import fields, render, without
from propylon.wire.message import NO_BODY, Request

__all__ = ["LARGEST", "RESULTS", "Ask", "Decider", "ForwardAuth"]

RESULTS = ("allowed", "refused", "failed", "open")
ALLOWED, REFUSED, FAILED, OPEN = range(len(RESULTS))
FLAG_REFUSED, FLAG_OPEN = "auth_refused", "auth_open"
LARGEST = 64 * 1024  # bytes of an answer's body
_MESSAGE = "The request cannot be checked now"
_FIRST_FAILURE = 500
_NOT_MODIFIED = 304
_GOOD = range(200, 300)

Ask = Callable[[bytes], Awaitable[Fetched]]
"""Sends a question with these header lines; returns the answer. Must run in a task. Raises a GatewayError."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Decider:
    """The service at one URL that decides, with its breaker; several routes may ask it."""

    ask: Ask
    breaker: Breaker
    upstream: Upstream  # what it is asked over, to be kept open
    url: str = ""  # without secrets, for operators

    async def answer(self, lines: bytes) -> Fetched:
        """Return what the service answers: a status under 500. Raises GatewayError, such as CircuitOpen."""
        permit = self.breaker.admit()
        outcome, cause = Outcome.NEUTRAL, ""
        try:
            try:
                fetched = await in_task(self._asked(lines))
            except GatewayError as error:
                outcome, cause = judge(error, 0), type(error).__name__
                raise
            status = fetched.status
            outcome, cause = judge(None, status), f"status {status}"
        finally:
            self.breaker.settle(permit, outcome, cause)
        # 304 answers a condition, and the question has none.
        if status >= _FIRST_FAILURE or status == _NOT_MODIFIED:
            raise ServiceUnavailable(_MESSAGE, reason=f"answered {status}")
        return fetched

    async def _asked(self, lines: bytes) -> Fetched:
        return await self.ask(lines)


@dataclass(frozen=True, slots=True)
class ForwardAuth:
    """The forward stage of a route with `forward_auth`: ask, then do what `then` does.

    - `told`: finds the lines of the client's head that are part of the question.
    - `headers`: those of a good answer that the service gets, as they are written.
    - `cookies`: the names of those in a good answer that the client gets.
    - `opens`: a request passes if there is no answer.
    - `preflights`: CORS preflights pass without a question, since they carry no credentials.
    """

    decider: Decider
    told: re.Pattern[bytes]
    headers: tuple[bytes, ...]
    cookies: frozenset[bytes]
    opens: bool
    preflights: bool
    then: Forwards
    counts: Counts = field(compare=False)
    clock: Callable[[], float] = field(default=time.perf_counter, compare=False)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Answer the request. Raises ServiceUnavailable, and what `then` raises."""
        if not (self.preflights and _is_bare_preflight(request)):
            refusal = await self._refusal(exchange, request)
            if refusal is not None:
                return refusal
        answer: Answer = await self.then(exchange, request, route)
        return answer

    async def _refusal(self, exchange: Exchange, request: Request) -> Answer | None:
        """Ask; return the answer for the client if it is no permission, else add to the request what it says."""
        began = self.clock()
        try:
            fetched = await self.decider.answer(question(exchange, request, self.told))
        except GatewayError as error:
            self._failed(exchange, error)
            return None
        finally:
            exchange.held += (
                self.clock() - began
            )  # `timeouts.total` covers it, as it covers policies
        if fetched.status not in _GOOD:
            self.counts[REFUSED] += 1
            exchange.flags += (FLAG_REFUSED,)
            block = without(fetched.block, (b"content-length",))
            return answer_of(fetched.status, block, fetched.body)
        self.counts[ALLOWED] += 1
        if self.headers:
            request.vouched = (request.vouched or {}) | _vouched(fetched.block, self.headers)
        if self.cookies:
            exchange.lines += only_set_cookies(fetched.block, self.cookies)
        return None

    def _failed(self, exchange: Exchange, error: GatewayError) -> None:
        """Let the request pass without an answer. Raises ServiceUnavailable where it may not."""
        if self.opens:
            self.counts[OPEN] += 1
            exchange.flags += (FLAG_OPEN,)
            return
        self.counts[FAILED] += 1
        reason = f"forward_auth: {type(error).__name__}: {error.reason or error}"
        again = tuple(line for line in error.headers if line[0].lower() == b"retry-after")
        raise ServiceUnavailable(_MESSAGE, headers=again, reason=reason) from error


def question(exchange: Exchange, request: Request, told: re.Pattern[bytes]) -> bytes:
    """Return the header lines of a question: what it is about, and what the client sent of it."""
    origin = exchange.downstream.origin
    uri = origin.root + request.path + request.query
    host = origin.host or request.host
    scheme, method = origin.scheme.encode(), request.method.encode()
    about = [
        (b"X-Forwarded-Method", method),
        (b"X-Forwarded-Proto", scheme),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Uri", uri),
        # The one address that the gateway believes in. A chain would begin with what the client wrote, and many readers
        # take its beginning.
        (b"X-Forwarded-For", origin.client.encode()),
        (b"X-Original-Method", method),
        (b"X-Original-URL", b"%b://%b%b" % (scheme, host, uri)),
        (b"X-Request-ID", exchange.request_id),
    ]
    return render(about) + b"".join(told.findall(request.block))


def _vouched(block: bytes, names: tuple[bytes, ...]) -> dict[bytes, tuple[bytes, bytes]]:
    """Return the headers of an answer that the service gets, as in `Request.vouched`.

    Several lines of a name become one (RFC 9110, 5.3): what reads only the first would see another caller.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields(block):
        found.setdefault(name.lower(), []).append(value)
    return {
        name.lower(): (name, b", ".join(found[name.lower()]))
        for name in names
        if any(found.get(name.lower(), ()))
    }


def _is_bare_preflight(request: Request) -> bool:
    return is_preflight(request) and request.length in (NO_BODY, 0)
