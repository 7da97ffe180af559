"""Join the documents of services to what is running: who tells of instances, who enforces documents, who shows them."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from fastapi import FastAPI

from propylon.assembly.api_document import ApiDocument
from propylon.assembly.census import Part
from propylon.assembly.documents import Documents
from propylon.assembly.drift import Drift
from propylon.compile.services import Listeners
from propylon.config.models.schema import GatewayConfig
from propylon.documents.in_force import InForce
from propylon.loop.slices import beside_requests
from propylon.proxy.counts import Counts
from propylon.proxy.match import Table
from propylon.proxy.principal import Principal
from propylon.services.breaker import Event
from propylon.services.circuit import State
from propylon.services.instance import Condition, Instance
from propylon.services.service import Service
from propylon.stores.shared import Facts

__all__ = ["Described", "Description"]

# The garbage collector takes several milliseconds to go through this many operations.
_MANY = 1000
# An instance in one of these may have another document than the one before it.
_FRESH = frozenset({"starting", "healthy"})


@contextmanager
def _beside_requests(in_force: InForce) -> Iterator[None]:
    with beside_requests():
        yield
        if sum(len(one.operations) for one in in_force.current.values()) >= _MANY:
            # As after a reload: the collector would go through all of it, twice and in vain, and stop all requests
            # meanwhile. What is garbage by now would stay for ever, so the younger generations are searched before.
            gc.collect(1)
            gc.freeze()


class Known(Protocol):
    """Has all services that there are now."""

    services: tuple[Service, ...]


class Description:
    """The documents in force, and the API document that is made of them, while a loop runs."""

    def __init__(
        self,
        api: FastAPI,
        facts: Facts,
        known: Known,
        counts: Callable[[str], Counts],
        *,
        owns_process: bool,
    ) -> None:
        """Describe the endpoints of `api` and the services that are `known`.

        `counts` returns where samples of a route's answers are counted.
        """

        def quietly() -> AbstractContextManager[None]:
            # Thresholds of the collector are the whole process's: a host's are not ours to set.
            return _beside_requests(self.in_force) if owns_process else nullcontext()

        def find(name: str) -> Service | None:
            return next((one for one in known.services if one.name == name), None)

        self.in_force = InForce()
        self.documents = Documents(self.in_force, facts, find, quietly)
        self.api_document = ApiDocument(api, self.in_force, quietly)
        self.drift = Drift(self.in_force, counts)

    def close(self) -> None:
        """End it all."""
        self.documents.close()
        self.drift.close()

    def apply(self, config: GatewayConfig) -> None:
        """Follow the documents of a configuration, the first or another."""
        paths = {
            name: service.document_path
            for name, service in config.services.items()
            if service.document_path is not None
        }
        checked = frozenset(
            name for one in config.routes if one.requests != "off" for name in one.services
        )
        self.documents.apply(paths, config.documents.interval, checked)

    def show(self, config: GatewayConfig, tables: Mapping[str, Table]) -> None:
        """Show what these tables let through."""
        self.api_document.apply(config, tables)

    async def mismatches(self) -> list[dict[str, Any]]:
        """Return where documents ask for scopes that the routes do not ask for."""
        return [
            {
                "service": one.service,
                "route": one.route,
                "method": one.method,
                "path": one.path,
                "missing": list(one.missing),
            }
            for one in await self.api_document.compare()
        ]

    def hearing(self, events: Listeners) -> Listeners:
        """Return a listener of services that also has a service asked for its document when an instance comes."""
        return _Hearing(events, self.documents.changed)


class _Hearing:
    """The listener of breakers and fleets that passes each event on."""

    def __init__(self, events: Listeners, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self.circuit: Callable[[str, State, State, Event], None] = events.circuit
        self._events = events

    def instance(
        self, service: str, instance: Instance, old: Condition, new: Condition, reason: str
    ) -> None:
        """Pass it on."""
        self._events.instance(service, instance, old, new, reason)
        if new in _FRESH:
            self._changed(service)


class Described:
    """What the endpoints of the control plane ask, whether the gateway runs or not."""

    def __init__(
        self,
        api: Callable[[], FastAPI],
        running: Callable[[], Description | None],
        gather: Callable[[], Awaitable[Sequence[Part]]],
    ) -> None:
        """Ask `running` where there is one; `gather` collects what all workers know of documents."""
        self._api = api
        self._running = running
        self._gather = gather

    async def text(self, root: str, caller: Principal | None = None) -> tuple[bytes, ...]:
        """Return the API document in pieces; of a gateway that does not run, what `api` has."""
        description = self._running()
        made = (
            ApiDocument(self._api(), InForce(), nullcontext)
            if description is None
            else description.api_document
        )
        return await made.text(root, caller)

    async def gather(self) -> Sequence[Part]:
        """Return what each worker knows."""
        return await self._gather()

    async def mismatches(self) -> Iterable[Mapping[str, Any]]:
        """Return where scopes differ."""
        description = self._running()
        return [] if description is None else await description.mismatches()
