"""BALANCE: choose an instance. Pure: chance is an argument.

The candidates may change from call to call: some are ill, some ejected, one has just failed this very
request. A candidate's share is its weight among those that stood beside it, call by call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from operator import add

from propylon.services.service import Balance, Instance

__all__ = ["least_connections", "random", "round_robin"]

# What one choice is worth: divisible by all numbers up to 20, so that usual weights leave no rest.
_ONE = 232_792_560
# After so many choices among changing candidates, those that are gone are forgotten.
_MEMORY = 256


class _Rotation:
    """Smooth weighted round robin, as nginx has it: 5:1:1 is AABACAA, not AAAAABC.

    Each choice grants every candidate its share of one in credit, and takes one from whoever has
    most: so credit is what a candidate is owed, whoever stood beside it meanwhile.
    """

    __slots__ = ("_credit", "_home", "_last", "_left", "_turns")

    def __init__(self) -> None:
        self._credit: dict[Instance, int] = {}
        self._left = _MEMORY
        self._last: Sequence[Instance] = ()
        # The candidates as they are when nothing changes: the same tuple each time, never empty.
        self._home: Sequence[Instance] | None = None
        self._turns: Iterator[Instance] = iter(())

    def choose(self, instances: Sequence[Instance]) -> Instance:
        """Take the candidate whose turn it is."""
        if instances is self._home:
            return next(self._turns)
        chosen = self.owed(instances, instances)
        # What is left for a second attempt is a tuple of its own: it does not come twice.
        if instances is self._last and isinstance(instances, tuple):
            self._settle(instances, chosen)
        self._last = instances
        return chosen

    def owed(self, candidates: Sequence[Instance], known: Sequence[Instance]) -> Instance:
        """Take the candidate that is owed most; the first among equals. `known` are remembered."""
        credit = self._credit
        shares = _shares(candidates)
        for candidate, share in zip(candidates, shares, strict=True):
            credit[candidate] = credit.get(candidate, 0) + share
        chosen = max(candidates, key=credit.__getitem__)
        credit[chosen] -= sum(shares)
        self._left -= 1
        if not self._left:
            self._forget(known)
        return chosen

    def _settle(self, instances: tuple[Instance, ...], chosen: Instance) -> None:
        """Expect these candidates from now on, so that a turn costs little."""
        self._forget(instances)
        self._home = instances
        if len({instance.weight for instance in instances}) == 1:
            following = instances.index(chosen) + 1
            self._turns = cycle(instances[following:] + instances[:following])
        else:
            self._turns = _smooth(instances, [self._credit[one] for one in instances])

    def _forget(self, known: Sequence[Instance]) -> None:
        """Keep no credit of whoever is gone; one that comes back begins like a new one."""
        credit = self._credit
        self._credit = {instance: credit[instance] for instance in known if instance in credit}
        self._left = _MEMORY


def _shares(instances: Sequence[Instance]) -> list[int]:
    weights = [instance.weight for instance in instances]
    total = sum(weights)
    return [weight * _ONE // total for weight in weights]


def _smooth(instances: Sequence[Instance], credit: list[int]) -> Iterator[Instance]:
    """Yield the instances in turn, for ever; `credit` is what each is owed so far."""
    shares = _shares(instances)
    granted = sum(shares)
    while True:
        credit = list(map(add, credit, shares))
        chosen = credit.index(max(credit))
        credit[chosen] -= granted
        yield instances[chosen]


def round_robin() -> Balance:
    """Take the instances in turn, heavy ones more often."""
    return _Rotation().choose


def random(chance: Callable[[], float]) -> Balance:
    """Draw two instances, heavy ones more often, and take the one with less in hand for its weight.

    `chance` returns numbers in [0, 1). Two choices are what keeps the longest queue short
    (Mitzenmacher, 1996); among equally busy ones the first draw counts, so weights hold there, too.
    """

    def choose(instances: Sequence[Instance]) -> Instance:
        first = _drawn(instances, chance())
        others = [instance for instance in instances if instance is not first]
        if not others:
            return first
        second = _drawn(others, chance())
        less = second.upstream.busy * first.weight < first.upstream.busy * second.weight
        return second if less else first

    return choose


def _drawn(instances: Sequence[Instance], chance: float) -> Instance:
    point = chance * sum([instance.weight for instance in instances])
    for instance in instances[:-1]:
        point -= instance.weight
        if point < 0:
            return instance
    return instances[-1]


def least_connections() -> Balance:
    """Take the instance that would have least in hand for its weight; among equals, in turn."""
    rotation = _Rotation()

    def choose(instances: Sequence[Instance]) -> Instance:
        least = math.inf
        tied: list[Instance] = []
        for instance in instances:
            load = (instance.upstream.busy + 1) / instance.weight
            if load < least:
                least = load
                tied = [instance]
            elif load == least:
                tied.append(instance)
        if len(tied) == 1:
            return tied[0]
        if len(tied) == len(instances):
            return rotation.choose(instances)
        return rotation.owed(tied, instances)

    return choose
