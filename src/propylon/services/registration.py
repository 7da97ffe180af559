"""Define a registration and what the registry needs to act on it."""

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
    """What a service says about one of its instances when it registers it."""

    service: str
    host: str  # checked and normalised by `parse_host`
    port: int
    check_endpoint: str = "/health"
    check_interval: float = 30.0
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        """Host and port of the instance."""
        return Address(self.host, self.port)

    @property
    def id(self) -> str:
        """`host:port`, which identifies the instance within its service."""
        return self.address.authority

    def rules(self, others: HealthRules | None) -> HealthRules:
        """Return the health rules: path and interval as registered, the rest as for `others` of the service."""
        return replace(
            others or HealthRules(),
            path=self.check_endpoint.encode("ascii"),
            interval=self.check_interval,
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to a registration or heartbeat; `lease` is the seconds left of it, None without a ttl."""

    instance: Instance
    lease: float | None
    created: bool = False

    @property
    def status(self) -> Status:
        """The health of the instance as the gateway knows it."""
        return self.instance.state.status


class Closable(Upstream, Protocol):
    """An upstream with a connection pool of its own."""

    def close(self) -> None:
        """Close idle connections now, and the others when they become idle."""


class Connect(Protocol):
    """Makes the connection pools of registered instances."""

    def __call__(
        self, service: str, address: Address, permit: AddressFilter, *, probing: bool
    ) -> Closable:
        """Return a new pool to `address`, which connects only to addresses that `permit` admits.

        `permit` is asked for each connection, after DNS: that defeats DNS rebinding.
        """
