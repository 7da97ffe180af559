"""Compile a route for each of its services, and put those of a `split` together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from propylon.compile.routes import RouteCompiler
from propylon.config.models.routes import RouteConfig
from propylon.proxy.route import Route
from propylon.proxy.split import Part, Shares
from propylon.services.service import Service

__all__ = ["compile_route", "is_current"]


def compile_route(
    compiler: RouteCompiler, written: RouteConfig, services: Mapping[str, Service]
) -> Iterator[Route]:
    """Yield the route as it was written, for each of its hosts."""
    if not written.split:
        yield from compiler.routes(written, compiler.service_of(written, services))
        return
    targets = written.targets
    of_targets = [list(compiler.routes(one, services[one.service])) for one in targets]
    rules = compiler.rules_of(written)
    for of_host in zip(*of_targets, strict=True):
        yield replace(of_host[0], split=Shares(list(_parts(written, of_host))), rules=rules)


def _parts(written: RouteConfig, routes: Sequence[Route]) -> Iterator[Part]:
    total = sum(part.weight for part in written.split)
    for part, route in zip(written.split, routes, strict=True):
        yield Part(replace(route, share=f"{part.weight} of {total}"), part.weight)


def is_current(
    compiler: RouteCompiler,
    known: Sequence[Route],
    written: RouteConfig,
    services: Mapping[str, Service],
) -> bool:
    """Whether routes that were made of the same configuration and basis are what would be made again."""
    parts = zip(known[0].parts, written.targets, strict=True)
    return all(
        compiler.is_current((route,), target, compiler.service_of(target, services))
        for route, target in parts
    )
