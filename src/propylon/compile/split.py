"""Compile a route for each of its services, with what chooses instances, and put those of a `split` together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from propylon.compile.routes import RouteCompiler
from propylon.compile.selection import Selection
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.route import Route
from propylon.proxy.split import Part, Shares
from propylon.services.service import Service

__all__ = ["SplitCompiler"]


class SplitCompiler:
    """Compiles routes as they are written: those to one service, and those to several."""

    def __init__(self, compiler: RouteCompiler, config: GatewayConfig) -> None:
        """`compiler` makes a route to one service."""
        self._compiler = compiler
        self._selection = Selection(config)

    def routes(self, written: RouteConfig, services: Mapping[str, Service]) -> Iterator[Route]:
        """Yield the route for each of its hosts."""
        of_targets = [list(self._to(one, written, services)) for one in written.targets]
        if not written.split:
            yield from of_targets[0]
            return
        rules = self._compiler.rules_of(written)
        for of_host in zip(*of_targets, strict=True):
            yield replace(of_host[0], split=self._shares(written, of_host), rules=rules)

    def _to(
        self, target: RouteConfig, written: RouteConfig, services: Mapping[str, Service]
    ) -> Iterator[Route]:
        service = self._compiler.service_of(target, services)
        for route in self._compiler.routes(target, service):
            yield self._selection.applied(route, target, written)

    def _shares(self, written: RouteConfig, routes: Sequence[Route]) -> Shares:
        total = sum(part.weight for part in written.split)
        parts = [
            Part(replace(route, share=f"{part.weight} of {total}"), part.weight)
            for part, route in zip(written.split, routes, strict=True)
        ]
        sticky = written.sticky
        if sticky is None:
            return Shares(parts)
        # Routes that share the name of a cookie share what it names: a caller stays with a service on all of them.
        cookie = self._selection.cookie(sticky, "split")
        return Shares(parts, cookie, refuses=sticky.on_failure == "refuse")

    def is_current(
        self, known: Sequence[Route], written: RouteConfig, services: Mapping[str, Service]
    ) -> bool:
        """Whether routes that were made of the same configuration and basis are what would be made again."""
        parts = zip(known[0].parts, written.targets, strict=True)
        return all(
            self._compiler.is_current((route,), target, self._compiler.service_of(target, services))
            for route, target in parts
        )
