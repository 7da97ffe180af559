"""Endpoints: one path and one method each, and the backend behind it."""

from __future__ import annotations

from collections.abc import Callable

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.krakend.backends import Backends
from propylon.commands.imports.krakend.limits import router_limits
from propylon.commands.imports.krakend.validator import Validators
from propylon.commands.imports.parts import Route
from propylon.commands.imports.rates import duration, seconds_of
from propylon.commands.imports.tree import Item

__all__ = ["Endpoints"]

_COMMENT = ("@comment", "$schema", "documentation/openapi", "documentation/postman")


class Endpoints:
    """Reads the endpoints of a file."""

    def __init__(self, draft: Draft, document: Item) -> None:
        """Keep what counts for all of them."""
        self._draft = draft
        self._timeout = document.get("timeout")
        self._backends = Backends(draft, document)
        self.validators = Validators(draft)

    def read(self, endpoint: Item) -> None:
        """Translate an endpoint."""
        route = self._place(endpoint)
        backends = endpoint.get("backend").each()
        if len(backends) == 1:
            self._backends.connect(endpoint, backends[0], route)
            route.close_untaken(backends[0])
        else:
            route.close(
                endpoint.get("backend").at,
                f"{len(backends)} backends are put together: one request asks one service here",
                "let a service do it, or an endpoint of your own in Python",
            )
        self._times(endpoint, route)
        _forwarding(endpoint, route)
        self._extras(endpoint, route)
        endpoint.ignore(
            *_COMMENT,
            "concurrent_calls",
            "output_encoding",
            "cache_ttl",
            "input_headers",
            "input_query_strings",
        )
        endpoint.ignore("headers_to_pass", "querystring_params", "backend", "extra_config")
        if endpoint.get("cache_ttl"):
            route.lost(endpoint.get("cache_ttl").at, "Cache-Control is the service's")
        if endpoint.get("concurrent_calls").number(1) > 1:
            route.differs(endpoint.get("concurrent_calls").at, "a service is asked once")
        self._draft.leftovers(endpoint, route)
        route.open()

    def _place(self, endpoint: Item) -> Route:
        text = endpoint.get("endpoint").text()
        path = text if text.startswith("/") else f"/{text}"
        exact = not path.endswith("/*")
        method = endpoint.get("method").text("GET").upper()
        trimmed = path.removesuffix("/*") or "/"
        route = self._draft.route(trimmed, endpoint.at, f"{method} {trimmed}")
        if exact:
            route.put("exact", value=True)
        route.same(endpoint.get("endpoint").at, f"routes: {route.name}")
        at = endpoint.get("method") or endpoint
        route.methods([method], at.at, websockets=False)
        return route

    def _times(self, endpoint: Item, route: Route) -> None:
        timeout = endpoint.get("timeout") or self._timeout
        seconds = seconds_of(timeout.text("2s")) or 2
        route.put("timeouts.total", duration(seconds))
        if endpoint.get("timeout"):
            route.same(endpoint.get("timeout").at, f"routes: {route.name}: timeouts.total")

    def _extras(self, endpoint: Item, route: Route) -> None:
        handlers: dict[str, Callable[[Route, Item], None]] = {
            "auth/validator": self.validators.apply,
            "qos/ratelimit/router": router_limits,
        }
        for name, config in endpoint.get("extra_config").items():
            if name in handlers:
                handlers[name](route, config)
            elif name in _COMMENT or name.startswith("telemetry/"):
                continue
            else:
                route.close(
                    config.at,
                    f"{name} of an endpoint",
                    "see whether a key or a policy in Python does it",
                )


def _forwarding(endpoint: Item, route: Route) -> None:
    """Say what the service gets that KrakenD kept from it."""
    for keys, what in (
        (("input_headers", "headers_to_pass"), "headers"),
        (("input_query_strings", "querystring_params"), "parameters of the query"),
    ):
        named = next((endpoint.get(key) for key in keys if endpoint.get(key)), None)
        if named is not None and "*" in named.texts():
            route.same(named.at, f"all {what} are sent on")
            continue
        passed = ", ".join(named.texts()) if named is not None else "none"
        route.lost(
            (named if named is not None else endpoint).at,
            f"the service gets all {what} of the client; KrakenD sends on: {passed}",
            (
                "if the service believes one of them, take it out with headers.request.remove"
                if what == "headers"
                else "let the service ignore what it does not know"
            ),
        )
