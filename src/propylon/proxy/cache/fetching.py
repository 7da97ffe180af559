"""Ask the upstream for an answer that is not in the store, or is not fresh, and store what comes (RFC 9111, 3 and 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from propylon.errors import (
    GatewayError,
    ServiceUnavailable,
    UpstreamError,
    UpstreamTimeout,
)
from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.behind import UNKNOWN, Behind, Lease
from propylon.proxy.cache.filling import Budget, Filling
from propylon.proxy.cache.flights import Flight, Landed, Outcome
from propylon.proxy.cache.judgement import Judgement, judge
from propylon.proxy.cache.key import Key
from propylon.proxy.cache.rules import EVERYONE, CacheRules
from propylon.proxy.cache.serving import serve
from propylon.proxy.cache.status import MISSED, STALE, STORED, VALIDATED, forwarded, hit
from propylon.proxy.cache.store import AnswerStore, values_of, written
from propylon.proxy.cache.stored import Stored, Use, conditions, merged
from propylon.proxy.counts import Counts
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Forwards, Route
from propylon.proxy.site import site_of
from propylon.upstream.ports import Answer
from propylon.wire.headers import fields, render
from propylon.wire.message import Request, Response

__all__ = ["Asks", "Fetcher", "Visit"]

_NOT_MODIFIED = 304
# RFC 5861, 4: what counts as an error there.
_ERRORS = frozenset({500, 502, 503, 504})
_FAILURES = (UpstreamError, UpstreamTimeout, ServiceUnavailable)
_ALONE = Landed(Outcome.ALONE)


@dataclass(slots=True)
class Visit:
    """One request at the cache: what it asks for, and what was found for it so far."""

    exchange: Exchange
    request: Request
    route: Route
    asking: Asking
    key: Key
    stored: Stored | None = None
    use: Use | None = None
    flight: Flight | None = None  # that this request leads
    generation: int = 0  # of the key, when the upstream was asked
    since: int = UNKNOWN  # the last deletion of the store behind, when it was looked at
    lease: Lease | None = None  # of what is named `lease_name`, for this worker
    lease_name: bytes = b""
    keeps: bool = False  # the lease ends when the answer is kept
    quiet: bool = False  # no client waits

    def land(self, landed: Landed, *, lone: bool = False) -> None:
        """Tell those that wait, if there is a flight; other workers may ask now, unless the answer is on its way to them."""
        if self.flight is not None:
            self.flight.land(landed, lone=lone)
        if landed.filling is None and not self.keeps:
            self.release()

    def release(self) -> None:
        """Let other workers ask."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()

    @property
    def why(self) -> str:
        """Why the request goes to the upstream, as RFC 9211, 2.2 has it."""
        if self.stored is None:
            return "uri-miss"
        return "request" if self.use is Use.ASKED else "stale"


