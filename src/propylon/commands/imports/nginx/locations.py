"""A route for each location, and the ones that others use."""

from __future__ import annotations

from dataclasses import dataclass, field

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.nginx.extras import answer, extras
from propylon.commands.imports.nginx.guards import Guards
from propylon.commands.imports.nginx.order import Kind
from propylon.commands.imports.nginx.passing import Passing, send, split_url
from propylon.commands.imports.nginx.scope import HARMLESS, Scope
from propylon.commands.imports.nginx.syntax import Directive
from propylon.commands.imports.nginx.upstreams import Upstreams, address
from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import from_regex, literal_prefix
from propylon.commands.imports.report import At

__all__ = ["Locations", "Site"]

_MODIFIERS = {"=": Kind.EXACT, "^~": Kind.FIRM, "~": Kind.REGEX, "~*": Kind.REGEX}
# What answers from files or by other protocols.
_OTHERS = (
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "alias",
    "stub_status",
    "dav_methods",
)
_PROTECTS = (
    "deny",
    "auth_basic",
    "auth_request",
    "limit_req",
    "limit_conn",
    "return",
    "internal",
    "auth_jwt",
    "limit_except",
)
_QUIET = ("if_modified_since", "error_page")


@dataclass(slots=True)
class Site:
    """A server: its names, what is in effect in it, and the routes that came of it."""

    at: At
    hosts: list[str]
    scope: Scope
    routes: list[tuple[Kind, Route]] = field(default_factory=list)
    lost: list[tuple[At, str, bool]] = field(default_factory=list)  # expressions without a path


class Locations:
    """Translates locations."""

    def __init__(self, draft: Draft, passing: Passing, upstreams: Upstreams, body: str) -> None:
        """Keep what they need; `body` is the size of bodies that counts for all."""
        self._draft, self._passing, self._upstreams, self._body = draft, passing, upstreams, body
        self._guards: Guards | None = None
        self._site: Site | None = None
        self._named: dict[str, Directive] = {}

    def use(self, zones: list[Directive]) -> None:
        """Have limits count by these zones."""
        self._guards = Guards(zones, self._question)

    def read(self, site: Site) -> None:
        """Write the routes of a server."""
        self._site = site
        every = list(_flat(site.scope, site.scope.own("location")))
        self._named = {one.args[-1]: one for one, _ in every}
        for one, scope in every:
            if not one.first.startswith("@"):
                self._location(site, one, scope)

    def _location(self, site: Site, one: Directive, scope: Scope) -> None:
        kind, path, exact, glued, wide = _matched(one)
        if not path:
            self._without_path(site, one)
            return
        route = self._draft.route(path, one.at)
        if exact:
            route.put("exact", value=True)
        route.glued, route.wide = glued, wide
        if site.hosts:
            route.put("hosts", site.hosts)
        site.routes.append((kind, route))
        _say(route, one, kind, wide)
        self.fill(route, one, scope)

    def fill(self, route: Route, one: Directive, scope: Scope) -> None:
        """Write what a location does, and what protects it."""
        self._act(route, one, scope)
        if self._guards is not None:
            self._guards.apply(route, scope)
        if "respond" not in route.keys and "redirect" not in route.keys:
            extras(route, scope, self._body)
            self._mirror(route, scope)
        elif not route.closed:
            _headers_of_answers(route, scope)
        for left in one.block:
            if not left.taken and left.name not in HARMLESS:
                route.close(left.at, f"{left.name} is not translated", "write what it means")
        route.open()

    def _act(self, route: Route, one: Directive, scope: Scope) -> None:
        for test in scope.own("if"):
            route.close(test.at, "a condition", "write match, or two routes")
        if scope.own("internal"):
            route.set("respond", {"status": 404}, one.at, "only nginx itself asks it")
            for inner in one.block:
                inner.taken = True
            return
        if fixed := scope.own("return"):
            answer(route, fixed[0])
            scope.own("proxy_pass", "proxy_set_header", *_QUIET)
            return
        passes, tries = scope.own("proxy_pass"), scope.all("try_files")
        if passes:
            self._passing.apply(route, passes[-1], scope)
        elif tries and (named := self._named.get(tries[-1].args[-1])) and named.args[-1][:1] == "@":
            route.lost(
                tries[-1].at,
                "files are not served; the service is asked for them",
                "serve them elsewhere",
            )
            self._act(route, named, scope.within(named.block))
        elif scope.own("rewrite"):
            send(route, scope.own("rewrite")[0])
        else:
            other = next(iter(scope.own(*_OTHERS)), None)
            scope.own("try_files", "autoindex")
            at = other.at if other else one.at
            name = other.name if other else "files"
            route.close(
                at,
                f"it answers with {name}, and propylon passes HTTP on",
                "write a service that serves them",
            )

    def _without_path(self, site: Site, one: Directive) -> None:
        """Report an expression that no path says; whoever it protected is closed in the end."""
        protects = any(inner.name in _PROTECTS for inner in one.block)
        site.lost.append((one.at, literal_prefix(one.args[-1]), protects))
        for inner in one.block:
            inner.taken = True

    def _question(self, _scope: Scope, uri: str) -> str:
        """Return the URL that auth_request asks, from the location that it names."""
        found = self._named.get(uri)
        passes = [one for one in found.block if one.name == "proxy_pass"] if found else []
        parts = split_url(passes[0].first) if passes else None
        if parts is None:
            return ""
        scheme, target, path = parts
        block = self._upstreams.blocks.get(target)
        servers = [one.first for one in block.block if one.name == "server"] if block else [target]
        if len(servers) != 1 or servers[0].startswith("unix:") or "$" in path:
            return ""
        return address(scheme, servers[0]) + (path or uri)

    def _mirror(self, route: Route, scope: Scope) -> None:
        one = scope.last("mirror")
        scope.all("mirror_request_body")
        if one is None or one.first == "off":
            return
        found = self._named.get(one.first)
        passes = [inner for inner in found.block if inner.name == "proxy_pass"] if found else []
        parts = split_url(passes[0].first.removesuffix("$request_uri")) if passes else None
        if found is None or parts is None or parts[2]:
            route.lost(one.at, "a copy of the requests that is not plain", "write mirror")
            return
        inside = scope.within(found.block)
        service = self._upstreams.service(parts[0], parts[1], inside, one.at)
        route.set("mirror", {"service": service.name}, one.at, "bodies up to 64 KB are copied")


