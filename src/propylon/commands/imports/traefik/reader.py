"""Read the files as a whole, and the routers in the order in which Traefik tries them."""

from __future__ import annotations

from collections.abc import Iterator

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.overlap import first_wins
from propylon.commands.imports.parts import Route
from propylon.commands.imports.source import Source
from propylon.commands.imports.traefik.labels import always, is_compose, read_labels
from propylon.commands.imports.traefik.middlewares import Middlewares
from propylon.commands.imports.traefik.routers import write_routes
from propylon.commands.imports.traefik.services import Services, bare
from propylon.commands.imports.tree import Item, named, parse

__all__ = ["read"]

_PUBLIC = frozenset({"web", "websecure", "http", "https", "http-redirect"})
_TLS = "routers with tls take HTTPS only, and listeners are not part of this file"
_TODO = "write server.listen with one listener `tls: true` and one `redirect: https`"


def read(sources: list[Source], draft: Draft) -> None:
    """Read dynamic files and compose files; all of them together are one configuration."""
    trees, always_there = [], []
    for source in sources:
        document = parse(source)
        if is_compose(document):
            always_there += [name for name, _ in always(document)]
        tree = read_labels(document, draft) if is_compose(document) else document
        if not tree.get("http") and not document.get("tcp"):
            raise source.refuse(
                1, "neither `http` nor labels traefik.http.…: no dynamic configuration of Traefik"
            )
        trees.append(tree)
        for key in ("tcp", "udp"):
            if tree.get(key):
                draft.lost(tree.get(key).at, "propylon serves HTTP and WebSockets only")
        if tree.get("tls"):
            draft.lost(
                tree.get("tls").at,
                "certificates of the listener",
                "write the section tls, with the same files",
            )
    draft.differs(
        sources[0].at(1, "the static configuration"),
        "it is not in these files: entry points, and middlewares that they may have for all routers",
    )
    _Reader(trees, always_there, draft).read()


def _entries(trees: list[Item], kind: str) -> dict[str, Item]:
    return {name: item for tree in trees for name, item in named(tree.get("http"), kind).items()}


class _Reader:
    """Reads all trees together."""

    def __init__(self, trees: list[Item], always_there: list[str], draft: Draft) -> None:
        self._draft = draft
        self._routers = _entries(trees, "routers")
        self._middlewares = Middlewares(draft, _entries(trees, "middlewares"))
        self._middlewares.always = always_there
        self._services = Services(
            draft, _entries(trees, "services"), _entries(trees, "serversTransports")
        )
        self._priority: dict[int, float] = {}

    def read(self) -> None:
        """Read all routers."""
        for name, router in self._live():
            for route in write_routes(name, router, self._draft):
                self._router(route, router)
        first_wins(self._draft, lambda route: -self._priority[id(route)])

    def _live(self) -> Iterator[tuple[str, Item]]:
        """Yield the routers without Traefik's own, and without those that only send clients to HTTPS."""
        rules = [named(router, "rule").text() for router in self._routers.values()]
        for name, router in self._routers.items():
            rule = named(router, "rule").text()
            own = named(router, "service").text().endswith("@internal")
            redirects = self._middlewares.redirects_to_https(named(router, "middlewares"))
            if own and not redirects:
                self._draft.differs(
                    router.at, "left out: a page of Traefik's own; propylon has /dashboard"
                )
                continue
            if redirects and (own or rules.count(rule) > 1):
                self._draft.lost(
                    router.at,
                    "the router sends clients to HTTPS, and listeners are not part of this file",
                    _TODO,
                )
                continue
            yield name, router

    def _router(self, route: Route, router: Item) -> None:
        service = named(router, "service")
        self._services.connect(route, service or router, service.text())
        self._middlewares.apply(route, named(router, "middlewares"))
        self._entry_points(named(router, "entryPoints"), route)
        if "tls" in {key.lower() for key in router.names()}:
            self._draft.lost(named(router, "tls").at, _TLS, _TODO)
            named(router, "tls").ignore(*named(router, "tls").names())
        priority = named(router, "priority")
        self._priority[id(route)] = priority.number() or len(named(router, "rule").text())
        if priority.number():
            route.same(priority.at, "the order of routes")
        router.ignore("observability", "ruleSyntax", "middlewares", "tls")
        self._draft.leftovers(router, route)

    def _entry_points(self, points: Item, route: Route) -> None:
        others = [text for text in points.texts() if bare(text).lower() not in _PUBLIC]
        if others:
            route.close(
                points.at,
                f"it is on the entry point {', '.join(others)} only, and here every route is on every listener",
                "protect it otherwise, or start a second gateway for it",
            )
        elif points:
            route.report_only(
                points.at,
                "entry points are listeners, server.listen; every route is on all of them",
            )
