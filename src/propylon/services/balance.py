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
_CREDIT_PER_CHOICE = 232_792_560
# After so many choices among changing candidates, those that are gone are forgotten.
_PRUNE_EVERY = 256


class _Rotation:
    """Smooth weighted round robin, as nginx has it: 5:1:1 is AABACAA, not AAAAABC.

    Each choice grants every candidate its share of one in credit, and takes one from whoever has
    most: so credit is what a candidate is owed, whoever stood beside it meanwhile.
    """

    __slots__ = ("_credit", "_previous", "_steady", "_turns", "_until_prune")

    def __init__(self) -> None:
        self._credit: dict[Instance, int] = {}
        self._until_prune = _PRUNE_EVERY
        self._previous: Sequence[Instance] = ()
        # The candidates as they are when nothing changes: the same tuple each time, never empty.
        self._steady: Sequence[Instance] | None = None
        self._turns: Iterator[Instance] = iter(())

    def choose(self, instances: Sequence[Instance]) -> Instance:
        """Take the candidate whose turn it is."""
        if instances is self._steady:
            return next(self._turns)
        chosen = self.choose_by_credit(instances, instances)
        # What is left for a second attempt is a tuple of its own: it does not come twice.
        if instances is self._previous and isinstance(instances, tuple):
            self._enter_fast_path(instances, chosen)
        self._previous = instances
        return chosen

    def choose_by_credit(
        self, candidates: Sequence[Instance], known: Sequence[Instance]
    ) -> Instance:
        """Take the candidate that is owed most; the first among equals. `known` are remembered."""
        credit = self._credit
        shares = _shares(candidates)
        for candidate, share in zip(candidates, shares, strict=True):
            credit[candidate] = credit.get(candidate, 0) + share
        chosen = max(candidates, key=credit.__getitem__)
        credit[chosen] -= sum(shares)
        self._until_prune -= 1
        if not self._until_prune:
            self._prune(known)
        return chosen

    def _enter_fast_path(self, instances: tuple[Instance, ...], chosen: Instance) -> None:
        """Expect these candidates from now on, so that a turn costs little."""
        self._prune(instances)
        self._steady = instances
        if len({instance.weight for instance in instances}) == 1:
            following = instances.index(chosen) + 1
            self._turns = cycle(instances[following:] + instances[:following])
        else:
            self._turns = _smooth_turns(instances, [self._credit[one] for one in instances])

    def _prune(self, known: Sequence[Instance]) -> None:
        """Keep no credit of whoever is gone; one that comes back begins like a new one."""
        credit = self._credit
        self._credit = {instance: credit[instance] for instance in known if instance in credit}
        self._until_prune = _PRUNE_EVERY


def _shares(instances: Sequence[Instance]) -> list[int]:
    weights = [instance.weight for instance in instances]
    total = sum(weights)
    return [weight * _CREDIT_PER_CHOICE // total for weight in weights]


def _smooth_turns(instances: Sequence[Instance], credit: list[int]) -> Iterator[Instance]:
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
        first = _weighted_draw(instances, chance())
        others = [instance for instance in instances if instance is not first]
        if not others:
            return first
        second = _weighted_draw(others, chance())
        less = second.upstream.busy * first.weight < first.upstream.busy * second.weight
        return second if less else first

    return choose


def _weighted_draw(instances: Sequence[Instance], chance: float) -> Instance:
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
        return rotation.choose_by_credit(tied, instances)

    return choose
