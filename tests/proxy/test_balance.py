"""Choosing an instance."""

from dataclasses import dataclass
from typing import Any

from propylon.proxy.balance import least_connections, random, round_robin
from propylon.proxy.service import Instance


@dataclass
class Busy:
    """An upstream that has so much in hand."""

    busy: int


def instances(*busy: int) -> tuple[Instance, ...]:
    """One for each number."""
    made: list[Any] = [Busy(count) for count in busy]
    return tuple(Instance(str(at), b"", b"", upstream) for at, upstream in enumerate(made))


def test_round_robin_takes_turns() -> None:
    """Ten requests to two instances are five each."""
    choose, both = round_robin(), instances(0, 0)
    assert [choose(both).id for _ in range(4)] == ["0", "1", "0", "1"]


def test_random_takes_any() -> None:
    """What chance says; the ends of its range included."""
    three = instances(0, 0, 0)
    chances = iter((0.0, 0.5, 0.999999))
    choose = random(lambda: next(chances))
    assert [choose(three).id for _ in range(3)] == ["0", "1", "2"]


def test_least_connections_takes_the_idlest() -> None:
    """Whoever has least in hand, wherever it stands."""
    choose = least_connections()
    assert {choose(instances(3, 1, 2)).id for _ in range(6)} == {"1"}


def test_least_connections_takes_turns_among_equals() -> None:
    """Else the first would get all that a quiet service is asked."""
    choose, three = least_connections(), instances(0, 0, 5)
    assert {choose(three).id for _ in range(6)} == {"0", "1"}
