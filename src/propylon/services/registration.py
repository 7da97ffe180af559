"""Name what a service says of its instances, and what the registry needs to take one in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from propylon.names.addresses import AddressFilter
from propylon.services.instance import HealthRules, Instance, Status
from propylon.upstream.dial import Address
from propylon.upstream.ports import Upstream

__all__ = ["Closable", "Connect", "Registered", "Registration"]


@dataclass(frozen=True, slots=True)
class Registration:
    """What a service says of one of its instances."""

    service: str
    host: str  # as `parse_host` returns it
    port: int
    check_endpoint: str = "/health"
    check_interval: float = 30.0
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        """Where the instance listens."""
        return Address(self.host, self.port)

    @property
    def id(self) -> str:
        """What the instance is called within its service."""
        return self.address.authority

    def rules(self, others: HealthRules | None) -> HealthRules:
        """Return how it is probed; what it does not say is as for `others` of its service."""
        return replace(
            others or HealthRules(),
            path=self.check_endpoint.encode("ascii"),
            interval=self.check_interval,
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """How an instance stands; `lease` is how many seconds are left of it, if there is one."""

    instance: Instance
    lease: float | None
    created: bool = False

    @property
    def status(self) -> Status:
        """What is known of its health."""
        return self.instance.state.status


class Closable(Upstream, Protocol):
    """An upstream with connections of its own."""

    def close(self) -> None:
        """Close what is idle now, and whatever becomes idle later."""


class Connect(Protocol):
    """Whoever makes connections to what has registered."""

    def __call__(
        self, service: str, address: Address, permit: AddressFilter, *, probing: bool
    ) -> Closable:
        """Return an upstream that nobody else has; it connects only to what `permit` admits."""
