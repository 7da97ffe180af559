"""Name the upstreams: a service, its instances, and how long to wait for them. Pure.

Which instance is asked is `balance`; how one is asked is the instance's own business (`upstream`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from propylon.upstream.exchange import Upstream

__all__ = ["Balance", "Instance", "Service", "Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long is waited, in seconds.

    `total` runs until the final answer's head, retries included, from the moment the request is
    complete; `idle` is silence in a body; `max_duration` bounds the whole exchange, if set.
    """

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float = 60.0
    max_duration: float = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One `host:port` of a service; `base` is the path in front of what it is asked for."""

    id: str
    host: bytes  # as it goes into the Host header
    base: bytes
    upstream: Upstream


Balance = Callable[[Sequence[Instance]], Instance]


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A named upstream with zero or more instances."""

    name: str
    instances: tuple[Instance, ...]
    balance: Balance
    timeouts: Timeouts = field(default_factory=Timeouts)
    forward_token: bool = True
    # The gateway's own endpoints: their errors are the gateway's, not an upstream's.
    own: bool = False
