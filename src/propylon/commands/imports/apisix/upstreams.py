"""Upstreams: their nodes, checks and balancing."""

from __future__ import annotations

from functools import reduce
from math import gcd
from typing import Any

from propylon.commands.imports.checks import Defaults, read_checks
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.known import refusal
from propylon.commands.imports.parts import Part
from propylon.commands.imports.rates import duration
from propylon.commands.imports.tree import Item

__all__ = ["IGNORED", "Upstreams"]

IGNORED = ("id", "name", "desc", "labels", "create_time", "update_time")
_SCHEMES = {"http": 80, "https": 443}
_CHECKS = Defaults(interval=1, successes=2, active=(5, 2, 3), passive=(5, 2, 7))
_VARS = {"remote_addr": "ip", "consumer_name": "caller"}
_PREFIXES = {"arg_": "query", "http_": "header", "cookie_": "cookie"}


class Upstreams:
    """The upstreams of a file, by id; those that stand inside routes have none."""

    def __init__(self, draft: Draft, document: Item) -> None:
        """Keep them."""
        self._draft = draft
        self._by_id = {one.get("id").text(): one for one in document.get("upstreams").each()}
        self._names: dict[tuple[object, ...], str] = {}

    def named(self, upstream_id: str) -> Item | None:
        """Return the upstream with an id."""
        return self._by_id.get(upstream_id)

    def service(self, upstream: Item, fallback: str) -> Part:
        """Return the service for an upstream; it is written the first time."""
        if upstream.path not in self._names:
            name = upstream.get("name").text() or fallback
            if upstream.get("id"):
                name = upstream.get("name").text() or f"upstream-{upstream.get('id').text()}"
            while Draft.service_name(name) in self._draft.services:
                name = f"{name}-2"
            part = self._draft.service(name, upstream.at)
            self._names[upstream.path] = part.name
            self._write(upstream, part)
        return self._draft.services[self._names[upstream.path]]

    def report_unused(self) -> None:
        """Say which upstreams nobody uses."""
        for upstream in self._by_id.values():
            if upstream.path not in self._names:
                self._draft.differs(upstream.at, "left out: nothing uses it")

    def _write(self, upstream: Item, part: Part) -> None:
        scheme = upstream.get("scheme").text("http")
        if scheme not in _SCHEMES:
            part.lost(
                upstream.get("scheme").at,
                f"the protocol {scheme}: propylon speaks HTTP/1.1 to services",
            )
            scheme = "http"
        if upstream.get("discovery_type"):
            part.lost(
                upstream.get("discovery_type").at,
                "discovery by a registry",
                "write url: srv+http://…, or let instances register",
            )
            upstream.ignore("service_name", "discovery_args")
        self._nodes(upstream, part, scheme)
        _host(upstream, part)
        _balance(upstream, part)
        _times(upstream, part)
        read_checks(upstream.get("checks"), part, _CHECKS)
        if upstream.get("tls"):
            part.lost(
                upstream.get("tls").at,
                "certificates are files for propylon",
                "write tls.certificate and tls.key",
            )
            upstream.get("tls").ignore(*(key for key, _ in upstream.get("tls").items()))
        upstream.ignore(*IGNORED, "keepalive_pool", "retry_timeout")
        if scheme == "https":
            part.differs(upstream.at, "propylon verifies the service's certificate")
        self._draft.leftovers(upstream)

    def _nodes(self, upstream: Item, part: Part, scheme: str) -> None:
        nodes = upstream.get("nodes")
        found: list[tuple[Item, dict[str, Any]]] = []
        if isinstance(nodes.value, dict):
            for address, weight in nodes.items():
                found.append(
                    (weight, {"url": _url(scheme, address), "weight": int(weight.number(1))})
                )
        else:
            found = [(node, _node(node, scheme)) for node in nodes.each()]
        used = [one for _, one in found if one["weight"] > 0]
        for item, one in found:
            if one["weight"] <= 0:
                part.differs(item.at, "left out: its weight is 0")
        if not used:
            part.lost(upstream.at, "there is no node with a weight, so the service has no instance")
            return
        divisor = reduce(gcd, (one["weight"] for one in used))
        for one in used:
            one["weight"] //= divisor
        used = self._first_only(used, nodes, part)
        plain = all(one["weight"] == 1 and "priority" not in one for one in used)
        if plain and len(used) == 1:
            part.set("url", used[0]["url"], nodes.at)
        else:
            part.set("instances", [one["url"] for one in used] if plain else used, nodes.at)

    @staticmethod
    def _first_only(used: list[dict[str, Any]], nodes: Item, part: Part) -> list[dict[str, Any]]:
        """Return the nodes without those of a lower priority, if this version knows no priorities."""
        why = refusal("service", "instances", used)
        if not why or not any("priority" in one for one in used):
            return used
        part.lost(nodes.at, f"{why}; the nodes that wait for others to fail are left out")
        top = max(one.get("priority", 0) for one in used)
        first = [one for one in used if one.get("priority", 0) == top]
        return [{key: value for key, value in one.items() if key != "priority"} for one in first]


