"""Who may come, and how often: allow and deny, auth_basic, auth_request, limit_req, limit_conn."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from propylon.commands.imports.networks import network
from propylon.commands.imports.nginx.scope import Scope
from propylon.commands.imports.nginx.syntax import Directive
from propylon.commands.imports.nginx.variables import hash_key
from propylon.commands.imports.parts import Route
from propylon.commands.imports.rates import rate

__all__ = ["Guards"]

_RATE = re.compile(r"(?P<number>\d+)r/(?P<unit>[sm])")
_FROM_ANSWER = re.compile(r"\$upstream_http_(?P<name>\w+)")


class Guards:
    """What protects routes."""

    def __init__(self, zones: list[Directive], question: Callable[[Scope, str], str]) -> None:
        """Keep the zones of limits, and what finds the URL that auth_request asks."""
        self._zones = {one.option("zone").partition(":")[0]: one for one in zones}
        self._question = question

    def apply(self, route: Route, scope: Scope) -> None:
        """Write all of them."""
        satisfy = scope.last("satisfy")
        if satisfy and satisfy.first == "any":
            route.close(satisfy.at, "one of several conditions is enough", "decide which")
        _addresses(route, scope)
        _passwords(route, scope)
        self._asked(route, scope)
        self._limits(route, scope)

    def _asked(self, route: Route, scope: Scope) -> None:
        asks = scope.last("auth_request")
        sets = scope.all("auth_request_set")
        if asks is None or asks.first == "off":
            return
        url = self._question(scope, asks.first)
        if not url:
            route.close(
                asks.at, f"what answers at {asks.first} is not plain", "write forward_auth.url"
            )
            return
        known = {}
        for one in sets:
            if len(one.args) > 1 and (found := _FROM_ANSWER.fullmatch(one.args[1])):
                known[one.first] = found["name"].replace("_", "-")
        headers: list[str] = []
        lost: list[str] = []
        for one in scope.all("proxy_set_header"):
            if len(one.args) > 1 and one.args[1] in known:
                same = known[one.args[1]].lower() == one.first.lower()
                (headers if same else lost).append(one.first)
        keys: dict[str, Any] = {"url": url}
        if headers:
            keys["headers"] = headers
        said = (
            "asked with Cookie and Authorization only, name others in request_headers; other statuses than 2xx, 401"
            " and 403 reach the client as they are"
        )
        route.set("forward_auth", keys, asks.at, said, protects=True)
        for name in lost:
            route.close(asks.at, f"{name} comes from a header of another name", "write headers")

    def _limits(self, route: Route, scope: Scope) -> None:
        limits: list[dict[str, Any]] = []
        at, said = None, ["429 in place of 503", "nothing is delayed: see burst"]
        for one in scope.all("limit_req"):
            at = one.at
            limits += self._limit(route, one, said)
        for one in scope.all("limit_conn"):
            at = at or one.at
            key = self._key(one.first)
            if not key or not one.args[-1].isdecimal():
                route.close(one.at, "it counts by something else", "write rate_limit")
                continue
            said.append("in_flight counts in each worker")
            limits.append({"name": f"{one.first}-conn", "in_flight": int(one.args[-1]), "key": key})
        if limits and at:
            shown = limits[0] if len(limits) == 1 else limits
            route.set("rate_limit", shown, at, "; ".join(dict.fromkeys(said)), protects=True)

    def _limit(self, route: Route, one: Directive, said: list[str]) -> list[dict[str, Any]]:
        zone = one.option("zone")
        defined = self._zones.get(zone)
        found = _RATE.fullmatch(defined.option("rate")) if defined else None
        key = self._key(zone)
        text = ""
        if found:
            text, _ = rate(int(found["number"]), 1 if found["unit"] == "s" else 60)
        if not text or not key:
            route.close(one.at, f"the zone {zone} counts by something else", "write rate_limit")
            return []
        burst = one.option("burst", "0")
        said.append("each route counts for itself")
        return [
            {
                "name": zone,
                "rate": text,
                "burst": int(burst) + 1 if burst.isdecimal() else 1,
                "key": key,
            }
        ]

    def _key(self, zone: str) -> str:
        defined = self._zones.get(zone)
        if defined is None:
            return ""
        if defined.first in ("$server_name", "$host", "$http_host"):
            return "route"
        key = hash_key(defined.first)
        return key if key == "ip" or key.startswith("header:") else ""


def _addresses(route: Route, scope: Scope) -> None:
    """Translate allow and deny: the first rule that fits decides there, and `deny` goes first here."""
    rules = scope.all("allow", "deny")
    if not rules:
        return
    allow: list[str] = []
    deny: list[str] = []
    for one in rules:
        if one.first == "all":
            break
        (allow if one.name == "allow" else deny).append(network(one.first))
    closed = any(one.name == "deny" and one.first == "all" for one in rules)
    said = ""
    names = [one.name for one in rules if one.first != "all"]
    if "allow" in names and "deny" in names[names.index("allow") :]:
        said = "deny counts first, so a network that an earlier line allows is denied, too"
    if "unix:" in [*allow, *deny]:
        route.close(rules[0].at, "clients on Unix sockets", "write clients")
        return
    if not closed:
        allow = []
    if closed and not allow:
        route.put("clients", {"deny": ["0.0.0.0/0", "::/0"]})
        route.same(rules[0].at, f"routes: {route.name}: clients")
    elif allow or deny:
        keys = {key: value for key, value in (("allow", allow), ("deny", deny)) if value}
        route.set("clients", keys, rules[0].at, said, protects=True)


def _passwords(route: Route, scope: Scope) -> None:
    realm, file = scope.last("auth_basic"), scope.last("auth_basic_user_file")
    if realm is None or realm.first == "off":
        return
    if file is None or "$" in file.first:
        route.close(realm.at, "its file is not named", "write basic_auth")
        return
    keys: dict[str, Any] = {"file": file.first, "forward": True}
    if realm.first and "$" not in realm.first:
        keys["realm"] = realm.first
    route.set(
        "basic_auth",
        keys,
        file.at,
        "the hashes in the file must be bcrypt or argon2",
        protects=True,
    )
