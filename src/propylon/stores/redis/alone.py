"""Decide without Redis: in the machine's own store, from what Redis said last, and with notes for its return.

The own store knows nothing of what was spent through Redis. So before a key is spent from for the first time in an absence,
what Redis said last of it is spent there, too, as far as it is not spent there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from propylon.errors import ServiceUnavailable
from propylon.loop.signal import Signal
from propylon.proxy.limit.rule import Decision, LimitStore, Spend, refused
from propylon.stores.redis.encoding import Names
from propylon.stores.redis.ledger import Known, Ledger

__all__ = ["Alone", "Decisions"]

Decisions = list[Decision]


class Alone:
    """The store of this machine, for as long as Redis is away."""

    def __init__(
        self, local: LimitStore, names: Names, known: Known, clock: Callable[[], int]
    ) -> None:
        """Decide by `local`; `clock` is monotonic, in microseconds."""
        self.ledger = Ledger(clock)
        self._local = local
        self._names = names
        self._known = known
        self._clock = clock

    def decide(self, spends: Sequence[Spend]) -> Decisions | Signal[Decisions]:
        """Decide one request. Raises ServiceUnavailable for a limit with `on_failure: closed`."""
        counted = _counted(spends)
        if not counted:
            return [_unlimited(spend) for spend in spends]
        for spend in counted:
            self._seed(spend)
        found = self._local.decide(counted)
        if isinstance(found, Signal):
            return self._later(found, spends, counted)
        assert isinstance(found, list)  # noqa: S101 — the port: decisions, or a Signal of them
        return self._settled(spends, counted, found)

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""
        counted = [spend for spend in spends if spend.rule.on_failure != "open"]
        for spend in counted:
            self._seed(spend)
            self.ledger.add(self._names.name(spend.rule, spend.key), spend.cost)
        if counted:
            self._local.charge(counted)

    def _later(
        self, found: Signal[Decisions], spends: Sequence[Spend], counted: Sequence[Spend]
    ) -> Signal[Decisions]:
        settled: Signal[Decisions] = Signal()
        found.attach(lambda done: settled.set(self._settled(spends, counted, done.result())))
        return settled

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

    def _seed(self, spend: Spend) -> None:
        name = self._names.name(spend.rule, spend.key)
        if name in self.ledger:
            return
        rule, debt = spend.rule, self._known.debt(name, self._clock())
        self.ledger.open(name, rule, debt)
        units = -(-debt // rule.unit)
        if units <= 0:
            return
        asked = self._local.decide([Spend(rule, spend.key, 0)])
        if isinstance(asked, Signal):
            asked.attach(lambda done: self._spend_up_to(spend, units, done.result()[0]))
        else:
            assert isinstance(asked, list)  # noqa: S101 — as above
            self._spend_up_to(spend, units, asked[0])

    def _spend_up_to(self, spend: Spend, units: int, now: Decision) -> None:
        """Spend what lacks until so many units are spent in the own store."""
        lacking = units - (spend.rule.burst - now.remaining)
        if lacking > 0:
            self._local.charge([Spend(spend.rule, spend.key, lacking)])


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
