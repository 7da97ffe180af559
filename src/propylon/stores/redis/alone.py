"""Decide without Redis: in the machine's own store, from what Redis said last, and with notes for its return.

The own store knows nothing of what was spent through Redis. So before a key is spent from for the first time in an absence,
what Redis said last of it is spent there, too, as far as it is not spent there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from propylon.errors import ServiceUnavailable
from propylon.proxy.limit.rule import Decision, LocalLimitStore, Spend, refused
from propylon.stores.redis.encoding import Names
from propylon.stores.redis.ledger import Known, Ledger

__all__ = ["Alone", "Decisions"]

Decisions = list[Decision]


class Alone:
    """The store of this machine, for as long as Redis is away."""

    def __init__(
        self, local: LocalLimitStore, names: Names, known: Known, clock: Callable[[], int]
    ) -> None:
        """Decide by `local`; `clock` is monotonic, in microseconds."""
        self.ledger = Ledger(clock)
        self._local = local
        self._names = names
        self._known = known
        self._clock = clock

    def decide(self, spends: Sequence[Spend]) -> Decisions:
        """Decide one request. Raises ServiceUnavailable for a limit with `on_failure: closed`."""
        counted = _counted(spends)
        if not counted:
            return [_unlimited(spend) for spend in spends]
        self._seed(counted)
        return self._settled(spends, counted, self._local.decide(counted))

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""
        counted = [spend for spend in spends if spend.rule.on_failure != "open"]
        self._seed(counted)
        for spend in counted:
            self.ledger.add(self._names.name(spend.rule, spend.key), spend.cost)
        self._local.charge(counted)

    def _settled(
        self, spends: Sequence[Spend], counted: Sequence[Spend], found: Decisions
    ) -> Decisions:
        """Note what was spent, and put the limits that are open meanwhile beside it."""
        if not refused(counted, found):
            for spend, one in zip(counted, found, strict=True):
                if one.allowed and spend.cost:
                    self.ledger.add(self._names.name(spend.rule, spend.key), spend.cost)
        if len(counted) == len(spends):
            return found
        by_rule = {spend.rule: one for spend, one in zip(counted, found, strict=True)}
        return [by_rule.get(spend.rule) or _unlimited(spend) for spend in spends]

    # What Redis said last

    def _seed(self, counted: Sequence[Spend]) -> None:
        """Tell the own store what Redis said last of new keys."""
        wanted = [one for spend in counted if (one := self._opened(spend)) is not None]
        if wanted:
            now = self._local.decide([spend._replace(cost=0) for spend in wanted])
            self._spend_up_to(wanted, now)

    def _opened(self, spend: Spend) -> Spend | None:
        """Begin to note a key; return what is to be spent of it in the own store, if Redis has said that something is."""
        name, rule = self._names.name(spend.rule, spend.key), spend.rule
        if name in self.ledger:
            return None
        debt = self._known.debt(name, self._clock())
        self.ledger.open(name, rule, debt)
        return spend._replace(cost=-(-debt // rule.unit)) if debt else None

    def _spend_up_to(self, wanted: Sequence[Spend], now: Decisions) -> None:
        """Spend what lacks until so many units are spent in the own store."""
        for spend, one in zip(wanted, now, strict=True):
            lacking = spend.cost - (spend.rule.burst - one.remaining)
            if lacking > 0:
                self._local.charge([spend._replace(cost=lacking)])


def _counted(spends: Sequence[Spend]) -> Sequence[Spend]:
    """Return the spends of limits that count while Redis is away. Raises ServiceUnavailable."""
    counted = []
    for spend in spends:
        if spend.rule.on_failure == "closed" and not spend.rule.shadow:
            msg = "The store of the rate limits is unavailable"
            raise ServiceUnavailable(
                msg, headers=((b"Retry-After", b"1"),), reason="Redis is away (on_store_failure)"
            )
        if spend.rule.on_failure != "open":
            counted.append(spend)
    return counted


def _unlimited(spend: Spend) -> Decision:
    """Return what a limit tells that is open: all of it is left."""
    return Decision(allowed=True, remaining=spend.rule.burst, reset=0, retry_after=0)
