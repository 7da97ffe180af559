"""Count a request by all limits of its route; tell the client what it has left, or refuse it. Pure.

    enter (in flight) → price → decide (all limits together) → headers → 429, or go on → … → settle: leave, charge

A store of this machine decides at once, and then the stage has nothing to wait for: it returns None instead of something
to await. What a request holds or owes is kept with the exchange (`Owed`), and settled when the exchange ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from propylon.errors import RateLimited
from propylon.proxy.counts import Counts
from propylon.proxy.exchange import Exchange, Settlement
from propylon.proxy.limit.fields import OWN, Fields, OfOne
from propylon.proxy.limit.in_flight import InFlight
from propylon.proxy.limit.keys import KeyOf
from propylon.proxy.limit.rule import Decision, LimitStore, Rule, Spend, Take, Taken
from propylon.proxy.principal import Principal
from propylon.wire.message import Request

__all__ = ["ALLOWED", "REFUSED", "SHADOWED", "Limit", "LimitStage"]

# Places in a limit's tally.
ALLOWED, REFUSED, SHADOWED = range(3)
SHADOW_FLAG = "shadow_limit"
# Seconds. When one of the requests in flight will end is not known; a second is the shortest that the header has.
_IN_FLIGHT_WAIT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """One limit of a route.

    - `rule`: the rate; with `rated` False there is none, and only what is in flight is limited.
    - `cost`: of each request; None: the route's price, or 1.
    - `charge` reads what an answer has cost out of its block; None: nothing.
    - `charged`: the route's own function says what an answer has cost.
    - `tally`: how many requests were allowed, refused, and would have been refused.
    """

    rule: Rule
    name: str  # in headers
    key_of: KeyOf
    tally: Counts
    rated: bool = True
    cost: int | None = None
    charge: Callable[[bytes], int] | None = None
    charged: bool = False
    in_flight: InFlight | None = None
    by: tuple[str, ...] = ()  # how the configuration writes the key

    @property
    def owes(self) -> bool:
        """Whether something is to be done when an exchange has ended."""
        return self.in_flight is not None or self.charged or self.charge is not None


Price = Callable[[Request, Principal], Awaitable[int]]
"""Returns what a request costs, or raises a GatewayError."""
Charge = Callable[[Exchange, Callable[[int], None]], None]
"""Begins to find out what the answer has cost, and calls back with it, once."""


Found = list[Decision]


class LimitStage:
    """The limit stage of a route."""

    __slots__ = (
        "__weakref__",
        "_charge",
        "_fields",
        "_hot",
        "_owes",
        "_price",
        "_rated",
        "_store",
        "limits",
    )

    def __init__(
        self,
        limits: Sequence[Limit],
        store: LimitStore,
        price: Price | None = None,
        charge: Charge | None = None,
    ) -> None:
        """Count by these limits in `store`. `price` and `charge` are the team's own functions for this route."""
        self.limits = tuple(limits)
        self._store = store
        self._price = price if any(limit.cost is None for limit in limits) else None
        self._charge = charge if any(limit.charged for limit in limits) else None
        self._rated = tuple(limit for limit in limits if limit.rated)
        # Whether anything is to be done at the end of an exchange.
        self._owes = any(limit.owes for limit in limits)
        told = [limit for limit in self._rated if not limit.rule.shadow]
        self._fields = Fields([(one.rule, one.name) for one in told]) if told else None
        self._hot = self._hot_path()

    @property
    def fields(self) -> tuple[bytes, ...]:
        """The names of the headers that it writes into each answer; in lower case."""
        return () if self._fields is None else OWN

    def _hot_path(
        self,
    ) -> tuple[KeyOf, Take, OfOne, Counts] | None:
        """Return the parts of a stage with one enforced limit and no other business; None for any other stage."""
        limit = self.limits[0]
        plain = len(self.limits) == 1 and limit.cost is not None and not limit.owes
        if not plain or limit.cost is None or self._fields is None:
            return None
        take = self._store.taker(limit.rule, limit.cost)
        return None if take is None else (limit.key_of, take, self._fields.of_one, limit.tally)

    def __call__(
        self, exchange: Exchange, request: Request, principal: Principal
    ) -> Awaitable[None] | None:
        """Count the request; return what is to be awaited, or None if all is decided.

        Raises RateLimited, and what the route's price raises: now, or when it is awaited.
        """
        if self._hot is None:
            return self._count(exchange, request, principal)
        key_of, take, fields, tally = self._hot
        taken = take(key_of(request, principal, exchange.downstream.origin.client))
        if not isinstance(taken, tuple):
            return self._waited_hot(exchange, taken)
        left, reset, wait = taken
        exchange.lines += fields((left, reset, left, reset))
        if wait:
            self._refuse_hot(exchange, wait)
        tally[ALLOWED] += 1
        return None

    async def _waited_hot(self, exchange: Exchange, taken: Awaitable[Taken]) -> None:
        left, reset, wait = await taken
        limit = self.limits[0]
        if self._fields is not None:
            exchange.lines += self._fields.of_one((left, reset, left, reset))
        if wait:
            self._refuse_hot(exchange, wait)
        limit.tally[ALLOWED] += 1

    def _refuse_hot(self, exchange: Exchange, wait: int) -> None:
        _noted(exchange, self.limits[0], allowed=False)
        raise _too_many(self.limits, wait)

    def _count(
        self, exchange: Exchange, request: Request, principal: Principal
    ) -> Awaitable[None] | None:
        client = exchange.downstream.origin.client
        keys = [limit.key_of(request, principal, client) for limit in self.limits]
        if self._owes:
            self._enter(exchange, keys)
        if self._price is not None:
            return self._priced(self._price, exchange, request, principal, keys)
        return self._counted(exchange, keys, 1)

    async def _priced(
        self,
        price: Price,
        exchange: Exchange,
        request: Request,
        principal: Principal,
        keys: list[str],
    ) -> None:
        waiting = self._counted(exchange, keys, await price(request, principal))
        if waiting is not None:
            await waiting

    def _counted(self, exchange: Exchange, keys: list[str], price: int) -> Awaitable[None] | None:
        spends = [
            Spend(limit.rule, key, price if limit.cost is None else limit.cost)
            for limit, key in zip(self.limits, keys, strict=True)
            if limit.rated
        ]
        found = self._store.decide(spends)
        if isinstance(found, list):
            self._conclude(exchange, found)
            return None
        return self._waited(exchange, found)

    async def _waited(self, exchange: Exchange, found: Awaitable[Found]) -> None:
        self._conclude(exchange, await found)

    def _conclude(self, exchange: Exchange, decisions: Found) -> None:
        """Note what was decided, tell the client, and refuse if a limit does."""
        refusing = [
            (limit, decision.retry_after)
            for limit, decision in zip(self._rated, decisions, strict=True)
            if _noted(exchange, limit, allowed=decision.allowed)
        ]
        if self._fields is not None:
            told = zip(self._rated, decisions, strict=True)
            exchange.lines += self._fields.block(
                [decision for limit, decision in told if not limit.rule.shadow]
            )
        if refusing:
            raise _too_many([limit for limit, _ in refusing], max(wait for _, wait in refusing))

    def _enter(self, exchange: Exchange, keys: list[str]) -> None:
        """Count the request among those in flight until it is settled. Raises RateLimited."""
        owed = _Owed(self._store, self._charge)
        exchange.owed = owed
        refusing = []
        for limit, key in zip(self.limits, keys, strict=True):
            if limit.in_flight is None:
                continue
            if limit.in_flight.enter(key):
                owed.entered.append((limit.in_flight, key))
            elif _noted(exchange, limit, allowed=False):
                refusing.append(limit)
        if refusing:
            raise _too_many(refusing, _IN_FLIGHT_WAIT)
        owed.due = [
            (limit, key)
            for limit, key in zip(self.limits, keys, strict=True)
            if limit.charged or limit.charge is not None
        ]


