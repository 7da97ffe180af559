"""BALANCE: choose an instance. Pure: chance is an argument."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from propylon.proxy.service import Balance, Instance

__all__ = ["least_connections", "random", "round_robin"]


def round_robin() -> Balance:
    """Take the instances in turn."""
    turn = itertools.count()

    def choose(instances: Sequence[Instance]) -> Instance:
        return instances[next(turn) % len(instances)]

    return choose


def random(chance: Callable[[], float]) -> Balance:
    """Take any instance; `chance` returns numbers in [0, 1)."""

    def choose(instances: Sequence[Instance]) -> Instance:
        return instances[int(chance() * len(instances))]

    return choose


def least_connections() -> Balance:
    """Take the instance with the fewest exchanges in hand; among equals, in turn."""
    turn = itertools.count()

    def choose(instances: Sequence[Instance]) -> Instance:
        first = next(turn) % len(instances)
        rotated = (*instances[first:], *instances[:first])
        return min(rotated, key=lambda instance: instance.upstream.busy)

    return choose
