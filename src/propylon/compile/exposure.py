"""Compile what the API document tells of each route: where it leads, who may use it, how often. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from propylon.config.models.limits import LimitConfig
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.documents.exposure import Exposure

__all__ = ["expose"]


def expose(config: GatewayConfig) -> Iterator[Exposure]:
    """Yield an exposure for each route, in the order of the file."""
    for route in config.routes:
        if not route.services:
            continue  # what it answers is not an operation of anybody
        if route.guard:
            continue  # who may call it, no token says; and the document is for whoever may read it
        # Of several services, the first one describes the route: the operations of two would stand there twice.
        written = route.targets[0]
        yield Exposure(
            name=written.name or written.path,
            service=written.service,
            path=_split(written.path),
            exact=written.exact,
            replaced=_replaced(written),
            methods=frozenset(written.methods) or None,
            hosts=written.hosts,
            auth=written.auth,
            scopes=frozenset(written.scopes),
            roles=written.roles,
            limits=tuple(map(_words, _limits(config, written))),
            enforced=written.security == "from-document",
        )


def _split(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _replaced(written: RouteConfig) -> tuple[str, ...] | None:
    if written.rewrite is not None:
        # What is filled in is one segment; which one, no document tells.
        return tuple(
            "{value}" if "{" in part and part not in _split(written.path) else part
            for part in _split(written.rewrite)
        )
    return () if written.strip_prefix else None


def _limits(config: GatewayConfig, route: RouteConfig) -> Iterator[LimitConfig]:
    """Yield the limits that can refuse a request of the route: its own or the default, and its service's."""
    own = config.defaults.rate_limit if route.rate_limit is None else route.rate_limit
    service = config.limits_of_service(route)
    for limit in (*(own or ()), *(service or ())):
        if limit.mode == "enforce":
            yield limit


def _words(limit: LimitConfig) -> str:
    parts = []
    if limit.rate is not None:
        parts.append(str(limit.rate))
    if limit.burst is not None:
        parts.append(f"burst {limit.burst}")
    if limit.in_flight is not None:
        parts.append(f"{limit.in_flight} at a time")
    return f"{', '.join(parts)}, by {' and '.join(limit.key)}"