def _url(scheme: str, address: str, port: int = 0) -> str:
    host, colon, written = address.rpartition(":")
    if colon and written.isdigit() and not address.endswith("]"):
        address, port = host, int(written)
    at = "" if port in (0, _SCHEMES[scheme]) else f":{port}"
    return f"{scheme}://{address}{at}"


def _node(node: Item, scheme: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "url": _url(scheme, node.get("host").text(), int(node.get("port").number())),
        "weight": int(node.get("weight").number(1)),
    }
    if priority := int(node.get("priority").number()):
        made["priority"] = priority
    node.get("metadata")
    return made


def _host(upstream: Item, part: Part) -> None:
    how = upstream.get("pass_host").text("pass")
    at = upstream.get("pass_host").at
    match how:
        case "node":
            part.same(at, f"services.{part.name}.host: upstream, the default")
        case "rewrite":
            part.set("host", upstream.get("upstream_host").text(), upstream.get("upstream_host").at)
        case _:
            part.put("host", "client")
            part.same(at, f"services.{part.name}.host: client")
    upstream.get("upstream_host")


def _balance(upstream: Item, part: Part) -> None:
    kind = upstream.get("type").text("roundrobin")
    at = upstream.get("type").at
    match kind:
        case "roundrobin":
            part.same(at, "services: balance: round_robin, the default")
        case "least_conn":
            part.set("balance", "least_connections", at)
        case "ewma":
            part.set(
                "balance",
                "least_connections",
                at,
                "by open requests, where APISIX measures latency",
            )
        case _:
            _hash(upstream, part)
    upstream.ignore("hash_on", "key")


def _hash(upstream: Item, part: Part) -> None:
    on, key = upstream.get("hash_on").text("vars"), upstream.get("key").text()
    target = ""
    if on in ("header", "cookie"):
        target = f"{on}:{key.removeprefix('http_').removeprefix('cookie_')}"
    elif on == "consumer":
        target = "caller"
    elif on == "vars":
        target = _VARS.get(key, "")
        for prefix, kind in _PREFIXES.items():
            if key.startswith(prefix):
                name = key.removeprefix(prefix)
                target = f"{kind}:{name.replace('_', '-') if kind == 'header' else name}"
    if not target:
        part.lost(upstream.get("type").at, f"hashing by {on} {key}: requests are spread evenly")
        return
    part.set(
        "balance",
        {"hash": target},
        upstream.get("type").at,
        "another hash function; without the key, the client's address counts",
    )


def _times(upstream: Item, part: Part) -> None:
    timeout = upstream.get("timeout")
    connect, read = timeout.get("connect").number(60), timeout.get("read").number(60)
    part.put("timeouts.connect", duration(connect))
    part.put("timeouts.first_byte", duration(read))
    part.put("timeouts.idle", duration(max(read, timeout.get("send").number(60))))
    instances = part.keys.get("instances", [1])
    attempts = int(upstream.get("retries").number(len(instances) - 1)) + 1
    part.put("timeouts.total", f"{(connect + read) * attempts + 60:.0f}s")
    if timeout:
        part.same(timeout.at, f"services.{part.name}.timeouts")
    part.put("retry.attempts", attempts)
    if upstream.get("retries").value is not None:
        part.set(
            "retry.attempts",
            attempts,
            upstream.get("retries").at,
            "attempts count the first one, too; a service that fails is asked less often (retry.budget)",
        )
