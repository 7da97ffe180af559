"""proxy_pass: to whom a location sends, and what becomes of the path."""

from __future__ import annotations

import re
from typing import Any

from propylon.commands.imports.nginx.extras import redirect
from propylon.commands.imports.nginx.scope import Scope
from propylon.commands.imports.nginx.syntax import Directive
from propylon.commands.imports.nginx.upstreams import Upstreams, header_values
from propylon.commands.imports.nginx.variables import expanded
from propylon.commands.imports.parts import Route
from propylon.commands.imports.target import Target

__all__ = ["Passing", "split_url"]

_URL = re.compile(r"(?P<scheme>https?)://(?P<target>unix:[^:$]+|[^/$?]+):?(?P<uri>.*)")
_VARIABLE = re.compile(r"(?P<scheme>https?)://\$\{?(?P<name>\w+)\}?")
_SHARE = re.compile(r"(?P<percent>\d+(?:\.\d{1,2})?)%")
_ASKED = ("$request_uri", "$uri$is_args$args")
_KEEPS_PATH = ("break", "last")
_SENDS = {"permanent": 301, "redirect": 302}


def split_url(text: str) -> tuple[str, str, str] | None:
    """Return scheme, server and URI of proxy_pass; None if it has variables."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    target = match["target"]
    uri = match["uri"]
    if not target.startswith("unix:") and ":" in text.partition("://")[2][len(target) :][:1]:
        return None
    return match["scheme"], target, uri


class Passing:
    """Sends routes to services."""

    def __init__(
        self, upstreams: Upstreams, splits: dict[str, Directive], values: dict[str, str]
    ) -> None:
        """Keep what the file defines."""
        self._upstreams, self._splits, self._values = upstreams, splits, values

    def apply(self, route: Route, one: Directive, scope: Scope) -> None:
        """Translate proxy_pass of a location."""
        text = expanded(one.first, self._values)
        for end in _ASKED:
            text = text.removesuffix(end)
        target = Target.of(route)
        if not self._rewritten(route, scope, target):
            return
        if self._split(route, text, scope, one):
            target.write()
            return
        parts = split_url(text)
        if parts is None:
            route.close(one.at, f"{one.first} has variables", "write service")
            return
        scheme, server, uri = parts
        self._upstreams.connect(route, scheme, server, scope, one.at)
        route.same(one.at, f"routes: {route.name}: service: {route.keys['service']}")
        header_values(route, scope)
        if "$" in uri or "?" in uri:
            route.close(one.at, f"a path with variables or a query: {uri}", "write rewrite")
            return
        if uri and target.changed is None:
            _replace(route, one, uri, target)
        target.write()

    def _split(self, route: Route, text: str, scope: Scope, one: Directive) -> bool:
        match = _VARIABLE.fullmatch(text)
        block = self._splits.get(match["name"]) if match else None
        if match is None or block is None:
            return False
        shares: list[dict[str, Any]] = []
        left = 100.0
        for share in block.block:
            percent = _SHARE.fullmatch(share.name)
            weight = float(percent["percent"]) if percent else left
            left -= weight
            service = self._upstreams.service(match["scheme"], share.first, scope, share.at)
            shares.append({"service": service.name, "weight": round(weight * 100)})
        if not all(one["weight"] % 100 for one in shares):
            shares = [{**one, "weight": one["weight"] // 100} for one in shares]
        said = f"each request is drawn anew, in nginx by {block.first}; see sticky"
        if not route.set("split", shares, block.at, said):
            route.close(one.at, "a share for another service", "write split")
        header_values(route, scope)
        return True

    def _rewritten(self, route: Route, scope: Scope, target: Target) -> bool:
        """Follow `rewrite`; False if the route is answered by it, or closed."""
        for one in scope.own("rewrite"):
            pattern, into, flag = (*one.args, "", "")[:3]
            if flag in _SENDS or into.startswith(("http://", "https://", "$scheme")):
                send(route, one)
                return False
            if flag not in _KEEPS_PATH or "?" in into:
                route.close(
                    one.at, f"the rewrite {pattern} goes on to another location", "write rewrite"
                )
                return False
            if flag == "last":
                route.close(one.at, "the new path is looked up again", "write rewrite")
                return False
            target.regex(pattern, into, one.at)
            if target.lost:
                return False
        return True


def send(route: Route, one: Directive) -> None:
    """Translate a rewrite that redirects everything below the route."""
    pattern, into, flag = (*one.args, "", "")[:3]
    path = "" if route.keys["path"] == "/" else str(route.keys["path"])
    status = _SENDS.get(flag, 302)
    if pattern in ("^", "^(.*)$", "^/(.*)$", ".*", "^(.*)", "^/(.*)") and not path:
        below = "/" if pattern.startswith("^(") else ""
        to = into.replace("$1", f"{below}{{rest}}") if "(" in pattern else into
        if "?" not in to and not to.endswith("$request_uri"):
            to += "{query}"
        redirect(route, one.at, to.removesuffix("?"), status)
    elif pattern.strip("^$") == path and "$" not in into:
        redirect(route, one.at, into if into.endswith("?") else f"{into}{{query}}", status)
    else:
        route.close(one.at, f"the redirect {pattern} to {into}", "write redirect")


def _replace(route: Route, one: Directive, uri: str, target: Target) -> None:
    """Put the URI of proxy_pass in place of what the location matched."""
    path = str(route.keys["path"])
    if route.keys.get("exact"):
        target.set(uri, one.at)
        return
    slash = not route.glued  # `location /a/` has one at its end
    if path != "/" and slash != uri.endswith("/") and uri != "/":
        route.close(
            one.at, f"the path goes on without a slash: {path}/x becomes {uri}x", "write rewrite"
        )
        return
    if path != "/" and not slash and uri == "/":
        route.differs(one.at, f"{path}/x becomes /x, in nginx //x")
    if path == "/" and not uri.endswith("/"):
        route.close(one.at, f"the path goes on without a slash: /x becomes {uri}x", "write rewrite")
        return
    target.strip(len([part for part in path.split("/") if part]), one.at)
    target.prefix(uri, one.at)
