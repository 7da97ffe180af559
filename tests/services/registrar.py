"""A registry with everything around it: names, connections and probes that only take notes."""

from collections.abc import Sequence
from typing import Any

from propylon.errors import ConnectFailed
from propylon.names.addresses import AddressFilter
from propylon.services.admission import ALL_SERVICES, Admission, Allowed
from propylon.services.balance import round_robin
from propylon.services.fleet import Fleet
from propylon.services.instance import HealthRules, Instance
from propylon.services.registration import Registered, Registration
from propylon.services.registry import Registry
from propylon.services.service import Service
from propylon.upstream.dial import Address
from tests.proxy.doubles import Asked, run

ALLOW = ("10.0.0.0/8", "*.internal")


class Names:
    """Names that lead where a test says."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[str] = []

    async def addresses(self, host: str) -> Sequence[str]:
        """The answer."""
        self.asked.append(host)
        if host not in self.answers:
            raise ConnectFailed("no", reason="no such name")
        return self.answers[host]

    def mark_stale(self, host: str) -> None:
        """Nothing is remembered."""


class Pool(Asked):
    """Connections that note whether they were closed."""

    def __init__(self, address: Address, permit: AddressFilter, *, probing: bool) -> None:
        super().__init__()
        self.address = address
        self.permit = permit
        self.probing = probing
        self.closed = 0

    @property
    def busy(self) -> int:
        """Nothing is in hand."""
        return 0

    def close(self) -> None:
        """Count."""
        self.closed += 1


class Watcher:
    """Who is probed at the moment."""

    def __init__(self) -> None:
        self.watched: dict[Instance, HealthRules] = {}

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Note it."""
        self.watched[instance] = rules

    def forget(self, instance: Instance) -> None:
        """Note it."""
        self.watched.pop(instance, None)


class World:
    """A registry, and everything around it."""

    def __init__(
        self,
        *allow: str,
        ttl: float | None = None,
        names: Names | None = None,
        written: Sequence[str] = ("orders",),
        ours: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.now = 1000.0
        self.names = names or Names(orders_internal=["10.0.0.9"])
        self.pools: list[Pool] = []
        self.changes: list[list[str]] = []
        self.watcher = Watcher()
        self.ours = ours
        self.registry = Registry(
            self.admission(*(allow or ALLOW)),
            clock=lambda: self.now,
            connect=self.connect,
            create=self.service,
            on_change=lambda services: self.changes.append([one.name for one in services]),
        )
        self.registry.apply(map(self.service, written), self.admission(*(allow or ALLOW)), ttl)

    def admission(self, *allow: str) -> Admission:
        """Rules over these."""
        return Admission(
            {ALL_SERVICES: Allowed(allow)},
            self.names,
            lambda address, port: (address, port) in self.ours,
        )

    def connect(
        self, service: str, address: Address, permit: AddressFilter, *, probing: bool
    ) -> Pool:
        """Connections that lead nowhere."""
        self.pools.append(Pool(address, permit, probing=probing))
        return self.pools[-1]

    def service(self, name: str, *instances: Instance, **options: Any) -> Service:
        """A service that is probed."""
        service = Service(name, Fleet(instances, name, **options), round_robin())
        service.fleet.watch(self.watcher)
        return service

    def after(self, before: Fleet | None, name: str, *rest: Instance, **options: Any) -> Service:
        """The service that a reload makes of one."""
        service = Service(name, Fleet(rest, name, **options), round_robin())
        if before is not None:
            service.fleet.carry_over(before, keep=("registered",))
        service.fleet.watch(self.watcher)
        return service

    def register(
        self, service: str = "orders", host: str = "10.0.0.1", **options: Any
    ) -> Registered:
        """Register, and wait for nothing."""
        return run(self.registry.register(said(service, host, **options)))

    def find(self, name: str) -> Service:
        """A service by its name."""
        return next(one for one in self.registry.services() if one.name == name)

    def ids(self, name: str = "orders") -> list[str]:
        """Who is there."""
        return [instance.id for instance in self.find(name).instances]

    @property
    def probed(self) -> list[str]:
        """Who is probed."""
        return [instance.id for instance in self.watcher.watched]


def said(
    service: str = "orders", host: str = "10.0.0.1", port: int = 80, **rest: Any
) -> Registration:
    """What an instance says."""
    return Registration(service, host, port, **rest)
