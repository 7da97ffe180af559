"""Decide without Redis: in the machine's own store, from what Redis said last, and with notes for its return.

The own store knows nothing of what was spent through Redis. So before a key is spent from for the first time in an absence,
what Redis said last of it is spent there, too, as far as it is not spent there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

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
        # While the own store is told what Redis said last, what comes later waits for that: a millisecond.
        self._seeding = False
        self._later: list[Callable[[], None]] = []

    def decide(self, spends: Sequence[Spend]) -> Decisions | Signal[Decisions]:
        """Decide one request. Raises ServiceUnavailable for a limit with `on_failure: closed`."""
        counted = _counted(spends)
        if not counted:
            return [_unlimited(spend) for spend in spends]
        if self._seed(counted):
            return self._decided(spends, counted)
        answer: Signal[Decisions] = Signal()

        def go_on() -> None:
            if not self._seed(counted):
                self._later.append(go_on)
                return
            found = self._decided(spends, counted)
            if isinstance(found, Signal):
                found.attach(lambda done: answer.set(done.result()))
            else:
                answer.set(found)

        self._later.append(go_on)
        return answer

    def _decided(
        self, spends: Sequence[Spend], counted: Sequence[Spend]
    ) -> Decisions | Signal[Decisions]:
        found = self._local.decide(counted)
        if not isinstance(found, Signal):
            return self._settled(spends, counted, _at_once(found))
        settled: Signal[Decisions] = Signal()
        found.attach(lambda done: settled.set(self._settled(spends, counted, done.result())))
        return settled

    def charge(self, spends: Sequence[Spend]) -> None:
        """Spend whatever is left."""
        counted = [spend for spend in spends if spend.rule.on_failure != "open"]
        if not self._seed(counted):
            self._later.append(lambda: self.charge(spends))
        elif counted:
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

    def _seed(self, counted: Sequence[Spend]) -> bool:
        """Tell the own store what Redis said last of new keys; return False if that is not done yet."""
        if self._seeding:
            return False
        wanted = [one for spend in counted if (one := self._opened(spend)) is not None]
        if not wanted:
            return True
        asked = self._local.decide([spend._replace(cost=0) for spend in wanted])
        if isinstance(asked, Signal):
            self._seeding = True
            asked.attach(lambda done: self._seeded(wanted, done.result()))
            return False
        self._spend_up_to(wanted, _at_once(asked))
        return True

    def _opened(self, spend: Spend) -> Spend | None:
        """Begin to note a key; return what is to be spent of it in the own store, if Redis has said that something is."""
        name, rule = self._names.name(spend.rule, spend.key), spend.rule
        if name in self.ledger:
            return None
        debt = self._known.debt(name, self._clock())
        self.ledger.open(name, rule, debt)
        return spend._replace(cost=-(-debt // rule.unit)) if debt else None

    def _seeded(self, wanted: Sequence[Spend], now: Decisions) -> None:
        self._spend_up_to(wanted, now)
        self._seeding = False
        later, self._later = self._later, []
        for go_on in later:
            go_on()

    def _spend_up_to(self, wanted: Sequence[Spend], now: Decisions) -> None:
        """Spend what lacks until so many units are spent in the own store."""
        for spend, one in zip(wanted, now, strict=True):
            lacking = spend.cost - (spend.rule.burst - one.remaining)
            if lacking > 0:
                self._local.charge([spend._replace(cost=lacking)])


def _at_once(found: object) -> Decisions:
    """Return decisions that are no Signal: by the port, a list of them."""
    return cast("Decisions", found)


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
