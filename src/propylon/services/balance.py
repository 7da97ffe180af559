"""BALANCE: choose the instance that gets the next attempt. Pure: chance is an argument.

The candidates differ from call to call: an instance is unhealthy or ejected, or it has just failed this
request. So weights are applied call by call, among the candidates of that call, and not over a fixed list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from operator import add, attrgetter
from typing import Generic, Protocol, TypeVar

from propylon.services.service import Balance, Instance
from propylon.services.warmup import Warmup

__all__ = ["Rotation", "Weighted", "least_connections", "random", "round_robin"]

# Strategy (smooth weighted round robin, as in nginx since 1.3.1): every call grants each candidate its share
# of one choice in credit. The candidate with most credit is chosen and pays for the whole choice. Weights of
# 5, 1 and 1 give AABACAA. The plain algorithm gives AAAAABC, which is a burst on A.

# Credit is counted in integers: rounding errors of floats would accumulate over days. This number (the least
# common multiple of 1 to 20) is divisible by the usual sums of weights, so their shares are exact.
_CREDIT_PER_CHOICE = 232_792_560
# Instances that register and leave all day must not fill the memory. After this number of choices the
# credit of instances that are gone is dropped.
_PRUNE_EVERY = 256


class Weighted(Protocol):
    """What gets turns: an instance of a service, or a service of a `split`."""

    @property
    def weight(self) -> int:
        """Its share of the turns, beside the weights of the others; 1 or more."""


W = TypeVar("W", bound=Weighted)


class Rotation(Generic[W]):
    """Smooth weighted round robin, with a fast path for candidates that do not change."""

    __slots__ = ("_credit", "_previous", "_steady", "_turns", "_until_prune")

    def __init__(self) -> None:
        self._credit: dict[W, int] = {}
        self._until_prune = _PRUNE_EVERY
        self._previous: Sequence[W] = ()
        # Fast path: the candidates for which the turns are computed in advance. The fleet returns the same
        # tuple as long as nothing changes, so comparing identities is enough.
        self._steady: Sequence[W] | None = None
        self._turns: Iterator[W] = iter(())

    def choose(self, instances: Sequence[W]) -> W:
        """Return the candidate whose turn it is."""
        if instances is self._steady:
            return next(self._turns)
        chosen = self.choose_by_credit(instances, instances)
        # Only candidates seen twice in a row are worth the fast path. The rest that is left for a second
        # attempt is a new tuple each time.
        if instances is self._previous and isinstance(instances, tuple):
            self._enter_fast_path(instances, chosen)
        self._previous = instances
        return chosen

    def choose_by_credit(
        self,
        candidates: Sequence[W],
        known: Sequence[W],
        weights: Sequence[float] | None = None,
    ) -> W:
        """Return the candidate with most credit, the first among equals.

        Credit is kept for the instances in `known` when the others' is pruned. `weights` replace those of the candidates.
        """
        credit = self._credit
        shares = _shares(candidates) if weights is None else _parts(weights)
        for candidate, share in zip(candidates, shares, strict=True):
            credit[candidate] = credit.get(candidate, 0) + share
        chosen = max(candidates, key=credit.__getitem__)
        credit[chosen] -= sum(shares)
        self._until_prune -= 1
        if not self._until_prune:
            self._prune(known)
        return chosen

    def _enter_fast_path(self, instances: tuple[W, ...], chosen: W) -> None:
        """Compute the turns of these candidates in advance, starting after `chosen`."""
        self._prune(instances)
        self._steady = instances
        if len({instance.weight for instance in instances}) == 1:
            following = instances.index(chosen) + 1
            self._turns = cycle(instances[following:] + instances[:following])
        else:
            self._turns = _smooth_turns(instances, [self._credit[one] for one in instances])

    def _prune(self, known: Sequence[W]) -> None:
        """Drop the credit of instances that are not in `known`: one that returns starts at zero."""
        credit = self._credit
        self._credit = {instance: credit[instance] for instance in known if instance in credit}
        self._until_prune = _PRUNE_EVERY


def _shares(instances: Sequence[W]) -> list[int]:
    weights = [instance.weight for instance in instances]
    total = sum(weights)
    return [weight * _CREDIT_PER_CHOICE // total for weight in weights]


def _parts(weights: Sequence[float]) -> list[int]:
    total = sum(weights)
    return [int(weight / total * _CREDIT_PER_CHOICE) for weight in weights]


def _smooth_turns(instances: Sequence[W], credit: list[int]) -> Iterator[W]:
    """Yield the instances in smooth weighted order, forever; `credit` is where each of them starts."""
    shares = _shares(instances)
    granted = sum(shares)
    while True:
        credit = list(map(add, credit, shares))
        chosen = credit.index(max(credit))
        credit[chosen] -= granted
        yield instances[chosen]


def round_robin(warmup: Warmup | None = None) -> Balance:
    """Take the instances in turn; an instance of weight 3 gets three turns where others get one."""
    rotation = Rotation[Instance]()
    if warmup is None:
        return rotation.choose

    def choose(instances: Sequence[Instance]) -> Instance:
        if warmup.is_on(instances):
            weights = [*map(warmup.weigh, instances)]
            return rotation.choose_by_credit(instances, instances, weights)
        return rotation.choose(instances)

    return choose


def random(chance: Callable[[], float], warmup: Warmup | None = None) -> Balance:
    """Draw two instances at random, weighted, and take the less busy one for its weight.

    The power of two choices (Mitzenmacher, 1996) keeps the longest queue nearly as short as comparing all
    instances would, and does not send all workers to the one idle instance at once. Envoy's least_request
    and nginx's `random two` do the same. `chance` returns numbers in [0, 1).
    """
    weigh = _weigh_of(warmup)

    def choose(instances: Sequence[Instance]) -> Instance:
        first = _weighted_draw(instances, weigh, chance())
        others = [instance for instance in instances if instance is not first]
        if not others:
            return first
        second = _weighted_draw(others, weigh, chance())
        # On a tie the first draw counts: among idle instances, where all loads are zero, the weights of the draw
        # must still hold.
        less = second.upstream.busy * weigh(first) < first.upstream.busy * weigh(second)
        return second if less else first

    return choose


def _weigh_of(warmup: Warmup | None) -> Callable[[Instance], float]:
    return attrgetter("weight") if warmup is None else warmup.weigh


def _weighted_draw(
    instances: Sequence[Instance], weigh: Callable[[Instance], float], chance: float
) -> Instance:
    # A walk over the weights. random.choices would build a list of cumulative weights for every request.
    weights = [*map(weigh, instances)]
    point = chance * sum(weights)
    for instance, weight in zip(instances[:-1], weights, strict=False):
        point -= weight
        if point < 0:
            return instance
    return instances[-1]


def least_connections(warmup: Warmup | None = None) -> Balance:
    """Take the instance with the fewest requests in flight for its weight; equals take turns."""
    rotation = Rotation[Instance]()
    weigh = _weigh_of(warmup)

    def choose(instances: Sequence[Instance]) -> Instance:
        least = math.inf
        tied: list[Instance] = []
        for instance in instances:
            # With this request counted in: else all idle instances are equal, whatever their weight.
            load = (instance.upstream.busy + 1) / weigh(instance)
            if load < least:
                least = load
                tied = [instance]
            elif load == least:
                tied.append(instance)
        if len(tied) == 1:
            return tied[0]
        # Equals take turns. Always the first of them would get every request of a quiet service.
        if len(tied) == len(instances):
            return rotation.choose(instances)
        return rotation.choose_by_credit(tied, instances)

    return choose
