"""Routers: a route of ours for each alternative of a rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.networks import network
from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import Found, from_regex, literal_prefix
from propylon.commands.imports.report import At
from propylon.commands.imports.traefik.rules import BadRule, Matcher, alternatives
from propylon.commands.imports.tree import Item, named

__all__ = ["write_routes"]

_NAMED = re.compile(r"\{(?P<name>[A-Za-z_]\w*)(?::(?P<regex>[^{}]+))?\}")
_ANY_BELOW = re.compile(
    r"\^?(?:\.\+|\[\^\.\]\+|\{\w+:(?:\.\+|\[\^\.\]\+)\})\\?\.(?P<rest>[\w\\.-]+?)\$?"
)
_VALUE = re.compile(r"\^(?P<inside>\(?[\w./:@ \\-]+(?:\|[\w./:@ \\-]+)*\)?)\$")


@dataclass(slots=True)
class _Wanted:
    """What an alternative asks for."""

    hosts: list[str] = field(default_factory=list)
    path: str = "/"
    exact: bool = False
    glued: bool = False
    wide: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    match: dict[str, dict[str, Any]] = field(default_factory=dict)
    clients: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)  # what closes it

    @property
    def but_for_hosts(self) -> tuple[object, ...]:
        """All of it without the hosts and methods: alternatives that differ in one of these alone are one route."""
        return (self.path, self.exact, str(self.match), str(self.clients), tuple(self.why))


def write_routes(name: str, router: Item, draft: Draft) -> list[Route]:
    """Write the routes of a router."""
    rule = named(router, "rule")
    try:
        wanted = [_wanted(one) for one in alternatives(rule.text())]
    except BadRule as error:
        route = draft.route("/", rule.at, name)
        route.close(rule.at, f"the rule {error}", "write the routes that it means")
        return [route]
    return [
        _written(one, name if number == 0 else f"{name}-{number + 1}", router, rule.at, draft)
        for number, one in enumerate(_merged(wanted))
    ]


def _merged(every: list[_Wanted]) -> list[_Wanted]:
    """Put alternatives together that differ in hosts alone, or in methods alone."""
    kept: list[_Wanted] = []
    for one in every:
        for other in kept:
            alike = one.but_for_hosts == other.but_for_hosts
            if alike and one.methods == other.methods and one.hosts and other.hosts:
                other.hosts += [host for host in one.hosts if host not in other.hosts]
                break
            if alike and one.hosts == other.hosts and one.methods and other.methods:
                other.methods += [method for method in one.methods if method not in other.methods]
                break
        else:
            kept.append(one)
    return kept


def _written(wanted: _Wanted, name: str, router: Item, at: At, draft: Draft) -> Route:
    route = draft.route(wanted.path, router.at, name)
    if wanted.exact:
        route.put("exact", value=True)
    route.glued, route.wide = wanted.glued, "; ".join(wanted.wide)
    if wanted.hosts:
        route.set("hosts", wanted.hosts, at, protects=True)
    if wanted.methods:
        route.methods(wanted.methods, at)
    if wanted.match:
        route.set("match", wanted.match, at, protects=True)
    if wanted.clients:
        said = "other clients get 403, and no other route is tried for them"
        route.set("clients", {"allow": wanted.clients}, at, said, protects=True)
    for text in [*wanted.said, *wanted.wide]:
        route.differs(at, text)
    for why in wanted.why:
        route.close(at, why, "write what it means")
    route.same(at, f"routes: {route.name}: path: {wanted.path}")
    return route


def _wanted(matchers: tuple[Matcher, ...]) -> _Wanted:
    wanted = _Wanted()
    for matcher in matchers:
        if matcher.negated:
            wanted.why.append(f"!{matcher.name}: propylon's conditions cannot be negated")
        else:
            _READERS.get(matcher.name, _unknown)(wanted, matcher)
    return wanted


def _unknown(wanted: _Wanted, matcher: Matcher) -> None:
    wanted.why.append(f"the matcher {matcher.name}")


def _host(wanted: _Wanted, matcher: Matcher) -> None:
    hosts = [arg.lower() for arg in matcher.args]
    if wanted.hosts and wanted.hosts != hosts:
        wanted.why.append("two different hosts at once")
    wanted.hosts = hosts
    if any(host.startswith("*.") for host in hosts):
        wanted.said.append("* stands for one label or more, in Traefik for one")


def _host_regexp(wanted: _Wanted, matcher: Matcher) -> None:
    for arg in matcher.args:
        found = _ANY_BELOW.fullmatch(arg)
        rest = found["rest"].replace("\\.", ".") if found else ""
        if not rest or "\\" in rest:
            wanted.why.append(f"the regular expression {arg} for hosts")
        else:
            wanted.hosts.append(f"*.{rest}")


def _path(wanted: _Wanted, matcher: Matcher) -> None:
    _place(wanted, matcher, exact=True)


def _prefix(wanted: _Wanted, matcher: Matcher) -> None:
    _place(wanted, matcher, exact=False)


def _place(wanted: _Wanted, matcher: Matcher, *, exact: bool) -> None:
    if len(matcher.args) != 1 or wanted.path != "/" or wanted.exact:
        wanted.why.append("several paths at once")
        return
    text = matcher.args[0]
    segments = []
    for part in text.strip("/").split("/"):
        match = _NAMED.fullmatch(part)
        if match and match["regex"]:
            wanted.wide.append(
                f"{{{match['name']}}} takes any segment, the original only {match['regex']}"
            )
        elif "{" in part and not match:
            wanted.why.append(f"the pattern {part} within a segment")
        segments.append(f"{{{match['name']}}}" if match else part)
    wanted.path = "/" + "/".join(segments)
    wanted.exact = exact
    if exact and text.endswith("/") and wanted.path != "/":
        wanted.path += "/"
        wanted.said.append(f"{text.rstrip('/')} is taken, too")
    elif not exact and wanted.path != "/" and text.endswith("/"):
        wanted.said.append(f"{wanted.path} itself is taken, too")
    elif not exact and wanted.path != "/":
        wanted.glued = True
        wanted.said.append(
            f"whole segments: {wanted.path}/x is taken as in Traefik, {wanted.path}x is not"
        )


def _path_regexp(wanted: _Wanted, matcher: Matcher) -> None:
    text = matcher.args[0] if matcher.args else ""
    found: Found | None = from_regex(text) if text.startswith(("^", "/")) else None
    if found is None or wanted.path != "/" or wanted.exact:
        wanted.path = literal_prefix(text)
        wanted.why.append(f"the regular expression {text} for paths")
        return
    wanted.path, wanted.exact, wanted.glued = found.path, found.exact, found.glued
    wanted.wide += [found.wide] if found.wide else []


def _method(wanted: _Wanted, matcher: Matcher) -> None:
    wanted.methods = list(matcher.args)


def _conditions(kind: str, wanted: _Wanted, matcher: Matcher) -> None:
    args = matcher.args
    if len(args) == 1 and "=" in args[0] and kind == "query":  # version 2
        args = tuple(args[0].split("=", 1))
    name, value = args[0] if args else "", args[1] if len(args) > 1 else ""
    if not value or value.endswith("*"):
        wanted.why.append(f"{matcher.name} without a value")
        return
    wanted.match.setdefault(kind, {})[name] = [value]


def _header(wanted: _Wanted, matcher: Matcher) -> None:
    _conditions("headers", wanted, matcher)


def _query(wanted: _Wanted, matcher: Matcher) -> None:
    _conditions("query", wanted, matcher)


def _regexp(wanted: _Wanted, matcher: Matcher) -> None:
    kind = "headers" if matcher.name.startswith("Header") else "query"
    name, regex = (*matcher.args, "", "")[:2]
    if regex in ("^.*$", ".*"):
        wanted.match.setdefault(kind, {})[name] = True
        return
    found = _VALUE.fullmatch(regex)
    values = found["inside"].strip("()").replace("\\.", ".").split("|") if found else []
    if not values or any("\\" in value for value in values):
        wanted.why.append(f"the regular expression {regex} for {name}")
        return
    wanted.match.setdefault(kind, {})[name] = values


def _client_ip(wanted: _Wanted, matcher: Matcher) -> None:
    wanted.clients += [network(arg) for arg in matcher.args]


_READERS = {
    "Host": _host,
    "HostHeader": _host,
    "HostRegexp": _host_regexp,
    "Path": _path,
    "PathPrefix": _prefix,
    "PathRegexp": _path_regexp,
    "Method": _method,
    "Header": _header,
    "Headers": _header,
    "HeaderRegexp": _regexp,
    "HeadersRegexp": _regexp,
    "Query": _query,
    "QueryRegexp": _regexp,
    "ClientIP": _client_ip,
}
