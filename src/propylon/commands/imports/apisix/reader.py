"""Read the file as a whole: which entities there are, and which plugins count for which route."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.apisix.plugins import Plugins
from propylon.commands.imports.apisix.routes import write_routes
from propylon.commands.imports.apisix.upstreams import IGNORED, Upstreams
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.overlap import first_wins
from propylon.commands.imports.parts import Part, Route
from propylon.commands.imports.rates import duration
from propylon.commands.imports.source import Source
from propylon.commands.imports.tree import Item, parse

__all__ = ["read"]

_ABOUT = ("plugins", "plugin_metadata")
_ELSEWHERE = {
    "consumers": "consumers and their credentials are not taken over",
    "consumer_groups": "groups of consumers are not taken over",
    "ssls": "certificates are files for propylon; write the section tls",
    "stream_routes": "propylon serves HTTP and WebSockets only",
    "protos": "propylon speaks no gRPC",
    "secrets": "secrets come from the environment",
}


def read(sources: list[Source], draft: Draft) -> None:
    """Read one apisix.yaml."""
    if len(sources) > 1:
        raise sources[1].refuse(1, "write one file: APISIX reads one")
    document = parse(sources[0])
    if not isinstance(document.get("routes").value, list):
        raise sources[0].refuse(
            1, "no list `routes`, so this is no apisix.yaml of the standalone mode"
        )
    _Reader(document, draft).read()


class _Reader:
    """Reads one document."""

    def __init__(self, document: Item, draft: Draft) -> None:
        self._document, self._draft = document, draft
        self._upstreams = Upstreams(draft, document)
        self._plugins = Plugins(draft, self._upstreams)
        self._services = {one.get("id").text(): one for one in document.get("services").each()}
        self._configs = {one.get("id").text(): one for one in document.get("plugin_configs").each()}
        self._global = [one.get("plugins") for one in document.get("global_rules").each()]

    def read(self) -> None:
        """Read all of it."""
        for item in self._document.get("routes").each():
            if item.get("status").text("1") == "0":
                self._draft.differs(item.at, "left out: its status is 0")
                continue
            self._route(item)
        first_wins(self._draft, _order)
        self._upstreams.report_unused()
        self._document.ignore(
            *_ABOUT, "global_rules", "services", "plugin_configs", "routes", "upstreams"
        )
        for key, why in _ELSEWHERE.items():
            for one in self._document.get(key).each():
                self._draft.lost(one.at, why)
        self._draft.leftovers(self._document)

    def _route(self, item: Item) -> None:
        service = self._services.get(item.get("service_id").text())
        for route in write_routes(item, service, self._draft):
            if item.get("service_id") and service is None:
                route.close(item.get("service_id").at, "the service is not in the file")
            self._connect(item, service, route)
            if (
                item.get("plugin_config_id")
                and item.get("plugin_config_id").text() not in self._configs
            ):
                route.close(item.get("plugin_config_id").at, "the plugins are not in the file")
            self._plugins.apply(route, self._counting(item, service))
            if service is not None:
                service.ignore(
                    *IGNORED, "plugins", "upstream", "upstream_id", "hosts", "enable_websocket"
                )
                self._draft.leftovers(service, route)
            self._draft.leftovers(item, route)

    def _connect(self, item: Item, service: Item | None, route: Route) -> None:
        """Send the route to its upstream."""
        for holder in (item, service):
            if holder is None:
                continue
            upstream = holder.get("upstream") or None
            if upstream is None and holder.get("upstream_id"):
                upstream = self._upstreams.named(holder.get("upstream_id").text())
                if upstream is None:
                    route.close(holder.get("upstream_id").at, "the upstream is not in the file")
                    return
            if upstream is not None:
                part = self._upstreams.service(upstream, self._name(route, service, holder))
                route.put("service", part.name)
                _times(item, part, route)
                return
        if not {"redirect", "fault-injection", "traffic-split"} & item.get("plugins").names():
            route.close(item.at, "the route has no upstream")

    @staticmethod
    def _name(route: Route, service: Item | None, holder: Item) -> str:
        if service is not None and holder is service:
            return service.get("name").text() or f"service-{service.get('id').text()}"
        return route.name.strip("/").replace("/", "-") or "root"

    def _counting(self, item: Item, service: Item | None) -> dict[str, Item]:
        """Return the plugins of a route by name: its own win over its plugin_config's, these over the service's."""
        found: dict[str, Item] = {}
        levels = [*self._global, *([service.get("plugins")] if service else [])]
        if config := self._configs.get(item.get("plugin_config_id").text()):
            levels.append(config.get("plugins"))
        for level in (*levels, item.get("plugins")):
            found |= dict(level.items())
        return found


def _times(item: Item, part: Part, route: Route) -> None:
    timeout = item.get("timeout")
    if not timeout:
        return
    keys = {
        "connect": duration(timeout.get("connect").number(60)),
        "first_byte": duration(timeout.get("read").number(60)),
        "idle": duration(max(timeout.get("read").number(60), timeout.get("send").number(60))),
        "total": part.keys["timeouts"]["total"],
    }
    route.set("timeouts", keys, timeout.at)


def _order(route: Route) -> tuple[Any, ...]:
    """Return the sort key by which APISIX' router by host and path tries routes."""
    exact = bool(route.keys.get("exact"))
    return (
        not route.keys.get("hosts"),
        not exact,
        -len(str(route.keys["path"])),
        -int(route.keys.get("priority", 0)),
    )
