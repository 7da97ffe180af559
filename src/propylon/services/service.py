"""Name the upstreams: a service, its instances, and how long to wait for them. Pure.

Which instance is asked is `balance`; how one is asked is the instance's own business (`upstream`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from propylon.services.breaker import Breaker
from propylon.services.fleet import Fleet, Instance
from propylon.services.retry import Budget, Retry
from propylon.upstream.ports import Timeouts

__all__ = ["Balance", "Fleet", "Instance", "Service"]

Balance = Callable[[Sequence[Instance]], Instance]


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A named upstream with zero or more instances, which its fleet holds."""

    name: str
    fleet: Fleet
    balance: Balance
    timeouts: Timeouts = field(default_factory=Timeouts)
    forward_token: bool = True
    breaker: Breaker | None = None
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    budget: Budget = field(default_factory=lambda: Budget(0.0))
    # The gateway's own endpoints: their errors are the gateway's, not an upstream's.
    builtin: bool = False

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances, whether they may be asked now or not."""
        return self.fleet.instances
