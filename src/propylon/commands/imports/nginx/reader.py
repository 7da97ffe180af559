"""Read the files as a whole: what all servers share, and each server with its names and ports."""

from __future__ import annotations

import re

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.nginx.extras import DEFAULT_BODY, answer, body_size
from propylon.commands.imports.nginx.locations import Locations, Site
from propylon.commands.imports.nginx.order import Kind, keep_order
from propylon.commands.imports.nginx.passing import Passing, send
from propylon.commands.imports.nginx.scope import HARMLESS, Scope
from propylon.commands.imports.nginx.syntax import Directive, parse_files
from propylon.commands.imports.nginx.upstreams import Upstreams
from propylon.commands.imports.parts import Route
from propylon.commands.imports.source import Source

__all__ = ["read"]

_TO_HTTPS = "the server sends clients to HTTPS, and listeners are not part of this file"
_TODO = "write server.listen with one listener `tls: true` and one `redirect: https`"
_SELF = re.compile(r"https://(?:\$host|\$http_host|\$server_name)(?:\$request_uri|\$uri)?/?")
_PORT = re.compile(r"(?:(?P<host>.*):)?(?P<port>\d+)")
_PUBLIC = frozenset({"80", "443"})
_FILES = re.compile(
    r"mime\.types|proxy_params|(?:fastcgi|uwsgi|scgi)_params|options-ssl-nginx\.conf|modules-enabled|"
    r"ssl-params|snakeoil|ssl"
)
_MAIN = frozenset(
    [
        "user",
        "worker_processes",
        "pid",
        "events",
        "daemon",
        "worker_rlimit_nofile",
        "env",
        "load_module",
        "pcre_jit",
        "master_process",
    ]
)


def read(sources: list[Source], draft: Draft) -> None:
    """Read nginx.conf, and files that it includes; or files with servers alone."""
    top = parse_files(sources)
    https = [one for one in top if one.name == "http"]
    level = [inner for one in https for inner in one.block] + [
        one for one in top if one.name != "http" and one.name not in _MAIN
    ]
    servers = [one for one in level if one.name == "server"]
    if not servers:
        raise sources[0].refuse(
            1, "no server: no configuration of nginx, or of a part of it without one"
        )
    _Reader(draft, level, servers).read()


