"""Upstreams and single servers: a service for each, and for each way in which locations use it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.nginx.scope import Scope
from propylon.commands.imports.nginx.syntax import Directive
from propylon.commands.imports.nginx.variables import hash_key, template
from propylon.commands.imports.parts import Part, Route
from propylon.commands.imports.rates import duration, seconds_of
from propylon.commands.imports.report import At

__all__ = ["Upstreams", "address", "header_values"]

_KNOWN = frozenset(
    [
        "server",
        "zone",
        "keepalive",
        "keepalive_timeout",
        "keepalive_requests",
        "keepalive_time",
        "resolver",
        "least_conn",
        "ip_hash",
        "hash",
        "random",
        "sticky",
    ]
)
_RETRIES = {"error": ["connect-failure", "reset"], "timeout": ["timeout"]}
_CLIENT_HOST = frozenset({"$host", "$http_host", "$host:$server_port", "$server_name"})
_OWN = frozenset(
    {
        "host",
        "upgrade",
        "accept-encoding",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-request-id",
        "x-scheme",
        "x-forwarded-scheme",
    }
)
_BY_NAME = re.compile(r"http_(?P<status>5\d\d)")


def address(scheme: str, text: str) -> str:
    """Return the URL of a server as nginx writes it: `unix:/run/app.sock`, `127.0.0.1:8000`, `app`."""
    return text.rstrip(":") if text.startswith("unix:") else f"{scheme}://{text}"


@dataclass(slots=True)
class Upstreams:
    """The blocks `upstream`, and the services that were made of them."""

    draft: Draft
    blocks: dict[str, Directive]
    made: dict[str, Part] = field(default_factory=dict)

    def connect(self, route: Route, scheme: str, target: str, scope: Scope, at: At) -> None:
        """Send a route to `upstream` or to a single server."""
        route.put("service", self.service(scheme, target, scope, at).name)

    def service(self, scheme: str, target: str, scope: Scope, at: At) -> Part:
        """Return the service for a target, as a location uses it."""
        wanted = _usage(scheme, target, scope, known=target in self.blocks)
        key = f"{scheme} {target} {wanted!r}"
        if key not in self.made:
            self.made[key] = self._new(scheme, target, at)
            self._used(self.made[key], scheme, scope, wanted)
        return self.made[key]

    def _new(self, scheme: str, target: str, at: At) -> Part:
        block = self.blocks.get(target)
        plain = "app" if target.startswith("unix:") else target.partition(":")[0]
        name = wanted = Draft.service_name(plain)
        number = 1
        while name in self.draft.services:
            number += 1
            name = f"{wanted}-{number}"
        part = self.draft.service(name, block.at if block else at)
        if block is None:
            part.set("url", address(scheme, target), at)
        else:
            _servers(part, block, scheme)
            _balance(part, block)
        return part

    @staticmethod
    def _used(part: Part, scheme: str, scope: Scope, wanted: dict[str, Any]) -> None:
        """Write what the location says of the way to the service."""
        at = part.at
        for key, (value, directive) in wanted.items():
            part.set(key, value, directive.at if directive else at)
        if scheme == "https" and scope.text("proxy_ssl_verify", "off") == "off":
            part.differs(
                at, "propylon verifies the certificate; services.X.tls.ca names who signs it"
            )
        for name in ("proxy_read_timeout", "proxy_connect_timeout"):
            if scope.last(name) is None:
                part.report_only(
                    at,
                    "nginx waits 60 s to connect and between two reads, where nothing is written",
                )


def _usage(scheme: str, target: str, scope: Scope, *, known: bool) -> dict[str, Any]:
    """Return the keys of the service that the location decides, each with its directive."""
    keys: dict[str, Any] = {}
    keys |= _host(target, scope, known=known)
    for name, ours in (
        ("proxy_connect_timeout", "connect"),
        ("proxy_read_timeout", "first_byte"),
        ("proxy_next_upstream_timeout", "total"),
    ):
        found = scope.last(name)
        if found and (seconds := seconds_of(found.first)):
            keys[f"timeouts.{ours}"] = (duration(seconds), found)
            if ours == "first_byte":
                keys["timeouts.idle"] = (duration(seconds), found)
                keys.setdefault("timeouts.total", (duration(max(60, seconds * 2)), found))
    keys |= _retries(scope)
    if scheme == "https":
        keys |= _tls(scope)
    redirect = scope.last("proxy_redirect")
    if redirect and redirect.first == "off":
        keys["redirects"] = ("pass", redirect)
    return keys


def _host(target: str, scope: Scope, *, known: bool) -> dict[str, Any]:
    """Return the Host that nginx sends: what proxy_pass names, unless a header is set."""
    hosts = [one for one in scope.all("proxy_set_header") if one.first.lower() == "host"]
    value = hosts[-1].args[-1] if hosts else "$proxy_host"
    if value != "$proxy_host":
        return {"host": ("client" if value in _CLIENT_HOST else value, hosts[-1])}
    return {"host": (target, None)} if known else {}


def _tls(scope: Scope) -> dict[str, Any]:
    scope.all("proxy_ssl_server_name", "proxy_ssl_verify_depth")
    return {
        f"tls.{ours}": (found.first, found)
        for theirs, ours in (
            ("proxy_ssl_name", "server_name"),
            ("proxy_ssl_trusted_certificate", "ca"),
            ("proxy_ssl_certificate", "certificate"),
            ("proxy_ssl_certificate_key", "key"),
        )
        if (found := scope.last(theirs))
    }


def _retries(scope: Scope) -> dict[str, Any]:
    found = scope.last("proxy_next_upstream")
    tries = scope.last("proxy_next_upstream_tries")
    keys: dict[str, Any] = {}
    if tries and tries.first.isdecimal() and int(tries.first):
        keys["retry.attempts"] = (int(tries.first), tries)
    if found is None:
        return keys
    if found.args == ("off",):
        return {"retry.attempts": (1, found)}
    on: list[Any] = [kind for word in found.args for kind in _RETRIES.get(word, ())]
    on += [int(match["status"]) for word in found.args if (match := _BY_NAME.fullmatch(word))]
    if on:
        keys["retry.on"] = (on, found)
    if "non_idempotent" in found.args:
        keys["retry.non_idempotent"] = (True, found)
    return keys


def _servers(part: Part, block: Directive, scheme: str) -> None:
    servers = [one for one in block.block if one.name == "server"]
    instances: list[Any] = []
    for one in servers:
        if "down" in one.args:
            part.differs(one.at, f"{one.first} is down, and left out")
            continue
        keys: dict[str, Any] = {"url": address(scheme, one.first)}
        weight = one.option("weight", "1")
        if weight.isdecimal() and weight != "1":
            keys["weight"] = int(weight)
        if "backup" in one.args:
            keys["priority"] = -1
        instances.append(keys if len(keys) > 1 else keys["url"])
    if len(instances) == 1 and isinstance(instances[0], str):
        part.set("url", instances[0], servers[0].at)
    elif instances:
        part.set("instances", instances, block.at)
    else:
        part.lost(block.at, "no server that is up", "write url")
    _limits(part, servers)


def _limits(part: Part, servers: list[Directive]) -> None:
    """Write what nginx learns from traffic, and the most connections."""
    most = {text for one in servers if (text := one.option("max_conns")).isdecimal()}
    if most:
        number = min(int(text) for text in most)
        said = "requests in hand, for each worker; those beyond wait for a second"
        if len(most) > 1 or any(not one.option("max_conns") for one in servers):
            said += "; the lowest number counts for all instances"
        part.set("max_in_flight", number, servers[0].at, said)
    fails = {one.option("max_fails", "1") for one in servers}
    if fails == {"0"}:
        part.set("ejection.max", "0%", servers[0].at)
    elif any(one.option("max_fails") for one in servers):
        number = min([int(text) for text in fails if text.isdecimal() and text != "0"] or [1])
        part.set("ejection.failures", number, servers[0].at, "failures in a row count")
        if (seconds := seconds_of(servers[0].option("fail_timeout", "10s"))) is not None:
            part.set("ejection.time", duration(seconds), servers[0].at)
    for one in servers:
        if "resolve" in one.args:
            part.differs(one.at, "names are asked for again by propylon in any case")


def _balance(part: Part, block: Directive) -> None:
    for one in block.block:
        if one.name == "least_conn":
            part.set("balance", "least_connections", one.at)
        elif one.name == "random":
            part.set("balance", "random", one.at)
        elif one.name == "ip_hash":
            said = "by the whole address, in nginx by its first three numbers"
            part.set("balance", {"hash": "ip"}, one.at, said)
        elif one.name == "hash" and (key := hash_key(one.first)):
            part.set("balance", {"hash": key}, one.at, "another hash function")
        elif one.name not in _KNOWN or one.name in ("hash", "sticky"):
            part.lost(one.at, f"{one.name} of an upstream", "look at services.X.balance")


def header_values(route: Route, scope: Scope) -> None:
    """Translate proxy_set_header, but for what propylon sends by itself."""
    made: dict[str, str] = {}
    gone: list[str] = []
    directives = scope.all("proxy_set_header")
    # What auth_request sets comes with its own key.
    asked = (
        {one.first for one in scope.all("auth_request_set")}
        if scope.last("auth_request")
        else set()
    )
    for one in directives:
        if one.args[-1] in asked:
            continue
        name, value = one.first, one.args[-1] if len(one.args) > 1 else ""
        lower = name.lower()
        if lower in _OWN or (lower == "connection" and "close" not in value):
            route.same(one.at, "propylon's own way")
        elif not value:
            gone.append(name)
        elif (ours := template(value)) is None:
            route.close(
                one.at, f"{name} gets {value}, a variable of nginx", "write headers.request.set"
            )
        else:
            made[name] = ours
    if made:
        route.set("headers.request.set", made, directives[0].at, protects=True)
    if gone:
        route.set("headers.request.remove", gone, directives[0].at, protects=True)
