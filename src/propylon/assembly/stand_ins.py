"""Let an ASGI app in this process stand in for a service: for a team's tests, with no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from propylon.services import balance
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance
from propylon.services.service import Service
from propylon.upstream.inprocess import ASGIApp, InProcess

__all__ = ["StandIns"]


class StandIns:
    """The apps that stand in, by the name of the service."""

    def __init__(self) -> None:
        self._apps: dict[str, ASGIApp] = {}
        # The same service as long as nothing changes: a route knows by it that it is unchanged.
        self._made: dict[str, tuple[ASGIApp, Service, Service]] = {}

    def get(self, name: str) -> ASGIApp | None:
        """Return the app that stands in for a service, if there is one."""
        return self._apps.get(name)

    def put(self, name: str, app: ASGIApp | None) -> None:
        """Have an app stand in; None: the service itself is asked again."""
        if app is None:
            self._apps.pop(name, None)
        else:
            self._apps[name] = app

    def among(
        self, services: Mapping[str, Service], loop: asyncio.AbstractEventLoop
    ) -> Mapping[str, Service]:
        """Return the services, with apps in place of some."""
        if not self._apps:
            return services
        return {name: self._of(name, service, loop) for name, service in services.items()}

    def _of(self, name: str, service: Service, loop: asyncio.AbstractEventLoop) -> Service:
        app = self._apps.get(name)
        if app is None:
            return service
        known = self._made.get(name)
        if known is None or known[:2] != (app, service):
            # The path of the service's URL is part of what the service sees.
            base = service.instances[0].base if service.instances else b""
            upstream = InProcess(app, loop)
            instance = Instance(id="app", host=name.encode(), base=base, upstream=upstream)
            # Without a breaker: a test of an error must not close the service to the tests after it.
            made = replace(
                service,
                fleet=Fleet((instance,), name),
                balance=balance.round_robin(),
                breaker=None,
            )
            known = self._made[name] = (app, service, made)
        return known[2]
