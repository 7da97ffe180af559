"""Build the services of a new configuration: reuse unchanged ones, give changed ones the old breaker and instances.

A reload must not close connections, forget an open breaker or lose an instance that has registered, only because
another key of the file has changed.
"""

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

# Instances that registered while the gateway ran are in no file.
_KEPT: tuple[Source, ...] = ("registered",)


@dataclass(frozen=True, slots=True)
class ServiceSet:
    """The services of a configuration, each with what the operator wrote of it."""

    written: Mapping[str, ServiceConfig] = field(default_factory=dict)
    compiled: Mapping[str, Compiled] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Service]:
        """The services by name."""
        return {name: one.service for name, one in self.compiled.items()}

    def plan(
        self, written: Mapping[str, ServiceConfig], dependencies: Dependencies
    ) -> Generator[None, None, ServiceSet]:
        """Build the services of a new configuration in slices; nothing changes yet.

        A service of which the operator wrote the same stays the same object: its connections, breaker, budget and
        probes go on untouched.
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
        """Put these services into force in the place of `before`."""
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
    if made.service.concurrency is not None and old.concurrency is not None:
        made.service.concurrency.take_over(old.concurrency)
    if made.service.room is not None and old.room is not None:
        made.service.room.share(old.room)
    return replace(made, service=replace(made.service, breaker=old.breaker))