Asks = Callable[[Visit], Coroutine[Any, Any, Answer]]
"""Finds or fetches the answer of a visit."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Asks the upstream, judges and stores; `settle` tells breaker and fleet of a failure that no client sees."""

    rules: CacheRules
    forward: Forwards
    store: AnswerStore
    budget: Budget
    tally: Counts
    clock: Callable[[], float]
    wall: Callable[[], float]
    settle: Callable[[Exchange], None]
    behind: Behind | None = None

    async def __call__(self, visit: Visit) -> Answer:
        """Return the upstream's answer, or the stored one where that is still good. Raises what forward raises."""
        answered = False
        try:
            answer = await self._asked(visit)
            answered = True
        except _FAILURES:
            visit.exchange.lines += forwarded(visit.why)
            self._note_lone(visit)
            visit.land(_ALONE)
            raise
        finally:
            # The client has left, or whatever else: somebody else has to ask. A no-op after any other end.
            if not answered:
                visit.land(Landed(Outcome.AGAIN))
        return answer

    async def _asked(self, visit: Visit) -> Answer:
        stored, request = visit.stored, visit.request
        block = request.block
        asks = self._prepare(visit)
        visit.generation = self.store.generation(visit.key)
        began = self.clock()
        try:
            answer = await self.forward(visit.exchange, request, visit.route)
        except _FAILURES as error:
            if stored is None or not self._covers(stored, visit.asking):
                raise
            return self._covered(visit, stored, error, None)
        finally:
            request.block = block
        status = answer.head.status
        if stored is not None and status in _ERRORS and self._covers(stored, visit.asking):
            if answer.body is None:
                answer.abort()
            return self._covered(visit, stored, None, status)
        if asks and stored is not None and status == _NOT_MODIFIED:
            return self._validated(visit, stored, answer.head)
        return self._taken(visit, answer, self.clock() - began)

    def _prepare(self, visit: Visit) -> bool:
        """Ask for the whole answer, or for none if the stored one is still good; tell whether it asks so."""
        stored, request, asking = visit.stored, visit.request, visit.asking
        if request.method != "GET" or (stored is None and visit.flight is None):
            return False  # as the client asks
        block = conditions(stored) if stored is not None else b""
        if block or asking.unconditional is not request.block:
            request.block = asking.unconditional + block
        return bool(block)

    # What failed

    def _covers(self, stored: Stored, asking: Asking) -> bool:
        """Tell whether a stale answer stands for a failure (RFC 5861, 4)."""
        if asking.no_cache or asking.max_age is not None:
            return False
        return -stored.left(self.clock()) < stored.judged.stale_if_error

    def _covered(
        self, visit: Visit, stored: Stored, error: GatewayError | None, status: int | None
    ) -> Answer:
        exchange = visit.exchange
        # Said here and now: the exchange ends well, and yet the service has failed.
        exchange.error, exchange.upstream_status = error, status or 0
        exchange.ended = self.clock()
        self.settle(exchange)
        exchange.error = exchange.permit = exchange.instance = None
        exchange.flags += ("cache_stale",)
        self.tally[STALE] += 1
        now = self.clock()
        exchange.lines += hit(stored.left(now), detail="stale-if-error")
        visit.land(Landed(Outcome.SHARED, stored))
        return serve(stored, visit.asking, now, self.wall(), self.budget)

    # What is still good

    def _validated(self, visit: Visit, stored: Stored, head: Response) -> Answer:
        """Use the stored answer again, with what the 304 says of it (RFC 9111, 4.3.4)."""
        exchange, now = visit.exchange, self.clock()
        exchange.flags += ("cache_revalidated",)
        self.tally[VALIDATED] += 1
        fresh = merged(stored, head)
        judged = self._judged(visit, fresh, 0.0)
        exchange.lines += forwarded(visit.why, status=_NOT_MODIFIED, stored=not judged.refusal)
        if head.sets_cookies:
            # For this client alone; what is stored stays as it is, to be validated again.
            visit.land(_ALONE, lone=True)
            cookies = [pair for pair in fields(head.block) if pair[0].lower() == b"set-cookie"]
            answer = serve(stored, visit.asking, now, self.wall(), self.budget)
            whole = answer.head
            answer.head = Response(
                whole.status,
                whole.reason,
                whole.block + render(cookies),
                whole.length,
                keep_alive=True,
            )
            answer.head.sets_cookies = True
            return answer
        result = Stored(fresh, judged, stored.vary, now, route=stored.route)
        result.complete(stored.body, stored.length)
        if judged.refusal:
            self._drop(visit, stored)
        else:
            self._store(visit, result)
        visit.land(_ALONE if judged.unshared else Landed(Outcome.SHARED, result))
        return serve(result, visit.asking, now, self.wall(), self.budget)

    # What is new

    def _taken(self, visit: Visit, answer: Answer, delay: float) -> Answer:
        """Pass an answer on, and store it if that may be."""
        exchange, head = visit.exchange, answer.head
        judged = self._judged(visit, head, delay)
        self.tally[MISSED] += 1
        stores = not judged.refusal and visit.request.method == "GET"
        shares = not judged.unshared and visit.flight is not None and self._is_whole(head)
        exchange.lines += forwarded(
            visit.why, stored=stores, detail=judged.refusal if judged.refusal != "off" else ""
        )
        if (
            visit.stored is not None
            and visit.request.method == "GET"
            and head.status < min(_ERRORS)
        ):
            self._drop(visit, visit.stored)
        waited = visit.flight is not None and (visit.flight.waiting or answer.body is None)
        if not stores and not (shares and waited):
            self._note_lone(visit)
            visit.land(_ALONE, lone=bool(judged.unshared))
            return answer
        stored = self._stored(visit, head, judged)
        if answer.body is not None:
            stored.complete(answer.body, len(answer.body))
            self._keep(visit, stored, stores=stores)
            visit.land(Landed(Outcome.SHARED, stored) if shares else _ALONE)
            return answer
        return self._fill(visit, answer, stored, stores=stores, shares=shares)

    def _note_lone(self, visit: Visit) -> None:
        """Tell other workers that they will not find this answer."""
        if visit.lease is not None and self.behind is not None:
            self.behind.note_lone(visit.lease_name)

    def _is_whole(self, head: Response) -> bool:
        return head.length <= self.rules.max_object

    def _fill(
        self, visit: Visit, answer: Answer, stored: Stored, *, stores: bool, shares: bool
    ) -> Answer:
        """Store the body while it comes."""

        def done(body: bytes | tuple[bytes, ...] | None, length: int) -> None:
            if body is None:
                self._note_lone(visit)
                visit.land(_ALONE)
            else:
                stored.complete(body, length)
                self._keep(visit, stored, stores=stores)
                visit.land(Landed(Outcome.SHARED, stored) if shares else _ALONE)
            if visit.flight is not None:
                visit.flight.end()

        filling = Filling(answer, self.rules.max_object, self.budget, done)
        reader = filling.reader(answer.head)
        if answer.head.length >= 0 and shares:
            # How long it is is known, and that it fits: the others may begin to read.
            if visit.flight is not None and visit.flight.waiting:
                filling.hold()
            visit.land(Landed(Outcome.SHARED, stored, filling))
        filling.start()
        return reader

    def _keep(self, visit: Visit, stored: Stored, *, stores: bool) -> None:
        if stores:
            self._store(visit, stored)
            self.tally[STORED] += 1

    def _store(self, visit: Visit, stored: Stored) -> None:
        self.store.put(visit.key, stored, visit.generation)
        if self.behind is not None:
            visit.keeps = True
            self.behind.keep(visit.key, stored, visit.since, visit.release)

    def _drop(self, visit: Visit, stored: Stored) -> None:
        self.store.drop(visit.key, stored)
        if self.behind is not None:
            self.behind.drop(visit.key, stored)

    def _judged(self, visit: Visit, head: Response, delay: float) -> Judgement:
        unverified = (
            self.rules.by == EVERYONE
            and visit.asking.authorized
            and not visit.exchange.principal.known
        )
        return judge(head, self.rules, self.wall(), unverified=unverified, delay=delay)

    def _stored(self, visit: Visit, head: Response, judged: Judgement) -> Stored:
        exchange, request, route = visit.exchange, visit.request, visit.route
        block = head.block
        if head.addressed and route.public is not None:
            # Where the answer comes from is known now, and not when it is used again.
            block = route.public.apply(block, site_of(exchange, route))
        said = written(exchange, request, self.rules)
        kept = Response(head.status, head.reason, block, head.length, keep_alive=True)
        return Stored(
            kept,
            judged,
            values_of(judged.vary, visit.asking, said),
            self.clock(),
            route=self.rules.route,
        )
