"""Name the values that each stage of a route goes by, and where each was written: a line of the file, or a default.

A value of a route may stand at the route, in `defaults`, at its service, or in `server`. The first of these places that
was written is the source; where none was, the value is the built-in default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.reading.problems import Places
from propylon.explain.stages import Stage, limit_text
from propylon.proxy.route import Route

__all__ = ["DEFAULT", "Values", "values_of"]

Values = Mapping[Stage, dict[str, dict[str, Any]]]
"""For each stage its values: `{"auth": {"value": "required", "from": "propylon.yaml:14"}}`."""

DEFAULT = "default"
_Path = tuple[str | int, ...]

_KEYS: Mapping[Stage, tuple[str, ...]] = {
    "match": ("path", "methods", "hosts", "match", "exact", "priority"),
    "clients": ("clients",),
    "maintenance": ("maintenance",),
    "privacy": ("privacy", "default_privacy"),
    "authenticate": ("auth", "issuers", "basic_auth"),
    "authorize": ("scopes", "roles", "security"),
    "forward_auth": ("forward_auth",),
    "requests": ("requests", "undocumented"),
    "cache": ("cache", "coalesce"),
    "fallback": ("fallback",),
    "mirror": ("mirror",),
    "forward": (
        "service",
        "respond",
        "redirect",
        "strip_prefix",
        "rewrite",
        "query",
        "compress",
        "decompress",
        "circuit",
    ),
}
_TIMEOUTS = ("connect", "first_byte", "idle", "total")


@dataclass(frozen=True, slots=True)
class _Source:
    """A route as it was written, at this place among the routes."""

    index: int
    written: RouteConfig
    route: Route
    config: GatewayConfig
    places: Places

    def of_route(self, *key: str) -> list[_Path]:
        """Return the places where a route's value may have been written, the strongest first."""
        return [("routes", self.index, *key), ("defaults", *key)]

    def of_service(self, *key: str) -> list[_Path]:
        """Return the places of a value that the route may take from its service."""
        return [*self.of_route(*key), ("services", self.written.service, *key)]

    def said(self, value: Any, places: Sequence[_Path]) -> dict[str, Any]:
        """Return the value with its source."""
        found = (self.places.written(place) for place in places)
        return {"value": value, "from": next(filter(None, found), DEFAULT)}

    @property
    def service(self) -> ServiceConfig | None:
        """The service as it was written; None for one that only the registry knows."""
        return self.config.services.get(self.written.service)


def values_of(
    index: int, written: RouteConfig, route: Route, config: GatewayConfig, places: Places
) -> Values:
    """Return the values that each stage of a route goes by; what is not used and was not written is left out."""
    source = _Source(index, written, route, config, places)
    found: dict[Stage, dict[str, dict[str, Any]]] = {}
    for stage, keys in _KEYS.items():
        dumped = written.model_dump(mode="json", include=set(keys))
        if "query" in dumped:
            # Their names alone: the values may be credentials of the gateway's own.
            dumped["query"] = {verb: list(names) for verb, names in dumped["query"].items()}
        said = {key: source.said(dumped[key], source.of_route(key)) for key in keys}
        found[stage] = {key: one for key, one in said.items() if _matters(one)}
    if text := limit_text(route.limit):
        found["limit"] = {"rate_limit": source.said(text, source.of_route("rate_limit"))}
    found["forward"].update(_forward(source))
    return found


def _matters(said: Mapping[str, Any]) -> bool:
    value = said["value"]
    if isinstance(value, dict) and not any(
        value.values()
    ):  # a section of which nothing was written
        return False
    return said["from"] != DEFAULT or said["value"] not in (None, False, 0, "", [], {}, "off")


def _forward(source: _Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is said of the way to the service."""
    timeouts = source.route.timeouts
    for key in _TIMEOUTS:
        places = source.of_service("timeouts", key)
        yield f"timeouts.{key}", source.said(getattr(timeouts, key), places)
    largest = [*source.of_route("max_body"), ("server", "max_body")]
    yield "max_body", source.said(source.route.max_body, largest)
    service = source.service
    if service is not None:
        name = source.written.service
        yield "balance", source.said(str(service.balance), [("services", name, "balance")])
        attempts = [("services", name, "retry", "attempts")]
        if service.adaptive_concurrency is not None:
            bounds = service.adaptive_concurrency.model_dump(mode="json")
            where = [("services", name, "adaptive_concurrency")]
            yield "adaptive_concurrency", source.said(bounds, where)
        if service.hedge is not None:
            after = [("services", name, "hedge", "after")]
            yield "hedge.after", source.said(service.hedge.after, after)
        yield "retry.attempts", source.said(source.route.service.retry.attempts, attempts)
