"""Services: where they are, and how long Kong waits for them."""

from __future__ import annotations

from functools import reduce
from math import gcd
from typing import Any

from propylon.commands.imports.checks import Defaults, read_checks
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.kong.names import IGNORED, milliseconds, name_of, text_of
from propylon.commands.imports.parts import Part, Variable
from propylon.commands.imports.tree import Item

__all__ = ["Services", "base_path", "key_of"]

_PORTS = {"http": 80, "https": 443}
_TARGET_PORT = 8000  # Kong's, for a target without a port
_HASHES = {"consumer": "caller", "ip": "ip"}


def key_of(service: Item) -> str:
    """Return the name under which routes and plugins know a service."""
    return service.get("name").text() or service.get("id").text() or service.get("host").text()


def base_path(service: Item) -> str:
    """Return the path that is put in front of what a service gets; empty if there is none."""
    url = text_of(service.get("url"))
    return "" if isinstance(url, Variable) else _parts(service, url)[3]


class Services:
    """The services of a file. One whose routes differ in preserve_host becomes two."""

    def __init__(self, draft: Draft, upstreams: list[Item], targets: list[Item]) -> None:
        """Keep the upstreams, and the targets that stand outside of them."""
        self._draft = draft
        self._upstreams = {upstream.get("name").text(): upstream for upstream in upstreams}
        self._targets = targets
        self._used: set[str] = set()

    def of(self, service: Item, *, client_host: bool) -> str:
        """Return the name of the service, with the Host of the client or its own; it is written the first time."""
        plain = Draft.service_name(key_of(service))
        name = plain
        if plain in self._draft.services:
            theirs = self._draft.services[plain].keys.get("host") == "client"
            if theirs == client_host:
                return plain
            name = f"{plain}-{'client' if client_host else 'own'}-host"
            if name in self._draft.services:
                return name
        part = self._draft.service(name, service.at)
        self._where(service, part)
        self._times(service, part)
        _tls(service, part)
        if client_host:
            part.put("host", "client")
        service.ignore(*IGNORED, "routes", "plugins", "enabled")
        self._draft.leftovers(service)
        return name

    def report_unused(self) -> None:
        """Say which upstreams no service uses."""
        for name, upstream in self._upstreams.items():
            if name not in self._used:
                self._draft.differs(upstream.at, "left out: no service uses it")

    def _where(self, service: Item, part: Part) -> None:
        url = text_of(service.get("url"))
        if isinstance(url, Variable):
            part.set("url", url, service.get("url").at, "set the variable before the start")
            return
        scheme, host, port, path = _parts(service, url)
        at = service.get("url" if url else "host").at
        if scheme not in _PORTS:
            part.lost(at, f"the protocol {scheme}: propylon speaks HTTP/1.1 to services")
            return
        upstream = self._upstreams.get(host)
        if upstream is None:
            part.set("url", _url(scheme, host, port, path), at)
            return
        self._used.add(host)
        self._balance(upstream, part)
        self._instances(upstream, part, scheme, path)

    def _instances(self, upstream: Item, part: Part, scheme: str, path: str) -> None:
        name = upstream.get("name").text()
        own = [one for one in self._targets if name_of(one.get("upstream")) == name]
        weighed = [
            (one, int(one.get("weight").number(100)))
            for one in (*upstream.get("targets").each(), *own)
        ]
        used = [(one, weight) for one, weight in weighed if weight > 0]
        for one, weight in weighed:
            one.ignore(*IGNORED)
            one.get("upstream")
            if weight <= 0:
                part.differs(one.at, "left out: its weight is 0, so Kong sends it nothing")
        if not used:
            part.lost(upstream.at, "it has no target with a weight, so the service has no instance")
            return
        divisor = reduce(gcd, (weight for _, weight in used))
        instances: list[Any] = [
            {"url": self._target(one, scheme, path), "weight": weight // divisor}
            for one, weight in used
        ]
        if all(one["weight"] == 1 for one in instances):
            instances = [one["url"] for one in instances]
        part.set("instances", instances, upstream.get("targets").at)
        for one, _ in used:
            self._draft.leftovers(one)

    def _target(self, target: Item, scheme: str, path: str) -> str:
        text = text_of(target.get("target"))
        _, colon, port = text.rpartition(":")
        bare = not colon or not (port.isdigit() or "$" in text) or text.endswith("]")
        host = text if bare else text.rpartition(":")[0]
        url = _url(scheme, host, _TARGET_PORT if bare else int(port) if port.isdigit() else 0, path)
        return Variable(f"{scheme}://{text}{path}") if isinstance(text, Variable) else url

    def _balance(self, upstream: Item, part: Part) -> None:
        algorithm = upstream.get("algorithm").text("round-robin")
        on = upstream.get("hash_on").text("none")
        if algorithm == "consistent-hashing" or on != "none":
            _hash(upstream, part, on)
        elif algorithm == "least-connections":
            part.set("balance", "least_connections", upstream.get("algorithm").at)
        elif algorithm == "latency":
            part.set(
                "balance",
                "least_connections",
                upstream.get("algorithm").at,
                "by open requests, where Kong measures latency",
            )
        elif upstream.get("algorithm"):
            part.same(upstream.get("algorithm").at, "services: balance: round_robin, the default")
        if upstream.get("host_header"):
            part.set("host", text_of(upstream.get("host_header")), upstream.get("host_header").at)
        read_checks(upstream.get("healthchecks"), part, Defaults())
        upstream.ignore(*IGNORED, "name", "targets", "slots", "hash_on_cookie_path")
        self._draft.leftovers(upstream)

    def _times(self, service: Item, part: Part) -> None:
        read = service.get("read_timeout")
        attempts = int(service.get("retries").number(5)) + 1
        part.put("timeouts.connect", milliseconds(service.get("connect_timeout")))
        part.put("timeouts.first_byte", milliseconds(read))
        part.put("timeouts.idle", milliseconds(read))
        # Kong has no bound for all attempts together: this is none that could end them sooner.
        every = (service.get("connect_timeout").number(60_000) + read.number(60_000)) * attempts
        part.put("timeouts.total", f"{every / 1000 + 60:.0f}s")
        for name, key in (("connect_timeout", "connect"), ("read_timeout", "first_byte, idle")):
            if service.get(name):
                part.same(service.get(name).at, f"services.{part.name}.timeouts: {key}")
        if (write := service.get("write_timeout")) and write.number() != read.number(60_000):
            part.differs(write.at, "timeouts.idle counts for both directions, by read_timeout")
        elif write:
            part.same(write.at, f"services.{part.name}.timeouts.idle")
        part.put("retry.attempts", attempts)
        if service.get("retries"):
            part.set(
                "retry.attempts",
                attempts,
                service.get("retries").at,
                "attempts count the first one, too; a service that fails is asked less often (retry.budget)",
            )


def _parts(service: Item, url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path of a service."""
    if not url:
        scheme = service.get("protocol").text("http")
        port = int(service.get("port").number(80))
        return scheme, text_of(service.get("host")), port, service.get("path").text().rstrip("/")
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, colon, port_text = authority.rpartition(":")
    if not colon or not port_text.isdigit():
        host, port_text = authority, ""
    return scheme, host, int(port_text or _PORTS.get(scheme, 80)), (slash + path).rstrip("/")


def _url(scheme: str, host: str, port: int, path: str) -> str:
    at = "" if port == _PORTS[scheme] else f":{port}"
    url = f"{scheme}://{host}{at}{path}"
    return Variable(url) if isinstance(host, Variable) else url


def _hash(upstream: Item, part: Part, on: str) -> None:
    names = {
        "header": ("hash_on_header", "header"),
        "cookie": ("hash_on_cookie", "cookie"),
        "query_arg": ("hash_on_query_arg", "query"),
        "uri_capture": ("hash_on_uri_capture", "path"),
    }
    at = upstream.get("hash_on").at
    if on in names:
        key, kind = names[on]
        target = f"{kind}:{upstream.get(key).text()}"
    elif on in _HASHES:
        target = _HASHES[on]
    else:
        part.lost(at, f"hash_on {on}: requests are spread evenly")
        return
    part.set(
        "balance",
        {"hash": target},
        at,
        "another hash function; without the key, the client's address counts",
    )
    upstream.ignore(
        "hash_fallback", "hash_fallback_header", "hash_fallback_query_arg", "hash_on_cookie_path"
    )


def _tls(service: Item, part: Part) -> None:
    https = any(str(url).startswith("https:") for url in _urls(part))
    if https and not service.get("tls_verify").flag():
        part.differs(
            service.at,
            "Kong does not verify the service's certificate unless tls_verify says so; propylon does, with"
            " the authorities of the system or of services.X.tls.ca",
        )
    elif service.get("tls_verify"):
        part.same(service.get("tls_verify").at, "services: tls.verify, the default")
    for name, todo in (
        ("client_certificate", "write tls.certificate and tls.key"),
        ("ca_certificates", "write tls.ca"),
    ):
        if service.get(name):
            part.lost(service.get(name).at, "certificates are files for propylon", todo)
    service.get("tls_verify_depth")


def _urls(part: Part) -> list[str]:
    instances = part.keys.get("instances", [])
    many = [one["url"] if isinstance(one, dict) else one for one in instances]
    return [*many, *([part.keys["url"]] if "url" in part.keys else [])]
