"""Define a limit, what a request wants to spend of it, what a store decides, and the port that each store fills. Pure.

Words. A *unit* is what is counted: a request costs one unit, or its `cost`. A *key* is who is counted: a caller, an
address. A *spend* is one key of one limit together with a cost. All spends of one request are decided together: if an
enforced limit refuses, nothing is spent, of no limit.

Time is in whole microseconds of the store's clock. A *tick* is a fraction of a microsecond: a rate of 3/s has an
interval of 333,333⅓ µs, and in ticks of ⅓ µs it is a whole number. So all stores calculate with whole numbers, and get
the same results. No number exceeds 2^53, the largest that Lua has exactly (Redis scripts).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import gcd
from typing import Literal, NamedTuple, Protocol

__all__ = [
    "MICROSECONDS",
    "Decision",
    "LimitStore",
    "LocalLimitStore",
    "LocalTake",
    "OnFailure",
    "Rule",
    "Spend",
    "Take",
    "Taken",
    "refused",
    "storage_key",
]

MICROSECONDS = 1_000_000
"""In a second."""

OnFailure = Literal["local", "open", "closed"]
# Ticks of a full bucket: eight of them together are still below 2^53.
_MOST_TICKS = 2**49
# An answer may cost more than what is left. The caller then waits until that is paid off, but for no longer than it
# takes to fill the bucket so many times: an upstream that reports a wrong cost must not lock a caller out for years.
_DEEPEST = 8
# A sliding window of more units than this keeps no moment for each, but counts for so many parts of the window.
_PARTS = 64
_DIGEST = 16  # bytes: two of 2^64 keys have the same one


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One limit: `amount` units in `period` microseconds, `burst` at once.

    - `place` and `name` say which limit it is, in all workers and gateways: `route:orders` and `per-day`.
    - `sliding`: never more than `amount` in any window of `period`; otherwise a bucket of `burst` units that fills at
      the rate (GCRA). `burst` is `amount` then.
    - `shadow`: it counts what it would refuse, and refuses nothing.
    - `charged`: answers may cost something afterwards, so that more than all may be spent.
    - `on_failure`: what becomes of its requests while a store that others share cannot be reached.
    """

    place: str
    name: str
    amount: int
    period: int
    burst: int
    sliding: bool = False
    shadow: bool = False
    charged: bool = False
    on_failure: OnFailure = "local"

    # What stores tell it by. Another rate is another limit: its counts begin anew.
    identity: bytes = field(init=False, repr=False)
    # GCRA: ticks in a microsecond, ticks that a unit costs, ticks of a full bucket, and the deepest that it can be.
    scale: int = field(init=False, repr=False)
    unit: int = field(init=False, repr=False)
    capacity: int = field(init=False, repr=False)
    deepest: int = field(init=False, repr=False)
    # Sliding: how many microseconds are counted as one moment.
    grain: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Calculate what each decision needs."""
        put = object.__setattr__
        put(self, "identity", self._identity())
        scale, unit = _ticks(self.amount, self.period, self.burst)
        put(self, "scale", scale)
        put(self, "unit", unit)
        put(self, "capacity", self.burst * unit)
        put(self, "deepest", self.burst * unit * (_DEEPEST if self.charged else 1))
        exact = self.burst <= _PARTS and not self.charged
        put(self, "grain", 1 if exact else -(-self.period // _PARTS))

    @property
    def id(self) -> str:
        """What logs, metrics and `/rate-limits` call it."""
        return f"{self.place}/{self.name}"

    def _identity(self) -> bytes:
        kind = "sliding" if self.sliding else "gcra"
        numbers = f"{self.amount} {self.period} {self.burst} {self.charged:d}"
        return f"{self.place}\n{self.name}\n{kind} {numbers}".encode()

    @property
    def window(self) -> int:
        """Whole seconds in which a caller that has spent all gets all of it back."""
        full = self.period if self.sliding else -(-self.burst * self.period // self.amount)
        return -(-full // MICROSECONDS)


def _ticks(amount: int, period: int, burst: int) -> tuple[int, int]:
    """Return ticks in a microsecond, and ticks that a unit costs: exactly the rate, or a hair slower."""
    common = gcd(amount, period)
    scale, unit = amount // common, period // common
    if burst * unit > _MOST_TICKS:
        scale = max(1, _MOST_TICKS * amount // (burst * period))
        unit = -(-period * scale // amount)
    return scale, unit


class Spend(NamedTuple):
    """What a request wants of one limit: `cost` units for `key`. With a cost of 0 it passes if there is one unit left."""

    rule: Rule
    key: str
    cost: int = 1


class Decision(NamedTuple):
    """What a store says of one spend.

    - `allowed`: whether this limit lets the request pass. It is spent only if all enforced limits do.
    - `remaining`: units that may be spent now, after the decision.
    - `reset`: whole seconds, rounded up, until all may be spent.
    - `retry_after`: whole seconds, rounded up, until the same spend would pass; 0 if it is allowed.
    """

    allowed: bool
    remaining: int
    reset: int
    retry_after: int


Taken = tuple[int, int, int]
"""What remains, the seconds until all may be spent, and those to wait; 0: it is spent. As in `Decision`."""

Take = Callable[[str], Taken | Awaitable[Taken]]
"""Decides a spend for a key."""
LocalTake = Callable[[str], Taken]
"""The same, at once."""


class LimitStore(Protocol):
    """Where limits are counted: the port that stores fill. All have the arithmetic of `proxy.limit.arithmetic`."""

    def decide(self, spends: Sequence[Spend]) -> list[Decision] | Awaitable[list[Decision]]:
        """Decide all spends of one request together, and spend them if no enforced limit refuses.

        The decisions are in the order of the spends. A store that can answer at once returns a list, and the request
        goes on without waiting. One that has to wait returns something to await (a `Signal`). It never fails because of the store's trouble, but for a limit with `on_failure: closed`: raises
        ServiceUnavailable.
        """

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left; a negative cost gives units back. Does not wait, and never fails."""

    def taker(self, rule: Rule, cost: int) -> Take | None:  # noqa: ARG002 — of a store that waits
        """Return what decides a spend of this limit alone; None: the store has only `decide`.

        The usual route has one limit, of which each request costs the same: so much of the work can be done before.
        """
        return None


class LocalLimitStore(LimitStore, Protocol):
    """A store that waits for nothing: in this process, or on this machine."""

    def decide(self, spends: Sequence[Spend]) -> list[Decision]:
        """Decide at once."""

    def taker(self, rule: Rule, cost: int) -> LocalTake | None:
        """Return what decides at once; None: the store has only `decide`."""


def refused(spends: Sequence[Spend], decisions: Sequence[Decision]) -> bool:
    """Tell whether one of the enforced limits refuses the request."""
    return any(
        not decision.allowed and not spend.rule.shadow
        for spend, decision in zip(spends, decisions, strict=True)
    )


def storage_key(identity: bytes, key: str) -> bytes:
    """Return the key under which a shared store counts a key of the limit with this identity.

    A digest, so that no key is too long for a store, and no caller's name is to be read in it.
    """
    return blake2b(
        key.encode("utf-8", "surrogateescape") + b"\n\n" + identity, digest_size=_DIGEST
    ).digest()
