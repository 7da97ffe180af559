"""The cache of a route: it stands before the forward stage, and answers what it can.

    key → a stored answer that serves? → yes: answer
                                       → no: does somebody ask for the same already? → yes: wait for it
                                                                                     → no: fetch, judge, store, answer

Decisions are made in `judgement` and `stored`, without I/O. Here is the order in which they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from propylon.errors import NotStored
from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.fetching import Asks, Fetcher, Visit
from propylon.proxy.cache.flights import Flight, Flights, Landed, Outcome
from propylon.proxy.cache.invalidation import Invalidation
from propylon.proxy.cache.key import Callers, key_of
from propylon.proxy.cache.rules import EVERYONE, CacheRules
from propylon.proxy.cache.serving import serve
from propylon.proxy.cache.sharing import Sharing
from propylon.proxy.cache.status import BYPASSED, COALESCED, HIT, STALE, forwarded, hit
from propylon.proxy.cache.store import AnswerStore, names_of, values_of, written
from propylon.proxy.cache.stored import Stored, Use, decide
from propylon.proxy.counts import Counts
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.headers import without
from propylon.wire.message import NO_BODY, Request

__all__ = ["CacheStage", "Refresh", "asking_of", "passes_by"]

_ROUNDS = 2  # how often a request waits for others: once more for an answer that varies
_EMPTY = (NO_BODY, 0)
_SERVER_ERROR = 500

Refresh = Callable[[Visit, Asks], None]
"""Asks the upstream again in the background, for a stored answer that has become stale."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class CacheStage:
    """The forward stage of a route with a cache.

    `clock` counts seconds for ages, `wall` is seconds since 1970 for dates.
    """

    rules: CacheRules
    store: AnswerStore
    flights: Flights
    callers: Callers
    fetch: Fetcher
    invalidation: Invalidation
    tally: Counts
    clock: Callable[[], float]
    wall: Callable[[], float]
    refresh: Refresh
    sharing: Sharing | None = None

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Answer the request from the store, or forward it. Raises NotStored, and what the forward stage raises."""
        asking = asking_of(request)
        reason = passes_by(exchange, request, asking, self.rules)
        if reason:
            self.tally[BYPASSED] += 1
            exchange.lines += forwarded("method" if reason == "method" else "bypass", detail=reason)
            return await self.invalidation(exchange, request, route)
        key = key_of(exchange, request, asking, self.rules, self.callers)
        visit = Visit(exchange, request, route, asking, key)
        for _ in range(_ROUNDS):
            answer = self._at_hand(visit)
            if answer is not None:
                return answer
            flight_key = self._flight_key(visit)
            if flight_key is None:
                break
            flight = self.flights.under_way(flight_key)
            if flight is None:
                visit.flight = self.flights.begin(flight_key)
                break
            landed = flight.landed or await self._wait(visit, flight)
            answer = self._landed(visit, landed)
            if answer is not None:
                return answer
            if landed.outcome is Outcome.ALONE:
                break
        return await self.asked(visit)

    async def asked(self, visit: Visit) -> Answer:
        """Return what other workers have stored, or ask the upstream. Raises as a call does."""
        if self.sharing is None:
            return await self.fetch(visit)
        looked = False
        try:
            await self.sharing(visit)
            looked = True
        finally:
            # The client has left, or whatever else: somebody else has to ask.
            if not looked:
                visit.land(Landed(Outcome.AGAIN))
        return self._shared(visit) or await self.fetch(visit)

    async def last(self, exchange: Exchange, request: Request, route: Route) -> Answer | None:
        """Return the last answer to such a request, however old; None: there is none, or it may not be used stale.

        RFC 9111, 4.2.4: a cache that is cut off from the origin may do so, unless a directive forbids it.
        """
        asking = asking_of(request)
        if passes_by(exchange, request, asking, self.rules):
            return None
        key = key_of(exchange, request, asking, self.rules, self.callers)
        visit = Visit(exchange, request, route, asking, key)
        stored, now = self._chosen(visit, self.store.get(key)), self.clock()
        if stored is None and self.sharing is not None:
            await self.sharing(visit)
            stored = visit.stored
        if stored is None or stored.judged.strict or stored.status >= _SERVER_ERROR:
            return None
        if decide(stored, asking, now) is Use.ASKED or not self._may_be_read(stored):
            return None
        self.tally[STALE] += 1
        exchange.flags += ("cache_stale",)
        # In place of what is said of the request that has failed.
        lines = without(exchange.lines, (b"cache-status",))
        exchange.lines = lines + hit(stored.left(now), detail="fallback")
        return serve(stored, asking, now, self.wall(), self.fetch.budget)

    def _shared(self, visit: Visit) -> Answer | None:
        """Return the answer that was found behind, if it serves the request. Raises NotStored."""
        stored, use, now = visit.stored, visit.use, self.clock()
        if stored is not None and use in (Use.FRESH, Use.STALE) and self._may_be_read(stored):
            if visit.quiet and use is Use.STALE and visit.lease is not None:
                return None  # this is the one that refreshes it
            visit.land(Landed(Outcome.SHARED, stored))
            if visit.quiet:
                return Reply(stored.head(now), b"", None)
            return self._hit(visit, stored, use, now)
        if visit.asking.only_if_cached:
            visit.land(Landed(Outcome.AGAIN))
            raise _not_stored(visit)
        return None

    def _may_be_read(self, stored: Stored) -> bool:
        """Tell whether there is room for one more slow client of a long answer."""
        return isinstance(stored.body, bytes) or self.fetch.budget.has_room(stored.body)

    async def _wait(self, visit: Visit, flight: Flight) -> Landed:
        """Wait for what another request brings; `timeouts.total` covers that, as it covers policies."""
        began = self.clock()
        landed = await flight.wait(min(self.rules.wait, visit.route.timeouts.total))
        visit.exchange.held += self.clock() - began
        return landed

    def _at_hand(self, visit: Visit) -> Answer | None:
        """Return the stored answer if it serves the request; what was found stays in `visit`. Raises NotStored."""
        answers = self.store.get(visit.key)
        now = self.clock()
        if answers:
            stored = self._chosen(visit, answers)
            if stored is not None:
                use = decide(stored, visit.asking, now)
                visit.stored, visit.use = stored, use
                if use is Use.FRESH or use is Use.STALE:
                    if self._may_be_read(stored):
                        return self._hit(visit, stored, use, now)
                    visit.stored = None
        if visit.asking.only_if_cached and self.sharing is None:
            raise _not_stored(visit)
        return None

    def _chosen(self, visit: Visit, answers: tuple[Stored, ...]) -> Stored | None:
        """Return the answer that this request would get from the upstream, as far as Vary says (RFC 9111, 4.1)."""
        if len(answers) == 1 and not answers[0].vary:
            return answers[0]
        said = written(visit.exchange, visit.request, self.rules)
        return next((one for one in answers if one.matches(visit.asking, said)), None)

    def _hit(self, visit: Visit, stored: Stored, use: Use, now: float) -> Answer:
        exchange = visit.exchange
        if use is Use.STALE:
            self.tally[STALE] += 1
            exchange.flags += ("cache_stale",)
            exchange.lines += hit(stored.left(now), detail="stale-while-revalidate")
            if visit.request.method == "GET":
                self._refresh(visit)
        else:
            self.tally[HIT] += 1
            exchange.flags += ("cache_hit",)
            exchange.lines += hit(stored.judged.lifetime - now + stored.born)
        if visit.asking.plain and isinstance(stored.body, bytes):
            return Reply(stored.head(now), stored.body, None)
        return serve(stored, visit.asking, now, self.wall(), self.fetch.budget)

    def _refresh(self, visit: Visit) -> None:
        """Have a stale answer validated in the background, once for all that ask for it meanwhile."""
        key = self._flight_key(visit, quietly=True)
        if key is not None and self.flights.under_way(key) is None:
            visit.flight = self.flights.begin(key)
            self.refresh(visit, self.asked)

    def _flight_key(self, visit: Visit, *, quietly: bool = False) -> object:
        """Return what others that want the same have, too; None: the request asks for itself alone."""
        asking, stored = visit.asking, visit.stored
        if not quietly:
            if visit.request.method != "GET" or visit.use is Use.ASKED or asking.no_cache:
                return None
            # Without an answer to be validated, such a request goes on as it is, and what comes may be a part.
            if stored is None and not asking.plain:
                return None
        if stored is not None and stored.judged.validates:
            return None  # each use needs a validation of its own
        answers = self.store.get(visit.key)
        names = names_of(answers, self.rules)
        said = written(visit.exchange, visit.request, self.rules) if names else {}
        key = (visit.key, values_of(names, asking, said), self.store.generation(visit.key))
        return None if self.flights.lone(key) else key

    def _landed(self, visit: Visit, landed: Landed) -> Answer | None:
        """Return the answer that another request has brought, if it is for this one, too."""
        stored = landed.stored
        if landed.outcome is not Outcome.SHARED or stored is None:
            return None
        said = written(visit.exchange, visit.request, self.rules)
        if not stored.matches(visit.asking, said):
            return None
        exchange, now = visit.exchange, self.clock()
        self.tally[COALESCED] += 1
        exchange.flags += ("coalesced",)
        exchange.lines += hit(stored.left(now), collapsed=True)
        if landed.filling is None:
            return serve(stored, visit.asking, now, self.wall(), self.fetch.budget)
        if landed.filling.joinable:
            return landed.filling.reader(stored.arriving(now, landed.filling.length))
        if landed.filling.whole:
            return serve(stored, visit.asking, now, self.wall(), self.fetch.budget)
        return None


def _not_stored(visit: Visit) -> NotStored:
    visit.exchange.lines += forwarded("uri-miss", detail="only-if-cached")
    return NotStored("There is no stored answer, and the request wants no other (only-if-cached)")


def passes_by(exchange: Exchange, request: Request, asking: Asking, rules: CacheRules) -> str:
    """Return why a request has nothing to do with the cache; empty: it has."""
    if request.method not in rules.methods:
        return "method"
    if request.handshake is not None:
        return "upgrade"
    if request.length not in _EMPTY:
        return "body"  # the answer may depend on it, and it is in no key
    if exchange.privacy.level == "strict" and rules.by != EVERYONE:
        return "privacy"  # what was answered to a client is not kept
    if asking.no_store:
        return "no-store"
    if exchange.explanation is not None:
        return "explain"  # how the upstream was asked is for this client alone
    return "precondition" if asking.preconditions else ""


def asking_of(request: Request) -> Asking:
    """Return what the request wants of a cache; its lines are read once for all requests that repeat them."""
    known = request.fields
    if request.block is not known.block:
        return Asking(request.block)
    if not isinstance(known.asking, Asking):
        known.asking = Asking(known.block)
    return known.asking
