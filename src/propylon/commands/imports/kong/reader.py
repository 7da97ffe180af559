"""Read the file as a whole: which entities there are, and which plugins count for which route."""

from __future__ import annotations

from collections.abc import Iterable

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.kong.names import IGNORED, name_of
from propylon.commands.imports.kong.plugins import applies_to, apply
from propylon.commands.imports.kong.routes import Written, order, write_routes
from propylon.commands.imports.kong.security import Consumers
from propylon.commands.imports.kong.services import Services, base_path, key_of
from propylon.commands.imports.overlap import first_wins
from propylon.commands.imports.source import Source
from propylon.commands.imports.tree import Item, parse

__all__ = ["read"]

_ABOUT = (
    "_format_version",
    "_transform",
    "_info",
    "_workspace",
    "_comment",
    "_konnect",
    "_plugin_configs",
)
_CERTIFICATES = ("certificates", "ca_certificates", "snis", "vaults", "keys", "key_sets")


def read(sources: list[Source], draft: Draft) -> None:
    """Read Kong's files; all of them together are one configuration."""
    documents = [parse(source) for source in sources]
    for document in documents:
        if not document.get("_format_version"):
            raise document.source.refuse(
                1, "no _format_version, so this is no declarative file of Kong"
            )
        document.ignore(*_ABOUT)
    if len(documents) > 1:
        raise sources[1].refuse(1, "write one file: `deck file merge` makes one of many")
    _Reader(documents[0], draft).read()


class _Reader:
    """Reads one document."""

    def __init__(self, document: Item, draft: Draft) -> None:
        self._document, self._draft = document, draft
        self._plugins = document.get("plugins").each()
        self._services = {key_of(one): one for one in document.get("services").each()}
        self._services |= {
            one.get("id").text(): one for one in self._services.values() if one.get("id")
        }
        self._consumers = Consumers(draft, document)
        self._writer = Services(
            draft, document.get("upstreams").each(), document.get("targets").each()
        )
        self._keys: dict[int, tuple[object, ...]] = {}

    def read(self) -> None:
        """Read all of it."""
        for service in dict.fromkeys(self._services.values()):
            for route in service.get("routes").each():
                self._route(route, service)
        for route in self._document.get("routes").each():
            self._route(route, self._services.get(name_of(route.get("service"))))
        self._writer.report_unused()
        first_wins(self._draft, lambda route: self._keys[id(route)])
        self._consumers.report()
        for plugin in self._everywhere():
            if applies_to(plugin):
                self._draft.lost(
                    plugin.at,
                    f"a plugin for a {applies_to(plugin)}: propylon has no rules for single callers",
                )
        for key in _CERTIFICATES:
            for one in self._document.get(key).each():
                self._draft.lost(
                    one.at, "certificates and keys are files for propylon", "write the section tls"
                )
        for key in ("acls", "keyauth_credentials", "basicauth_credentials", "consumer_groups"):
            for one in self._document.get(key).each():
                self._draft.lost(one.at, "not taken over", "see the routes that ask for them")
        self._draft.leftovers(self._document)

    def _everywhere(self) -> Iterable[Item]:
        return self._plugins

    def _route(self, item: Item, service: Item | None) -> None:
        if service is not None and not service.get("enabled").flag(default=True):
            self._draft.differs(item.at, "left out: its service is not enabled")
            return
        plugins = self._counting(item, service)
        for written in write_routes(item, self._draft):
            self._keys[id(written.route)] = order(item, written.route)
            self._to_service(
                written,
                item,
                service,
                answers=not plugins.keys().isdisjoint({"request-termination", "redirect"}),
            )
            apply(written, plugins, self._consumers)
            self._draft.leftovers(item, written.route)

    def _to_service(
        self, written: Written, item: Item, service: Item | None, *, answers: bool
    ) -> None:
        route = written.route
        if service is None:
            if not answers:
                route.close(item.at, "the route has no service in this file")
            return
        client_host = item.get("preserve_host").flag()
        route.put("service", self._writer.of(service, client_host=client_host))
        written.base = base_path(service)
        if item.get("preserve_host"):
            route.same(item.get("preserve_host").at, f"services.{route.keys['service']}.host")
        strips = item.get("strip_path").flag(default=True) and route.keys["path"] != "/"
        if strips:
            route.put("strip_prefix", value=True)
        if item.get("strip_path").value is not None:
            route.same(item.get("strip_path").at, "routes: strip_prefix")

    def _counting(self, route: Item, service: Item | None) -> dict[str, Item]:
        """Return the plugins of a route by name: its own win over the service's, and these over those for all."""
        found: dict[str, Item] = {}
        named = {route.get("name").text(), route.get("id").text()} - {""}
        of_service = (
            {service.get("name").text(), service.get("id").text()} - {""} if service else set()
        )
        everywhere = [one for one in self._plugins if not applies_to(one)]
        levels = (
            [
                one
                for one in everywhere
                if not name_of(one.get("service")) and not name_of(one.get("route"))
            ],
            [one for one in everywhere if name_of(one.get("service")) in of_service],
            service.get("plugins").each() if service else [],
            [one for one in everywhere if name_of(one.get("route")) in named],
            route.get("plugins").each(),
        )
        for plugin in (plugin for level in levels for plugin in level):
            name = plugin.get("name").text()
            if plugin.get("enabled").flag(default=True) and not applies_to(plugin):
                found[name] = plugin
            plugin.ignore(*IGNORED)
        return found
