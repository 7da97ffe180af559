"""Find what a valid configuration leaves without work: no routes, unused services, services without an instance. Pure."""

from collections.abc import Collection, Iterable, Iterator

from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.problems import Doubt, Finding, Problem, dotted
from propylon.config.reading.rules import IDLE

__all__ = ["find_idle", "without_called"]

_UNROUTED = "no route leads to it; write one, or take it out"


def find_idle(config: GatewayConfig) -> Iterator[Doubt]:
    """Yield a doubt for each part that no request can reach."""
    for path, message in _idle(config):
        yield path, message, IDLE.id


def _idle(config: GatewayConfig) -> Iterator[Finding]:
    docker = config.discovery.docker is not None  # then labels may have routes
    if not config.routes and docker:
        return
    if not config.routes:
        msg = "there are none, so every path but the gateway's own is 404"
        yield ("routes",), f"{msg}; write a route for each path that leads to a service"
        return
    used = {name for route in config.routes for name in route.services}
    others = (other for route in config.routes for other in (route.fallback, route.mirror))
    used |= {other.service for other in others if other is not None}
    for name, service in config.services.items():
        if name not in used and service.docker and docker:
            continue
        if name not in used:
            yield ("services", name), _UNROUTED
        elif not (
            service.urls or service.kubernetes or (service.docker and docker)
        ) and not _may_register(config, name):
            msg = "has no instance, and registry.allow lets none register, so its routes answer 503"
            yield ("services", name), f"{msg}; write url or instances"


def without_called(warnings: Iterable[Problem], called: Collection[str]) -> tuple[Problem, ...]:
    """Return the warnings without those about services that no route leads to, and that endpoints of a team call."""
    known = {dotted(("services", name)) for name in called}
    return tuple(one for one in warnings if one.message != _UNROUTED or one.where not in known)


def _may_register(config: GatewayConfig, name: str) -> bool:
    registry = config.registry
    # The rules for all services stand under the empty name.
    return registry.enabled and bool(registry.allow.get(name) or registry.allow.get(""))
