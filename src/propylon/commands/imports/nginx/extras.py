"""Headers of answers, compression, sizes, and answers without a service."""

from __future__ import annotations

import re
from typing import Any

from propylon.commands.imports.nginx.scope import Scope
from propylon.commands.imports.nginx.syntax import Directive
from propylon.commands.imports.nginx.variables import template
from propylon.commands.imports.parts import Route
from propylon.commands.imports.report import At

__all__ = ["DEFAULT_BODY", "answer", "body_size", "extras", "redirect"]

DEFAULT_BODY = "1MiB"  # client_max_body_size, where nothing is written
_UNLIMITED = "1TB"
_SIZE = re.compile(r"(?P<number>\d+)(?P<unit>[kKmMgG]?)")
_UNITS = {"": "", "k": "KiB", "m": "MiB", "g": "GiB"}
_REDIRECTS = ("301", "302", "303", "307", "308")
_DROPPED = "444"
_TARGET = re.compile(
    r"(?P<base>(?:(?:https?|\$scheme)://[^/$]*(?:\$host|\$http_host|\$server_name)?)?)(?P<path>.*)"
)
_HOST = re.compile(r"\$(?:host|http_host|server_name)\b")
_STATUS = re.compile(r"[2-5]\d\d")
_LOST = ("proxy_cache", "sub_filter", "auth_jwt", "proxy_store", "limit_rate")


def body_size(scope: Scope) -> tuple[str, Directive | None]:
    """Return client_max_body_size in our notation, and its directive."""
    found = scope.last("client_max_body_size")
    match = _SIZE.fullmatch(found.first) if found else None
    if not match:
        return DEFAULT_BODY, found
    if not int(match["number"]):
        return _UNLIMITED, found
    return f"{match['number']}{_UNITS[match['unit'].lower()]}", found


def extras(route: Route, scope: Scope, common: str) -> None:
    """Write what changes requests and answers, and protects nothing but by its size."""
    size, found = body_size(scope)
    if size != common:
        said = "unlimited in nginx" if size == _UNLIMITED else ""
        route.set("max_body", size, found.at if found else route.at, said, protects=True)
    _headers(route, scope)
    _compress(route, scope)
    hidden = [one.first for one in scope.all("proxy_hide_header")]
    if hidden:
        route.set(
            "headers.response.remove", hidden, scope.all("proxy_hide_header")[0].at, protects=True
        )
    for name in _LOST:
        if (one := scope.last(name)) and one.first != "off":
            route.lost(one.at, f"{name}", "look at cache" if name == "proxy_cache" else "")
    scope.all(
        "proxy_cache_valid", "proxy_cache_key", "proxy_cache_bypass", "proxy_no_cache", "proxy_cache_use_stale",
        "proxy_cache_lock", "proxy_cache_methods", "proxy_ignore_headers", "proxy_cache_min_uses",
        "proxy_cache_background_update", "proxy_cache_revalidate", "proxy_pass_header",
    )  # fmt: skip


def _headers(route: Route, scope: Scope) -> None:
    made: dict[str, str] = {}
    said = ""
    for one in scope.all("add_header"):
        name, value = one.first, one.args[1] if len(one.args) > 1 else ""
        ours = template(value)
        if ours is None or not value:
            route.lost(one.at, f"the value {value}", "write headers.response.set")
            continue
        made[name] = ours
        said = (
            "it replaces the service's own header; and it is set on all statuses"
            if "always" not in one.args
            else "it replaces the service's own header"
        )
    if made:
        route.set("headers.response.set", made, scope.all("add_header")[0].at, said)


def _compress(route: Route, scope: Scope) -> None:
    switch = scope.last("gzip")
    if switch is None or switch.first != "on":
        return
    types = ["text/html"]
    for one in scope.all("gzip_types"):
        types += [word for word in one.args if word not in types]
    keys: dict[str, Any] = {"encodings": ["gzip"]}
    if "*" not in types:
        keys["types"] = types
    least = scope.text("gzip_min_length", "20")
    keys["min_size"] = int(least) if least.isdecimal() else 20
    level = scope.text("gzip_comp_level", "1")
    keys["level"] = int(level) if level.isdecimal() else 1
    route.set("compress", keys, switch.at)


def answer(route: Route, one: Directive) -> None:
    """Translate `return`."""
    code, text = (one.first, one.args[1] if len(one.args) > 1 else "")
    if not _STATUS.fullmatch(code):
        code, text = "302", code
    if code in _REDIRECTS and text:
        redirect(route, one.at, text, int(code))
    elif code == _DROPPED:
        route.put("respond", {"status": 400})
        route.differs(one.at, "400, where nginx closes the connection without an answer")
    elif "$" in text:
        route.close(one.at, f"an answer with variables: {text}", "write respond")
    elif code in ("304", *_REDIRECTS):
        route.close(one.at, f"an answer {code} without a place", "write redirect")
    else:
        keys: dict[str, Any] = {"status": int(code)}
        if text:
            keys["body"] = text
        route.set("respond", keys, one.at, "" if text else "without nginx's page", protects=True)


def redirect(route: Route, at: At, text: str, status: int) -> None:
    """Write a redirect; what its variables mean must be plain."""
    to = text
    hosts = route.keys.get("hosts") or []
    if to.startswith("$scheme://"):
        rest = to.removeprefix("$scheme://")
        name = rest.partition("/")[0].partition("$request_uri")[0]
        # To the client's own scheme and host: a path is enough.
        to = rest[len(name) :] if _HOST.fullmatch(name) else ""
        if not to:
            route.close(
                at, f"a redirect to {text}: its scheme is the client's", "write redirect.to"
            )
            return
    if _HOST.search(to) and len(hosts) == 1 and "*" not in hosts[0]:
        to = _HOST.sub(hosts[0], to)
    path = "" if route.keys["path"] == "/" else str(route.keys["path"])
    below = "" if route.keys.get("exact") else "/{rest}"
    for end, ours in (
        ("$request_uri", f"{path}{below}{{query}}"),
        ("$uri$is_args$args", f"{path}{below}{{query}}"),
        ("$is_args$args", "{query}"),
        ("$uri", f"{path}{below}"),
    ):
        if to.endswith(end):
            to = to.removesuffix(end) + (ours or "/")
            break
    if "$" in to:
        route.close(at, f"a redirect to {text}", "write redirect.to")
        return
    route.set("redirect", {"to": to, "status": status}, at, protects=True)
