"""Judge a configuration that was read again: what it must not lose, and what only a start can change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter

from propylon.config.models.endpoints import Endpoint
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.syntax import shape
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import Problem

__all__ = ["needs_restart", "refused", "shadowed"]


def refused(
    loaded: Loaded, in_force: GatewayConfig, policies: Collection[str]
) -> Iterator[Problem]:
    """Yield why a valid configuration must not replace the one in force.

    `policies` are the names of the routes that a policy stands before.
    """
    yield from _orphans(loaded, policies)
    yield from _emptied(loaded, in_force)


def shadowed(loaded: Loaded, endpoints: Iterable[Endpoint]) -> Iterator[Problem]:
    """Yield the routes whose very path an endpoint on `gateway.api` has taken, for one of their methods.

    The endpoint would answer, and the route's token, scopes and policies would guard nothing any more.
    """
    for at, route in enumerate(loaded.config.routes):
        for endpoint in endpoints:
            if shape(route.path) == shape(endpoint.path) and _share(
                route.methods, endpoint.methods
            ):
                msg = "is also the path of an endpoint on gateway.api, which would answer in its place"
                yield loaded.places.problem(
                    ("routes", at, "path"), f"{msg}; give one of them another path"
                )
                break


def _share(methods: Collection[str], others: Collection[str] | None) -> bool:
    return not methods or others is None or not set(methods).isdisjoint(others)


def _orphans(loaded: Loaded, policies: Collection[str]) -> Iterator[Problem]:
    """Yield the policies whose route is gone: under another name it would be open."""
    names = [written.name for written in loaded.config.routes]
    for route in set(policies) - set(names):
        hint = did_you_mean(route, names)
        msg = f'no route "{route}", and a policy stands before it{hint}'
        yield loaded.places.problem(("routes",), msg)


def _emptied(loaded: Loaded, in_force: GatewayConfig) -> Iterator[Problem]:
    """Yield a problem where no route is left: a file that was cut short must not close the gateway."""
    if in_force.routes and not loaded.config.routes:
        msg = "none is left; if that is meant, restart the gateway"
        yield loaded.places.problem(("routes",), msg)


def needs_restart(before: GatewayConfig, after: GatewayConfig, *, verifying: bool) -> Iterator[str]:
    """Yield the keys whose change needs a start: sockets, processes, the paths of the built-in endpoints.

    `verifying`: there is what goes with tokens, since the start; it follows by itself.
    """
    for key in ("server.host", "server.port", "server.workers", "server.state_dir", "server.drain",
                "server.drain_delay", "prefix", "log.format"):  # fmt: skip
        if attrgetter(key)(before) != attrgetter(key)(after):
            yield key
    if (before.tls.certificate is None) != (after.tls.certificate is None):
        yield "tls"
    if not verifying and after.auth.verifies and not before.auth.verifies:
        yield "auth"
    for key in ("database", "refresh_expires"):
        if getattr(before.auth.tokens, key) != getattr(after.auth.tokens, key):
            yield f"auth.tokens.{key}"
