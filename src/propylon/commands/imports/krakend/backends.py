"""Backends: the hosts become services, the url_pattern a rewrite."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.krakend.limits import limit
from propylon.commands.imports.parts import Part, Route
from propylon.commands.imports.rates import duration, seconds_of
from propylon.commands.imports.tree import Item

__all__ = ["Backends"]

_NAMED = re.compile(r"\{(?P<name>[^{}]*)\}")
_CLAIM = "JWT."
_FILTERS = ("deny", "allow", "blacklist", "whitelist")
_SHAPES = ("mapping", "group", "target", "is_collection")
_COMMENT = ("@comment", "$schema")


class Backends:
    """The services of a file, by their hosts."""

    def __init__(self, draft: Draft, document: Item) -> None:
        """Keep the hosts that count where a backend has none."""
        self._draft = draft
        self._default = document.get("host")
        self._names: dict[tuple[str, ...], str] = {}

    def connect(self, endpoint: Item, backend: Item, route: Route) -> None:
        """Send a route to a backend."""
        hosts = backend.get("host") or self._default
        urls = [_url(text) for text in hosts.texts()]
        if not urls:
            route.close(backend.at, "the backend has no host")
            return
        if backend.get("sd").text("static") not in ("static", ""):
            urls = [
                url.replace("://", "://", 1) if url.startswith("srv+") else f"srv+{url}"
                for url in urls
            ]
        service = self._service(tuple(urls), hosts)
        route.put("service", service.name)
        _path(backend, route)
        self._method(endpoint, backend, route)
        _shapes(endpoint, backend, route)
        self._extras(backend, service, route)
        backend.ignore("disable_host_sanitize", "sd_scheme", *_COMMENT)

    def _service(self, urls: tuple[str, ...], hosts: Item) -> Part:
        if urls not in self._names:
            place = urlsplit(urls[0].removeprefix("srv+"))
            wanted = base = (place.hostname or "backend").partition(".")[0]
            number = 1
            while Draft.service_name(wanted) in self._draft.services:
                number += 1
                wanted = f"{base}-{number}"
            part = self._draft.service(wanted, hosts.at)
            self._names[urls] = part.name
            if len(urls) == 1:
                part.set("url", urls[0], hosts.at)
            else:
                part.set("instances", list(urls), hosts.at)
        return self._draft.services[self._names[urls]]

    def _method(self, endpoint: Item, backend: Item, route: Route) -> None:
        outer = endpoint.get("method").text("GET").upper()
        inner = backend.get("method").text(outer).upper()
        if inner != outer:
            route.close(
                backend.get("method").at,
                f"the backend is asked with {inner} where the client says {outer}; propylon never changes the method",
            )
        elif backend.get("method"):
            route.same(backend.get("method").at, "the method stays as it is")

    def _extras(self, backend: Item, service: Part, route: Route) -> None:
        extra = backend.get("extra_config")
        for name, config in extra.items():
            if name == "qos/circuit-breaker":
                _breaker(config, service)
            elif name == "qos/ratelimit/proxy":
                _proxy_limit(config, service, route)
            elif name == "qos/http-cache":
                route.set(
                    "cache",
                    {},
                    config.at,
                    "by RFC 9111, in the memory of the workers, and each caller has its own answers",
                )
            elif name in ("backend/http", "backend/http/client"):
                _http(config, service, route)
            elif name.startswith("telemetry/") or name in _COMMENT:
                route.report_only(config.at, "propylon has metrics and traces of its own")
            else:
                route.close(
                    config.at,
                    f"{name} of a backend",
                    "see whether a key or a policy in Python does it",
                )


def _url(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    return url.rstrip("/")


def _path(backend: Item, route: Route) -> None:
    """Translate url_pattern: the path for the service."""
    pattern = backend.get("url_pattern")
    path, mark, _ = pattern.text("/").partition("?")
    if mark:
        route.close(pattern.at, "the url_pattern has a query", "write it as query.set")
    if not path.startswith("/"):
        path = f"/{path}"
    foreign = [
        name for name in _NAMED.findall(path) if f"{{{name}}}" not in str(route.keys["path"])
    ]
    claims = [name for name in foreign if name.startswith(_CLAIM)]
    if len(claims) < len(foreign):
        route.close(
            pattern.at,
            f"{{{foreign[0]}}} is the answer of another backend, or a parameter that the path has not",
        )
        return
    for name in claims:
        path = path.replace(f"{{{name}}}", f"{{claim.{name.removeprefix(_CLAIM)}}}")
    if path == route.keys["path"]:
        route.same(pattern.at, "the path is sent as it comes")
        return
    if not route.set("rewrite", path, pattern.at):
        route.close(pattern.at, f"no rewrite says {path}")


def _shapes(endpoint: Item, backend: Item, route: Route) -> None:
    for key in _FILTERS:
        if backend.get(key):
            route.close(
                backend.get(key).at,
                "fields are taken out of answers, and propylon changes no bodies",
                "let the service leave them out",
            )
    for key in _SHAPES:
        if backend.get(key):
            route.lost(
                backend.get(key).at,
                "propylon changes no bodies: the client gets what the service sends",
            )
    raw = "no-op" in (endpoint.get("output_encoding").text(), backend.get("encoding").text())
    if not raw:
        route.report_only(
            (backend.get("encoding") or backend).at,
            "the client gets the service's answer as it is, with its status and headers; KrakenD reads it and writes it anew",
        )


def _breaker(config: Item, service: Part) -> None:
    service.set(
        "circuit",
        {
            "failure_threshold": max(1, int(config.get("max_errors").number(1))),
            "failure_window": duration(config.get("interval").number(60)),
            "recovery_timeout": duration(config.get("timeout").number(10)),
        },
        config.at,
        "failures of all routes to the service are counted, and not only those in a row",
    )
    config.ignore("name", "log_status_change", *_COMMENT)


def _proxy_limit(config: Item, service: Part, route: Route) -> None:
    every = seconds_of(config.get("every").text("1s")) or 1
    made, exact = limit("backend", config.get("max_rate"), config.get("capacity"), every, "service")
    if made is None:
        route.close(config.at, "a rate that propylon cannot write")
        return
    difference = "all routes to the service share it; the status is 429" + (
        "" if exact else "; rounded down"
    )
    if not service.set("rate_limit", [made], config.at, difference):
        route.close(config.at, "the limit of its backend is not translated")


def _http(config: Item, service: Part, route: Route) -> None:
    for key, value in config.items():
        if key in ("return_error_details", "return_error_code", *_COMMENT):
            route.report_only(
                value.at, "statuses and errors of the service reach the client as they are"
            )
        elif key == "client_tls":
            service.lost(value.at, "the TLS of a backend", "write services.X.tls")
        else:
            service.lost(value.at, "propylon has no such setting of its client")
