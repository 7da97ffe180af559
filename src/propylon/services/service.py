"""Define a service: its name, its instances, and the rules by which the gateway asks them. Pure.

`balance` chooses an instance; how it is asked is the business of the instance's `upstream`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from propylon.services.breaker import Breaker
from propylon.services.concurrency import Concurrency
from propylon.services.fleet import Fleet, Instance
from propylon.services.hedge import Hedge
from propylon.services.retry import Budget, Retry
from propylon.services.room import Room
from propylon.services.warmup import Warmup
from propylon.upstream.ports import Timeouts
from propylon.wire.proxy_header import ProxyVersion

__all__ = ["Balance", "Bodies", "BodiesOnGet", "Fleet", "Instance", "Service"]

Balance = Callable[[Sequence[Instance]], Instance]
BodiesOnGet = Literal["close", "refuse", "pass"]
Bodies = Literal["reuse", "close"]


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
    room: Room | None = None  # None: any number of requests may be in flight
    warmup: Warmup | None = None  # None: an instance that comes gets its whole share at once
    # No retries by default: a service without a configuration is the gateway's own endpoints.
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    budget: Budget = field(default_factory=lambda: Budget(0.0))
    hedge: Hedge | None = None  # None: a request is never sent a second time beside the first
    concurrency: Concurrency | None = None  # None: as many requests as there are connections
    # What happens to a body that its method has no use for, and to the connection after any other body. The safe values,
    # because a body that the upstream does not read would be the next request there.
    bodies_on_get: BodiesOnGet = "close"
    bodies: Bodies = "reuse"
    # With a version, connections to the instances begin with a header of the PROXY protocol.
    proxy_protocol: ProxyVersion | None = None
    # The Host that requests carry: None, that of the instance; empty, that of the client.
    host: bytes | None = None
    # True for the gateway's own endpoints. Their errors are marked `X-Error-Source: gateway`, not `upstream`.
    builtin: bool = False
    # A question of the hot path, answered once: whether requests are sent by rules that few services have.
    guarded: bool = field(init=False)

    def __post_init__(self) -> None:
        """Answer the questions that depend on nothing but the rules."""
        object.__setattr__(self, "guarded", self.hedge is not None or self.concurrency is not None)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances, also those that may not be asked now."""
        return self.fleet.instances