def _noted(exchange: Exchange, limit: Limit, *, allowed: bool) -> bool:
    """Count a decision; return whether it refuses the request."""
    if allowed:
        limit.tally[ALLOWED] += 1
        return False
    exchange.limited += (limit.rule.id,)
    if limit.rule.shadow:
        limit.tally[SHADOWED] += 1
        exchange.flags += (SHADOW_FLAG,)
        return False
    limit.tally[REFUSED] += 1
    return True


def _too_many(limits: Sequence[Limit], wait: int) -> RateLimited:
    names = [limit.name for limit in limits]
    error = RateLimited(
        "Too many requests",
        details={"retry_after": wait, "limits": names},
        # Whole seconds (RFC 9110, 10.2.3), rounded up: otherwise the client comes too early.
        headers=((b"Retry-After", b"%d" % wait),),
    )
    error.violated = tuple(names)
    return error


@dataclass(slots=True)
class _Owed(Settlement):
    """What one exchange holds, and what its answer may cost."""

    store: LimitStore
    charge: Charge | None
    entered: list[tuple[InFlight, str]] = field(default_factory=list)
    due: list[tuple[Limit, str]] = field(default_factory=list)

    def settle(self, exchange: Exchange) -> None:
        """Leave, and charge what the answer says; a team's function may say it later.

        An answer that broke off is charged, too: its head has come, and the upstream has done the work.
        """
        for counted, key in self.entered:
            counted.leave(key)
        head = exchange.head
        if head is None or not self.due:
            return
        self._pay(
            [
                Spend(limit.rule, key, limit.charge(head.block))
                for limit, key in self.due
                if limit.charge is not None
            ]
        )
        if self.charge is not None:
            self.charge(exchange, self._pay_later)

    def _pay_later(self, cost: int) -> None:
        self._pay([Spend(limit.rule, key, cost) for limit, key in self.due if limit.charged])

    def _pay(self, spends: list[Spend]) -> None:
        if spends := [spend for spend in spends if spend.cost]:
            self.store.charge(spends)
