"""Read the files as a whole: frontends and listens, in the order of their rules."""

from __future__ import annotations

from itertools import combinations

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.haproxy.backends import write_service
from propylon.commands.imports.haproxy.conditions import Acls, Wanted
from propylon.commands.imports.haproxy.rules import TODO, Rules, conditions
from propylon.commands.imports.haproxy.syntax import Line, Section, sections
from propylon.commands.imports.overlap import first_wins, keep_before
from propylon.commands.imports.parts import Part, Route
from propylon.commands.imports.source import Source

__all__ = ["read"]

_HARMLESS = frozenset(
    [
        "mode", "option", "no", "log", "log-format", "log-tag", "timeout", "maxconn", "errorfile", "errorloc", "description",
        "default-server", "server", "server-template", "retries", "retry-on", "fullconn", "id", "backlog", "unique-id-format",
        "unique-id-header", "http-reuse", "compression", "load-server-state-from-file", "balance", "hash-type", "http-check",
        "cookie", "declare", "bind", "acl", "http-error", "email-alert", "monitor-uri", "dynamic-cookie-key",
    ]
)  # fmt: skip
_PUBLIC = ("80", "443")
_MOST_COMPARED = 300


def read(sources: list[Source], draft: Draft) -> None:
    """Read haproxy.cfg, or several files in order."""
    every = sections(sources)
    fronts = [one for one in every if one.kind in ("frontend", "listen")]
    if not fronts:
        raise sources[0].refuse(1, "no frontend and no listen: no configuration of HAProxy")
    reader = _Reader(draft, every)
    ports = {port for one in fronts for port in _ports(one)}
    for front in fronts:
        reader.front(front, ports)
    for one in every:
        if one.kind in ("userlist", "peers", "cache", "program", "fcgi-app", "mailers"):
            draft.lost(one.at, f"the section {one.kind}")
    if len(draft.routes) <= _MOST_COMPARED:
        for one_route, other in combinations(draft.routes, 2):
            keep_before(one_route, other)
    first_wins(draft)


