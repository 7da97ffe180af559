"""Limits for the cases about them: a store with a clock that a case moves, and exchanges to count."""

from collections.abc import MutableSequence

from propylon.compile.limits import LimitCompiler
from propylon.proxy.exchange import Exchange
from propylon.stores.limits.memory import MemoryLimits
from tests.proxy.doubles import Client
from tests.stores.limit_stores import Clock


class Tallies:
    """Counts decisions, by the limits' ids."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}

    def limit(self, limit: str) -> MutableSequence[float]:
        """The row of a limit."""
        return self.rows.setdefault(limit, [0.0] * 3)


def limiting(clock: Clock | None = None, tallies: Tallies | None = None) -> LimitCompiler:
    """What makes stages that count in memory."""
    return LimitCompiler(MemoryLimits(clock or Clock()), tallies or Tallies())


def exchange(client: str = "192.0.2.1") -> Exchange:
    """An exchange with a client at that address."""
    return Exchange(None, Client(client=client), b"%080x" % 7, 0.0)