class _Reader:
    def __init__(self, draft: Draft, level: list[Directive], servers: list[Directive]) -> None:
        self._draft, self._level, self._servers = draft, level, servers
        self._http = Scope((level,))
        blocks = {one.first: one for one in level if one.name == "upstream"}
        splits = {
            one.args[-1].strip("${}"): one
            for one in level
            if one.name == "split_clients" and one.args
        }
        self._body, found = body_size(self._http)
        if self._body != DEFAULT_BODY and found:
            draft.section("server.max_body", self._body, found.at, protects=True)
        else:
            draft.sections.put("server.max_body", self._body)
        upstreams = Upstreams(draft, blocks)
        values = _constants(level)
        self._locations = Locations(
            draft, Passing(upstreams, splits, values), upstreams, self._body
        )
        self._locations.use(self._http.own("limit_req_zone", "limit_conn_zone"))
        self._ports = {port for one in servers for port in _ports(one)}

    def read(self) -> None:
        """Read all servers."""
        sites = [self._site(one) for one in self._servers]
        self._real_ip()
        if all(site.hosts for site in sites):
            self._draft.differs(
                sites[0].at,
                "requests for other hosts get 404; nginx takes the first server for them",
            )
        for left in self._level:
            if not left.taken and left.name not in HARMLESS:
                self._left(left, [route for site in sites for _, route in site.routes])
        self._others(sites)
        for site in sites:
            keep_order(site.routes)
            self._expressions(site)

    def _site(self, server: Directive) -> Site:
        scope = self._http.within(server.block)
        names = [name for one in scope.own("server_name") for name in one.args]
        site = Site(server.at, _hosts(names), scope)
        odd = [name for name in names if name.startswith("~") or name.endswith(".*")]
        default = any("default_server" in one.args for one in scope.own("listen"))
        if default and site.hosts:
            # It also answers for names that no server has.
            self._draft.differs(server.at, "it answers for all hosts: it is the default server")
            site.hosts = []
        if self._whole(site):
            self._left_of(server, site)
            return site
        self._locations.read(site)
        for one in odd:
            for _, route in site.routes:
                route.close(server.at, f"the name {one}, an expression", "write hosts")
        self._listens(site)
        self._left_of(server, site)
        return site

    def _whole(self, site: Site) -> bool:
        """Translate a server that answers by itself; True if it does."""
        for one in site.scope.own("return", "rewrite"):
            text = one.args[-1] if one.args else ""
            if one.name == "return" and _SELF.fullmatch(text):
                self._draft.lost(one.at, _TO_HTTPS, _TODO)
                return True
            if one.name == "rewrite" and _SELF.fullmatch(one.args[1] if len(one.args) > 1 else ""):
                self._draft.lost(one.at, _TO_HTTPS, _TODO)
                return True
            if one.name == "rewrite" and not set(one.args) & {"permanent", "redirect"}:
                one.taken = False  # it is in front of all locations: what is left closes them
                return False
            route = self._draft.route("/", one.at)
            if site.hosts:
                route.put("hosts", site.hosts)
            (answer if one.name == "return" else send)(route, one)
            route.open()
            site.routes.append((Kind.PREFIX, route))
            for inner in site.scope.own("location"):
                self._draft.differs(inner.at, "left out: the server answers before it")
            return True
        return False

    def _listens(self, site: Site) -> None:
        listens = site.scope.own("listen")
        if any("ssl" in one.args or one.first.endswith("443") for one in listens):
            for one in site.scope.own("ssl_certificate"):
                self._draft.lost(
                    one.at,
                    "certificates of the listener",
                    f"write the section tls with the same files, and {_TODO[6:]}",
                )
        for one in site.scope.own("ssl_verify_client"):
            if one.first != "off":
                for _, route in site.routes:
                    route.close(one.at, "certificates of clients", "write tls.clients")
        site.scope.own("ssl_client_certificate", "ssl_verify_depth")
        ports = _ports(self._block(site))
        if self._ports - ports and not ports & _PUBLIC:
            for _, route in site.routes:
                at = listens[0].at if listens else site.at
                route.close(
                    at, "it has a listener of its own, and here every route is on every listener",
                    "protect it otherwise, or start a second gateway for it",
                )  # fmt: skip
        elif listens:
            self._draft.differs(
                listens[0].at,
                "the address to listen on is server.host and server.port, or server.listen",
            )

    @staticmethod
    def _block(site: Site) -> Directive:
        return Directive("server", (), site.at, site.scope.levels[-1])

    def _left_of(self, server: Directive, site: Site) -> None:
        for left in server.block:
            if left.taken or left.name in HARMLESS:
                continue
            self._left(left, [route for _, route in site.routes])

    def _left(self, left: Directive, routes: list[Route]) -> None:
        """Report what nobody has read. It may have protected: routes are closed, but for what is known to be harmless."""
        if left.name == "include" and _FILES.search(left.first):
            self._draft.differs(left.at, f"{left.first} is not read")
            return
        if left.name == "if" and all(
            one.name == "return" and one.first in ("301", "302", "307", "308") for one in left.block
        ):
            self._draft.lost(left.at, "a redirect under a condition", _TODO)
            return
        why = "name the file, too" if left.name == "include" else "write what it means"
        if not routes:
            self._draft.lost(left.at, f"{left.name} is not translated", why)
        for route in routes:
            route.close(left.at, f"{left.name} is not translated", why)

    def _real_ip(self) -> None:
        found = self._http.own("set_real_ip_from", "real_ip_header", "real_ip_recursive")
        found += [
            one
            for server in self._servers
            for one in Scope((server.block,)).own("set_real_ip_from", "real_ip_header")
        ]
        networks = [one.first.rstrip(":") for one in found if one.name == "set_real_ip_from"]
        if networks:
            self._draft.section(
                "server.trusted_proxies",
                list(dict.fromkeys(networks)),
                found[0].at,
                "for all servers; X-Forwarded-For is believed",
            )

    def _others(self, sites: list[Site]) -> None:
        """Keep requests for a server with names away from the server for all names."""
        if all(site.hosts for site in sites):
            return
        for site in sites:
            paths = {route.keys["path"] for _, route in site.routes if not route.keys.get("exact")}
            if site.hosts and site.routes and "/" not in paths:
                route = self._draft.route("/", site.at)
                route.put("hosts", site.hosts)
                route.put("respond", {"status": 404})
                route.differs(site.at, "its other paths are 404; nginx looks for files there")
                route.open()

    def _expressions(self, site: Site) -> None:
        """Report expressions that no path says; where they protect, all routes that may get their requests are closed."""
        for at, prefix, protects in site.lost:
            why = "no path says this expression"
            if not protects:
                self._draft.lost(
                    at, f"{why}; its requests go to the other routes", "write a route for each path"
                )
                continue
            below = prefix.rstrip("/") + "/"
            for _, route in site.routes:
                path = str(route.keys["path"])
                meets = f"{path}/".startswith(below) or below.startswith(path.rstrip("/") + "/")
                if meets and not route.closed and not route.keys.get("exact"):
                    route.close(
                        at,
                        f"{why}, and it protected some of these requests",
                        "write a route for each path",
                    )
            self._draft.lost(at, why, "write a route for each path")


def _hosts(names: list[str]) -> list[str]:
    """Return names as hosts of ours; `.example.com` is a name and all below it."""
    made: list[str] = []
    for name in names:
        if name in ("_", "", '""') or name.startswith("~") or name.endswith(".*"):
            continue
        made += [name[1:], f"*{name}"] if name.startswith(".") else [name]
    return list(dict.fromkeys(one.lower() for one in made))


def _ports(server: Directive) -> set[str]:
    found = set()
    for one in server.block:
        if one.name == "listen":
            match = _PORT.fullmatch(one.first)
            host = (match["host"] or "") if match else ""
            local = host.startswith(("127.", "localhost", "[::1]")) or one.first.startswith("unix:")
            found.add(one.first if local or not match else match["port"])
    return found or {"80"}


def _constants(level: list[Directive]) -> dict[str, str]:
    """Return the variables that `set` gives one value in the whole file."""
    found: dict[str, set[str]] = {}
    pending = list(level)
    while pending:
        one = pending.pop()
        pending += one.block
        if one.name == "set" and len(one.args) > 1:
            found.setdefault(one.first.lstrip("$"), set()).add(one.args[1])
    return {
        name: next(iter(values))
        for name, values in found.items()
        if len(values) == 1 and "$" not in next(iter(values))
    }
