"""Read the file as a whole: documents, the gateway's section, services."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.overlap import first_wins
from propylon.commands.imports.parts import Part, Route, Variable
from propylon.commands.imports.rates import duration, seconds_of
from propylon.commands.imports.source import Source
from propylon.commands.imports.spring.filters import Filters
from propylon.commands.imports.spring.paths import path_of
from propylon.commands.imports.spring.predicates import weight_of, write_routes
from propylon.commands.imports.spring.properties import Step, below, steps, text_of, unfolded
from propylon.commands.imports.spring.security import protect
from propylon.commands.imports.tree import Item, named, parse_all

__all__ = ["read"]

_PLACES = (
    ("spring", "cloud", "gateway", "server", "webflux"),
    ("spring", "cloud", "gateway", "server", "webmvc"),
    ("spring", "cloud", "gateway", "mvc"),
    ("spring", "cloud", "gateway"),
)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_CORS = {
    "allowedOrigins": "origins",
    "allowedMethods": "methods",
    "allowedHeaders": "headers",
    "exposedHeaders": "expose",
    "maxAge": "max_age",
    "allowCredentials": "credentials",
}
_MILLISECONDS = 1000


def read(sources: list[Source], draft: Draft) -> None:
    """Read application.yml; a later file or document replaces the routes of an earlier one, as Spring does."""
    chosen: tuple[Item, Item] | None = None
    for source in sources:
        for document in map(unfolded, parse_all(source)):
            profile = below(document, "spring", "config", "activate", "on-profile") or below(
                document, "spring", "profiles"
            )
            gateway = next(
                (
                    found
                    for place in _PLACES
                    if (found := below(document, *place)) and named(found, "routes")
                ),
                None,
            )
            if gateway is None:
                continue
            if profile and not isinstance(profile.value, dict):
                draft.lost(
                    gateway.at,
                    f"routes of the profile {profile.text()}",
                    "import a file that has only this profile's",
                )
                continue
            if chosen is not None:
                draft.differs(
                    chosen[1].at, "left out: a later document has routes, too, and replaces these"
                )
            chosen = (document, gateway)
    if chosen is None:
        raise sources[0].refuse(
            1, "no spring.cloud.gateway.routes, so this is no application.yml of a gateway"
        )
    _Reader(*chosen, draft).read()


class _Reader:
    """Reads one document."""

    def __init__(self, document: Item, gateway: Item, draft: Draft) -> None:
        self._document, self._gateway, self._draft = document, gateway, draft
        self._services: dict[tuple[str, bool], str] = {}
        self._groups: dict[str, list[tuple[Route, int, Step]]] = {}
        self._always = steps(named(gateway, "default-filters"))

    def read(self) -> None:
        """Read all of it."""
        items = sorted(
            named(self._gateway, "routes").each(), key=lambda one: one.get("order").number()
        )
        filters = Filters(self._draft, self._fallbacks(items))
        for item in items:
            self._route(item, filters)
        self._split()
        protect(self._document, self._draft, self._gateway.at)
        first_wins(self._draft)
        self._globals()

    def _fallbacks(self, items: list[Item]) -> dict[str, Callable[[], str]]:
        """Return the services of routes that take one path exactly: what a fallback may be sent to."""
        found: dict[str, Callable[[], str]] = {}
        for item in items:
            texts = next(
                (step.every() for step in steps(item.get("predicates")) if step.name == "Path"), []
            )
            for text in texts:
                pattern = path_of(text)
                if (
                    pattern.exact
                    and not pattern.why
                    and urlsplit(item.get("uri").text()).scheme in _SCHEMES
                ):
                    found[pattern.path] = partial(self._service, item, client_host=False)
        return found

    def _route(self, item: Item, filters: Filters) -> None:
        predicates = steps(item.get("predicates"))
        own = [*self._always, *steps(item.get("filters"))]
        keeps = any(step.name == "PreserveHostHeader" for step in own)
        for route in write_routes(item.get("id").text(), predicates, item.at, self._draft):
            name = self._service(item, client_host=keeps)
            if name:
                route.put("service", name)
            elif not any(step.name == "RedirectTo" for step in own):
                route.close(
                    item.get("uri").at,
                    "the gateway answers it with Java code",
                    "write respond, or a service",
                )
            self._metadata(item, route)
            filters.apply(route, own)
            if weighed := weight_of(predicates):
                self._groups.setdefault(f"{weighed[0]} {route.keys['path']}", []).append(
                    (route, weighed[1], Step("Weight", [], weighed[2]))
                )
            item.ignore("id", "uri", "order", "enabled", "metadata")
            self._draft.leftovers(item, route)

    def _metadata(self, item: Item, route: Route) -> None:
        metadata = item.get("metadata")
        for name, key in (("connect-timeout", "connect"), ("response-timeout", "first_byte")):
            value = named(metadata, name)
            if value.number() > 0:
                route.set(f"timeouts.{key}", duration(value.number() / _MILLISECONDS), value.at)

    def _service(self, item: Item, *, client_host: bool) -> str:
        """Return the service of a route's uri; empty if it is none."""
        uri = item.get("uri")
        text = text_of(uri.text())
        key = (text, client_host)
        if key in self._services:
            return self._services[key]
        scheme, _, rest = text.partition("://")
        authority, slash, path = rest.partition("/")
        if not isinstance(text, Variable) and (scheme not in {*_SCHEMES, "lb"} or not authority):
            return ""
        name = self._free(
            authority.partition(":")[0].partition(".")[0]
            if not isinstance(text, Variable)
            else item.get("id").text()
        )
        part = self._draft.service(name, uri.at)
        self._services[key] = part.name
        if client_host:
            part.put("host", "client")
        self._url(part, uri, text, _SCHEMES.get(scheme, ""), authority)
        if slash and path and not isinstance(text, Variable):
            part.differs(
                uri.at,
                f"the path /{path} is left out: Spring Cloud Gateway does not send it either",
            )
        self._times(part)
        return part.name

    def _url(self, part: Part, uri: Item, text: str, scheme: str, authority: str) -> None:
        if isinstance(text, Variable):
            part.set("url", text, uri.at, "set the variable before the start, if it has no default")
        elif not scheme:
            part.lost(
                uri.at,
                f"{text}: discovery by a registry of Spring",
                "write url, or let instances register",
            )
        else:
            part.set("url", f"{scheme}://{authority}", uri.at)
            if scheme == "https":
                part.differs(
                    uri.at,
                    "propylon verifies the service's certificate, whatever httpclient.ssl says",
                )

    def _free(self, wanted: str) -> str:
        base = name = Draft.service_name(wanted)
        number = 1
        while name in self._draft.services:
            number += 1
            name = f"{base}-{number}"
        return name

    def _times(self, part: Part) -> None:
        client = named(self._gateway, "httpclient", "http-client")
        connect = named(client, "connect-timeout")
        if connect.number() > 0:
            part.set("timeouts.connect", duration(connect.number() / _MILLISECONDS), connect.at)
        response = named(client, "response-timeout")
        seconds = seconds_of(response.text().removeprefix("PT").lower())
        if seconds:
            part.set("timeouts.first_byte", duration(seconds), response.at)
            part.put("timeouts.total", duration(max(60, seconds * 3)))

    def _split(self) -> None:
        """Put routes that share the requests of one place together."""
        for group in self._groups.values():
            first, _, step = group[0]
            shares = [
                {"service": route.keys.get("service"), "weight": weight}
                for route, weight, _ in group
                if weight
            ]
            alike = [
                {key: value for key, value in route.keys.items() if key not in ("name", "service")}
                for route, _, _ in group
            ]
            for route, _, _ in group[1:]:
                self._draft.routes.remove(route)
            service = first.keys.pop("service", "")
            if any(one != alike[0] for one in alike):
                first.put("service", service)
                first.close(
                    step.at, "routes of one group differ in more than their service", "write split"
                )
            elif not first.set("split", shares, step.at):
                first.put("service", service)
                first.close(
                    step.at, "a share of the requests is for another service", "write split"
                )

    def _globals(self) -> None:
        port = below(self._document, "server", "port")
        if port.number():
            self._draft.section("server.port", int(port.number()), port.at)
        if ssl := below(self._document, "server", "ssl"):
            self._draft.lost(ssl.at, "TLS of the listener", "write server.listen and tls")
        cors = named(named(self._gateway, "globalcors"), "cors-configurations")
        for pattern, item in cors.items():
            if pattern.strip("[]") == "/**":
                self._cors(item)
            else:
                self._draft.lost(item.at, f"CORS for {pattern} only", "write cors at the routes")
        discovery = named(named(named(self._gateway, "discovery"), "locator"), "enabled")
        if discovery.flag():
            self._draft.lost(
                discovery.at, "a route for each service of the registry", "write the routes"
            )

    def _cors(self, item: Item) -> None:
        keys: dict[str, Any] = {}
        for theirs, ours in _CORS.items():
            value = named(item, theirs)
            if value.value is None:
                continue
            keys[ours] = (
                value.value
                if ours in ("max_age", "credentials")
                else [one.strip() for text in value.texts() for one in text.split(",")]
            )
        if patterns := named(item, "allowedOriginPatterns"):
            keys["origins"] = [*keys.get("origins", []), *patterns.texts()]
        self._draft.section("cors", keys, item.at)
        self._draft.leftovers(item)
