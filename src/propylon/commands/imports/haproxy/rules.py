"""http-request, http-response and redirects, as keys of the routes that they count for."""

from __future__ import annotations

import re
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.haproxy.conditions import Acls, Wanted
from propylon.commands.imports.haproxy.syntax import Line, Section
from propylon.commands.imports.parts import Route
from propylon.commands.imports.target import Target

__all__ = ["TODO", "Rules", "conditions"]

TODO = "write server.listen with one listener `tls: true` and one `redirect: https`"
_REFUSES = ("deny", "tarpit", "reject", "silent-drop")
_QUIET = (
    "capture",
    "set-log-level",
    "set-nice",
    "set-var",
    "unset-var",
    "disable-l7-retry",
    "set-mark",
    "set-tos",
)
_OWN = frozenset(
    {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip"}
)
_FETCH = re.compile(r"%\[(?P<inside>[^\]]+)\]|%(?P<short>ci|ID)\b|%")
_FETCHES = {
    "src": "{client_ip}",
    "ci": "{client_ip}",
    "method": "{method}",
    "path": "{path}",
    "ID": "{request_id}",
    "unique-id": "{request_id}",
    "hdr(host)": "{host}",
    "req.hdr(host)": "{host}",
}
_HEADER = re.compile(r"(?:req\.)?hdr\((?P<name>[\w-]+)\)")
_SUB = re.compile(r"%\[path,regsub\(\^(?P<from>/[\w/-]*?)/?,/?\)\]")


class Rules:
    """The rules of one section, for the routes that pass through it."""

    def __init__(self, draft: Draft, section: Section, acls: Acls) -> None:
        """Keep them."""
        self._draft, self._section, self._acls = draft, section, acls

    def apply(self, routes: list[Route]) -> list[Route]:
        """Write all rules; return the routes that stand in front of the others."""
        front: list[Route] = []
        for line in [*self._section.all("http-request"), *self._section.all("redirect")]:
            front += self._request(line, [*routes, *front])
        for line in self._section.all("http-response"):
            self._response(line, [*routes, *front])
        return front

    def _request(self, line: Line, routes: list[Route]) -> list[Route]:
        words = line.plain if line.name == "redirect" else line.plain[1:]
        action = words[0] if words else ""
        if action in _REFUSES:
            return self._refuse(line, words, routes)
        if action in _QUIET:
            return []
        if action == "redirect":
            return self._redirect(line, words)
        if action in ("set-header", "add-header", "del-header"):
            self._header(line, words, routes)
        elif action in ("replace-path", "set-path") and not line.condition:
            for route in routes:
                _path(route, line, words)
        elif action.startswith(("track-sc", "sc-")):
            self._draft.lost(line.at, "stick tables have no counterpart", "look at rate_limit")
        else:
            _close(routes, line, f"http-request {action}")
        return []

    def _refuse(self, line: Line, words: tuple[str, ...], routes: list[Route]) -> list[Route]:
        status = words[words.index("deny_status") + 1] if "deny_status" in words[:-1] else "403"
        front: list[Route] = []
        for wanted in self._acls.alternatives(line.condition):
            plain = not (
                wanted.why
                or wanted.methods
                or wanted.match
                or wanted.hosts
                or wanted.tls
                or wanted.plain_http
            )
            if plain and wanted.clients and not wanted.paths:
                _clients(routes, line, wanted)
            elif (
                plain
                and wanted.paths
                and not any(glued for _, _, glued in wanted.paths if not wanted.clients)
            ):
                front += self._below(line, wanted, status, routes)
            elif plain and wanted.paths:
                front += self._below(line, wanted, status, routes)
                for route in routes:
                    route.lost(
                        line.at,
                        "it also refused paths that go on within the segment",
                        "add a route for each",
                    )
            else:
                _close(routes, line, "; ".join(wanted.why) or "a refusal under a condition")
        return front

    def _below(self, line: Line, wanted: Wanted, status: str, routes: list[Route]) -> list[Route]:
        """Refuse what is below a path: all of it, or but for some clients."""
        made: list[Route] = []
        for path, exact, glued in wanted.paths:
            base = path.rstrip("/")
            inside = [
                one
                for one in routes
                if str(one.keys["path"]) == path
                or (not exact and str(one.keys["path"]).startswith(f"{base}/"))
            ]
            if wanted.clients:
                _clients(inside, line, wanted)
            for above in _nearest(path, routes):
                route = self._draft.route(path, line.at)
                keys = {
                    key: value
                    for key, value in above.keys.items()
                    if key not in ("path", "name", "exact")
                }
                route.keys.update(
                    keys if wanted.clients else {"hosts": keys["hosts"]} if "hosts" in keys else {}
                )
                if exact:
                    route.put("exact", value=True)
                route.glued = glued
                route.open()
                if above.closed:
                    route.closed = above.closed
                if wanted.clients:
                    _clients([route], line, wanted)
                    _keep_path(route, above, line)
                else:
                    route.set(
                        "respond",
                        {"status": int(status) if status.isdecimal() else 403},
                        line.at,
                        protects=True,
                    )
                made.append(route)
        return made

    def _redirect(self, line: Line, words: tuple[str, ...]) -> list[Route]:
        kind, value = (*words[1:], "", "")[:2]
        if kind == "scheme":
            self._draft.lost(
                line.at, "it sends clients to HTTPS, and listeners are not part of this file", TODO
            )
            return []
        code = words[words.index("code") + 1] if "code" in words[:-1] else "302"
        made: list[Route] = []
        for wanted in self._acls.alternatives(line.condition):
            if (
                wanted.why
                or wanted.clients
                or "%" in value
                or not code.isdecimal()
                or kind not in ("location", "prefix")
            ):
                self._draft.lost(
                    line.at,
                    "; ".join(wanted.why) or f"a redirect to {value}",
                    "write a route with redirect",
                )
                continue
            for path, exact, _ in wanted.paths or [("/", False, False)]:
                route = self._draft.route(path, line.at)
                conditions(route, wanted, line)
                if exact:
                    route.put("exact", value=True)
                below = "" if exact else "/{rest}"
                to = (
                    value.rstrip("/") + path.rstrip("/") + below + "{query}"
                    if kind == "prefix"
                    else value
                )
                route.set("redirect", {"to": to, "status": int(code)}, line.at)
                route.open()
                made.append(route)
        return made

    @staticmethod
    def _header(line: Line, words: tuple[str, ...], routes: list[Route]) -> None:
        name, value = (*words[1:], "", "")[:2]
        if name.lower() in _OWN and words[0] != "del-header":
            for route in routes:
                route.same(line.at, "propylon's own way")
            return
        ours = _template(value)
        if line.condition or ours is None or name.lower() == "host":
            _close(routes, line, f"the header {name}, {value}")
            return
        for route in routes:
            if "respond" not in route.keys and "redirect" not in route.keys:
                _put_header(route, line, words[0], name, ours, "request")

    @staticmethod
    def _response(line: Line, routes: list[Route]) -> None:
        action, name, value = (*line.plain[1:], "", "", "")[:3]
        ours = _template(value)
        for route in routes:
            if (
                action not in ("set-header", "add-header", "del-header")
                or line.condition
                or ours is None
            ):
                route.lost(line.at, f"http-response {action}", "look at headers.response")
            elif "respond" not in route.keys and "redirect" not in route.keys:
                _put_header(route, line, action, name, ours, "response")


def _put_header(route: Route, line: Line, action: str, name: str, value: str, side: str) -> None:
    inside = route.keys.get("headers", {}).get(side, {})
    protects = side == "request"
    if action == "del-header":
        names = [*inside.get("remove", []), name]
        route.set(f"headers.{side}.remove", names, line.at, protects=True)
    else:
        kind = "set" if action == "set-header" else "add"
        route.set(
            f"headers.{side}.{kind}",
            {**inside.get(kind, {}), name: value},
            line.at,
            protects=protects,
        )


def _close(routes: list[Route], line: Line, why: str) -> None:
    for route in routes:
        route.close(line.at, why, "write what it means")


def _clients(routes: list[Route], line: Line, wanted: Wanted) -> None:
    """Refuse clients: whom a test names is denied, whom a negated test names is allowed."""
    named, spared = wanted.clients.get("allow", []), wanted.clients.get("deny", [])
    for route in routes:
        if named and spared:
            route.close(
                line.at, "addresses that are in one list and not in another", "write clients"
            )
            continue
        keys: dict[str, Any] = dict(route.keys.get("clients", {}))
        if spared and keys.get("allow"):
            route.close(line.at, "two lists of addresses at once", "write clients")
            continue
        if spared:
            keys["allow"] = spared
        else:
            keys["deny"] = [*keys.get("deny", []), *named]
        route.set("clients", keys, line.at, protects=True)


def _nearest(path: str, routes: list[Route]) -> list[Route]:
    """Return the routes that take a path now, from above: the nearest one for each list of hosts."""
    found: dict[str, Route] = {}
    for one in routes:
        above = str(one.keys["path"]).rstrip("/")
        if one.keys.get("exact") or not path.startswith(f"{above}/"):
            continue
        key = str((one.keys.get("hosts"), one.keys.get("methods"), one.keys.get("match")))
        if key not in found or len(above) > len(str(found[key].keys["path"]).rstrip("/")):
            found[key] = one
    return list(found.values())


def _keep_path(route: Route, above: Route, line: Line) -> None:
    """Keep what becomes of the path, where the route above strips or rewrites it."""
    if "rewrite" in route.keys or "strip_prefix" in route.keys:
        target = Target.of(route)
        segments = [part for part in str(above.keys["path"]).split("/") if part]
        into = [part for part in str(route.keys.pop("rewrite", "")).split("/") if part]
        route.keys.pop("strip_prefix", None)
        target.changed = line.at
        target.segments = [*into, *target.segments[len(segments) :]]
        target.write()


def _path(route: Route, line: Line, words: tuple[str, ...]) -> None:
    target = Target.of(route)
    if words[0] == "replace-path" and len(words) > 2:
        target.regex(words[1], re.sub(r"\\(\d)", r"$\1", words[2]), line.at)
    elif found := _SUB.fullmatch(words[-1]):
        if str(route.keys["path"]).rstrip("/") == found["from"].rstrip("/"):
            target.strip(len([part for part in found["from"].split("/") if part]), line.at)
        else:
            route.close(line.at, "it changes other paths than the route's", "write rewrite")
    else:
        route.close(line.at, f"{' '.join(words)}", "write rewrite")
    target.write()


def _template(value: str) -> str | None:
    """Return a value as a template; None if a part of it has no counterpart."""
    made, at = "", 0
    for match in _FETCH.finditer(value):
        name = match["inside"] or match["short"] or ""
        header = _HEADER.fullmatch(name)
        ours = _FETCHES.get(name) or (f"{{header.{header['name']}}}" if header else "")
        if not ours:
            return None
        made += value[at : match.start()].replace("{", "{{").replace("}", "}}") + ours
        at = match.end()
    return made + value[at:].replace("{", "{{").replace("}", "}}")


def conditions(route: Route, wanted: Wanted, line: Line) -> None:
    """Write what a condition asks for, but for the path."""
    if wanted.hosts:
        route.set("hosts", wanted.hosts, line.at, protects=True)
    if wanted.methods:
        route.methods(wanted.methods, line.at)
    if wanted.match:
        route.set("match", wanted.match, line.at, protects=True)
