"""Name the upstreams: a service, its instances, and how long to wait for them. Pure.

Which instance is asked is `balance`; how one is asked is the instance's own business (`upstream`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from propylon.upstream.exchange import Timeouts, Upstream

__all__ = ["Balance", "Instance", "Service"]


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