class _Reader:
    def __init__(self, draft: Draft, every: list[Section]) -> None:
        self._draft = draft
        self._backends = {one.name: one for one in every if one.kind in ("backend", "listen")}
        self._services: dict[str, Part] = {}

    def front(self, section: Section, ports: set[str]) -> None:
        """Write the routes of a frontend."""
        if _mode(section) == "tcp":
            self._draft.lost(section.at, "propylon serves HTTP and WebSockets only")
            return
        if section.all("stats") and not section.all("server"):
            self._draft.differs(section.at, "left out: HAProxy's own page; propylon has /dashboard")
            return
        acls = Acls(section)
        groups: dict[str, list[Route]] = {}
        routes: list[Route] = []
        for line in section.all("use_backend"):
            made = self._used(line, acls)
            groups.setdefault(line.words[1] if len(line.words) > 1 else "", []).extend(made)
            routes += made
        default = section.last("default_backend")
        name = default.first if default else section.name if section.kind == "listen" else ""
        if name:
            made = self._to(name, Wanted(), default or Line(("listen",), section.at))
            groups.setdefault(name, []).extend(made)
            routes += made
        for backend, group in groups.items():
            self._behind(backend, group, section)
        for line in section.all("monitor-uri"):
            route = self._draft.route(line.first, line.at)
            route.put("exact", value=True)
            route.put("respond", {"status": 200})
            route.open()
        front = Rules(self._draft, section, acls).apply(routes)
        self._first(front)
        self._listens(section, [*front, *routes], ports)
        self._compress(section, routes)
        self._left(section, [*front, *routes])

    def _first(self, front: list[Route]) -> None:
        """Put routes in front of all others: HAProxy obeys these rules before it chooses a backend."""
        rest = [one for one in self._draft.routes if not any(one is other for other in front)]
        self._draft.routes[:] = [*front, *rest]

    def _used(self, line: Line, acls: Acls) -> list[Route]:
        made: list[Route] = []
        for wanted in acls.alternatives(line.condition):
            made += self._to(line.plain[1] if len(line.plain) > 1 else "", wanted, line)
        return made

    def _to(self, name: str, wanted: Wanted, line: Line) -> list[Route]:
        made: list[Route] = []
        for path, exact, glued in wanted.paths or [("/", False, False)]:
            route = self._draft.route(path, line.at)
            route.glued = glued
            if exact:
                route.put("exact", value=True)
            conditions(route, wanted, line)
            if wanted.clients:
                route.close(
                    line.at,
                    "a backend for some addresses",
                    "write clients, which answers 403 to others",
                )
            for text in wanted.said:
                route.differs(line.at, text)
            for why in wanted.why:
                route.close(line.at, why, "write what it means")
            if name in self._backends:
                if name not in self._services:
                    self._services[name] = write_service(self._backends[name], self._draft)
                route.put("service", self._services[name].name)
                route.same(line.at, f"routes: {route.name}: service: {name}")
            else:
                route.close(line.at, f"the backend {name} is not in these files", "write service")
            route.open()
            made.append(route)
        return made

    def _behind(self, name: str, routes: list[Route], front: Section) -> None:
        """Write the rules of a backend."""
        backend = self._backends.get(name)
        if backend is None or backend is front:
            return
        made = Rules(self._draft, backend, Acls(backend)).apply(routes)
        routes += made
        self._first(made)
        self._compress(backend, routes)
        self._left(backend, routes)

    def _listens(self, section: Section, routes: list[Route], ports: set[str]) -> None:
        for line in section.all("bind"):
            if "ssl" in line.words:
                self._draft.lost(
                    line.at,
                    "certificates of the listener",
                    f"write the section tls, and {TODO[6:]}",
                )
            if "verify" in line.words and "none" not in line.words:
                for route in routes:
                    route.close(line.at, "certificates of clients", "write tls.clients")
            if "accept-proxy" in line.words:
                self._draft.lost(
                    line.at, "the PROXY protocol", "write server.listen with proxy_protocol"
                )
        mine = _ports(section)
        if ports - mine and not mine & set(_PUBLIC):
            for route in routes:
                route.close(
                    section.at, "it has a listener of its own, and here every route is on every listener",
                    "protect it otherwise, or start a second gateway for it",
                )  # fmt: skip
        else:
            self._draft.differs(
                section.at,
                "the address to listen on is server.host and server.port, or server.listen",
            )

    @staticmethod
    def _compress(section: Section, routes: list[Route]) -> None:
        algo = section.last("compression", "algo")
        types = section.last("compression", "type")
        if algo is None or "gzip" not in algo.args:
            return
        keys: dict[str, object] = {"encodings": ["gzip"]}
        if types:
            keys["types"] = list(types.args[1:])
        for route in routes:
            if "respond" not in route.keys and "redirect" not in route.keys:
                route.set("compress", keys, algo.at)

    def _left(self, section: Section, routes: list[Route]) -> None:
        """Close routes for the lines that nobody has read: they may protect."""
        for line in section.lines:
            if line.taken or line.name in _HARMLESS:
                continue
            if line.name in ("stick-table", "stick", "stats"):
                self._draft.lost(
                    line.at,
                    "stick tables and pages of HAProxy have no counterpart",
                    "look at rate_limit and sticky",
                )
                continue
            if line.words[:2] == ("tcp-request", "inspect-delay") or line.words[:2] == (
                "filter",
                "compression",
            ):
                continue
            for route in routes:
                route.close(
                    line.at, f"{' '.join(line.words[:2])} is not translated", "write what it means"
                )


def _mode(section: Section) -> str:
    line = section.last("mode")
    return line.first if line and line.args else "http"


def _ports(section: Section) -> set[str]:
    found: set[str] = set()
    for line in section.all("bind"):
        for address in (line.first if line.args else "").split(","):
            host, _, port = address.rpartition(":")
            local = host.startswith(("127.", "localhost", "[::1]", "::1")) or address[:1] in (
                "/",
                "u",
            )
            found.add(address if local else port)
    return found or {"80"}
