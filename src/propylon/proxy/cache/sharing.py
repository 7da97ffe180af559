"""Look behind the worker's memory before the upstream is asked: another worker, or another machine, may have the answer.

Rules.

1. What is found is put into the worker's memory, unless something was deleted while it was looked for.
2. Of all workers of a machine one asks the upstream for a key: the one that has the lease. The others look again when they
   get it. They wait as long as requests in one worker wait for each other, and then ask for themselves.
3. If the answer was not for others, or was none, that is noted for a while, and nobody waits. So who gets a lease and finds
   nothing comes after a worker that has died, and asks in its place.
4. The refresh of a stale answer waits for nobody: another worker is at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from propylon.loop.signal import Signal
from propylon.proxy.cache.behind import Behind, Found, Held
from propylon.proxy.cache.deletion import digest_of
from propylon.proxy.cache.fetching import Visit
from propylon.proxy.cache.flights import Timers
from propylon.proxy.cache.rules import CacheRules
from propylon.proxy.cache.store import AnswerStore, written
from propylon.proxy.cache.stored import Use, decide

__all__ = ["Sharing"]

# Seconds between two attempts to get a lease: twice as long each time.
_FIRST, _LAST = 0.001, 0.025
# Seconds: a record of an answer and the answer itself may differ by as much in when they were born.
_SAME = 0.05
_ENOUGH = frozenset({Use.FRESH, Use.STALE})


@dataclass(frozen=True, slots=True)
class Sharing:
    """The way to the store behind, for one route. `clock` counts seconds."""

    rules: CacheRules
    store: AnswerStore
    behind: Behind
    timers: Timers
    clock: Callable[[], float]

    async def __call__(self, visit: Visit) -> None:
        """Leave in `visit` the best stored answer that there is, and the lease if nobody else has it."""
        if visit.flight is None or visit.asking.no_cache:
            await self._look(visit)
            return
        name = visit.lease_name = digest_of(b"lease", *visit.key)
        alone = self.behind.lone(name)
        if not alone:
            visit.lease = self.behind.lease(name)
        if await self._look(visit) or alone or visit.lease is not None or visit.quiet:
            return
        if await self._leased(visit):
            await self._look(visit)

    async def _leased(self, visit: Visit) -> bool:
        """Wait for the lease; False: it has taken too long, or nobody shares the answer."""
        began, pause = self.clock(), _FIRST
        ends = began + min(self.rules.wait, visit.route.timeouts.total)
        while self.clock() < ends and not self.behind.lone(visit.lease_name):
            await self._pause(pause)
            pause = min(2 * pause, _LAST)
            visit.lease = self.behind.lease(visit.lease_name)
            if visit.lease is not None:
                break
        visit.exchange.held += self.clock() - began
        return visit.lease is not None

    def _pause(self, seconds: float) -> Signal[None]:
        signal: Signal[None] = Signal()
        self.timers.call_later(seconds, lambda: signal.set(None))
        return signal

    async def _look(self, visit: Visit) -> bool:
        """Look for an answer that is better than the one at hand; tell whether it serves the request as it is."""
        generation = self.store.generation(visit.key)
        found = await self.behind.look(visit.key, self.rules.route)
        visit.since = found.since
        held = self._chosen(visit, found)
        if held is None:
            return False
        body = await self.behind.load(held)
        if body is None:
            return False
        stored = held.stored
        stored.complete(body, held.length)
        self.store.put(visit.key, stored, generation)
        visit.stored, visit.use = stored, decide(stored, visit.asking, self.clock())
        return visit.use in _ENOUGH

    def _chosen(self, visit: Visit, found: Found) -> Held | None:
        """Return the newest answer that this request would get, if it is newer than the one at hand."""
        said = written(visit.exchange, visit.request, self.rules)
        for held in found.answers:
            if held.stored.matches(visit.asking, said):
                mine = visit.stored
                return held if mine is None or mine.born + _SAME < held.stored.born else None
        return None
