"""Carry services over a reload: what did not change stays as it is, what did begins with what is known."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace

from propylon.compile.services import Compiled, Dependencies, circuit_of, compile_service
from propylon.config.models.services import ServiceConfig
from propylon.services.discovery import Members
from propylon.services.fleet import Fleet
from propylon.services.instance import Source
from propylon.services.service import Service
from propylon.upstream.ports import Upstream

__all__ = ["ServiceSet"]

# Who registered while the gateway ran is in no file.
_KEPT: tuple[Source, ...] = ("registered",)


@dataclass(frozen=True, slots=True)
class ServiceSet:
    """The services in force, and what was written of each."""

    written: Mapping[str, ServiceConfig] = field(default_factory=dict)
    compiled: Mapping[str, Compiled] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Service]:
        """The services by name."""
        return {name: one.service for name, one in self.compiled.items()}

    def plan(
        self, written: Mapping[str, ServiceConfig], dependencies: Dependencies
    ) -> Generator[None, None, ServiceSet]:
        """Return what will stand, made in slices; nothing changes yet.

        Equal words make the same service: its connections, breaker, budget and probes go on untouched.
        """
        compiled = {}
        for name, config in written.items():
            yield
            old = self.compiled.get(name)
            if old is not None and self.written.get(name) == config:
                compiled[name] = old
                continue
            made = compile_service(name, config, dependencies)
            compiled[name] = made if old is None else _going_on(made, old.service)
        return ServiceSet(written, compiled)

    def apply(self, before: ServiceSet) -> None:
        """Put the plan into force."""
        old_services = before.by_name
        for name, service in self.by_name.items():
            old = old_services.get(name)
            if old is None or old is service:
                continue
            service.fleet.carry_over(old.fleet, keep=_KEPT)
            if service.breaker is not None:
                service.breaker.apply(circuit_of(self.written[name].circuit))
        for name, service in old_services.items():
            if name not in self.compiled:
                service.fleet.watch(None)

    def named(self) -> Iterator[tuple[Fleet, Members]]:
        """Yield the names to be followed, each with the fleet that it fills."""
        for one in self.compiled.values():
            for members in one.members:
                yield one.service.fleet, members

    def upstreams(self) -> Iterator[Upstream]:
        """Yield what the services ask, and what they are probed over."""
        for service in self.by_name.values():
            for instance in service.instances:
                yield instance.upstream
                if instance.probe is not None:
                    yield instance.probe


def _going_on(made: Compiled, old: Service) -> Compiled:
    return replace(made, service=replace(made.service, breaker=old.breaker))