def _headers_of_answers(route: Route, scope: Scope) -> None:
    for one in scope.own("add_header", "default_type", "expires"):
        if one.name == "add_header":
            route.lost(one.at, "a header of a fixed answer", "write respond.headers")


def _flat(scope: Scope, locations: list[Directive]) -> list[tuple[Directive, Scope]]:
    """Return locations and those inside of them, each with what is in effect in it."""
    found: list[tuple[Directive, Scope]] = []
    for one in locations:
        inside = scope.within(one.block)
        found.append((one, inside))
        found += _flat(inside, [inner for inner in one.block if inner.name == "location"])
    return found


def _matched(one: Directive) -> tuple[Kind, str, bool, bool, str]:
    """Return kind, path (empty: none says it), exact, glued and wide of a location."""
    modifier, text = (one.args[0], one.args[1]) if len(one.args) > 1 else ("", one.first)
    for word in ("^~", "~*", "~", "="):  # nginx takes `location =/x`, too
        if not modifier and text.startswith(word):
            modifier, text = word, text.removeprefix(word)
    kind = _MODIFIERS.get(modifier, Kind.PREFIX)
    if kind is Kind.REGEX:
        found = from_regex(text) if text.startswith(("^", "/")) else None
        if found is None or not text.startswith("^"):
            return kind, "", False, False, ""
        return kind, found.path, found.exact, found.glued, found.wide
    path = text.rstrip("/") or "/"
    if "{" in path or "}" in path or not path.startswith("/"):
        return kind, "", False, False, ""
    if kind is Kind.EXACT:
        return kind, text, True, False, ""
    return kind, path, False, not text.endswith("/"), ""


def _say(route: Route, one: Directive, kind: Kind, wide: str) -> None:
    path = route.keys["path"]
    if wide:
        route.differs(one.at, wide)
    if one.first == "~*":
        route.lost(
            one.at, "paths in capitals are other paths here", "write a route for each that there is"
        )
    elif kind is Kind.EXACT:
        said = (
            f"{str(path).rstrip('/')} is taken, too"
            if str(path) != "/" and str(path)[-1] == "/"
            else ""
        )
        (route.differs if said else route.same)(one.at, said or f"routes: {route.name}: exact")
    elif path == "/":
        route.same(one.at, f"routes: {route.name}")
    elif route.glued:
        route.differs(one.at, f"whole segments: {path}/x is taken as in nginx, {path}x is not")
    elif kind is not Kind.REGEX:
        route.differs(one.at, f"{path} itself is taken, too; nginx sends it to {path}/")
    else:
        route.same(one.at, f"routes: {route.name}")
