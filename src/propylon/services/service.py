"""Define a service: its name, its instances, and the rules by which the gateway asks them. Pure.

`balance` chooses an instance; how it is asked is the business of the instance's `upstream`.
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
    """A named upstream; its fleet holds zero or more instances, and without any it answers 503."""

    name: str
    fleet: Fleet
    balance: Balance
    timeouts: Timeouts = field(default_factory=Timeouts)
    # True, as an API gateway's services usually read the token themselves. For a third party's service it must be
    # false: Authorization would give it the user's credentials.
    forward_token: bool = True
    breaker: Breaker | None = None
    # No retries by default: a service without a configuration is the gateway's own endpoints.
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    budget: Budget = field(default_factory=lambda: Budget(0.0))
    # The Host that requests carry: None, that of the instance; empty, that of the client.
    host: bytes | None = None
    # True for the gateway's own endpoints. Their errors are marked `X-Error-Source: gateway`, not `upstream`.
    builtin: bool = False

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances, also those that may not be asked now."""
        return self.fleet.instances
