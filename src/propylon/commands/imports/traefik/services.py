"""Services: servers, and those that are put together from others."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Part, Route
from propylon.commands.imports.tree import Item, named

__all__ = ["Services", "bare"]

_DEEPEST = 10


def bare(name: str) -> str:
    """Return a name without its provider: `auth@docker` is `auth`."""
    return name.partition("@")[0]


class Services:
    """The services of the files."""

    def __init__(
        self, draft: Draft, services: dict[str, Item], transports: dict[str, Item]
    ) -> None:
        """Keep them."""
        self._draft, self._services, self._transports = draft, services, transports

    def connect(self, route: Route, reference: Item, name: str, depth: int = 0) -> None:
        """Send a route to a service, whatever it is made of."""
        service = self._services.get(bare(name))
        if service is None or depth > _DEEPEST:
            route.close(
                reference.at,
                f"the service {name} is not in these files",
                "write it, or name the file that has it",
            )
            return
        weighted, mirroring, failover = (
            named(service, key) for key in ("weighted", "mirroring", "failover")
        )
        if weighted:
            self._weighted(route, weighted)
        elif mirroring:
            self.connect(route, mirroring, named(mirroring, "service").text(), depth + 1)
            self._mirror(route, mirroring)
        elif failover:
            self.connect(route, failover, named(failover, "service").text(), depth + 1)
            self._failover(route, failover)
        else:
            route.put("service", self._balancer(bare(name), service).name)

    def _weighted(self, route: Route, weighted: Item) -> None:
        shares = []
        for one in named(weighted, "services").each():
            name = self._plain(named(one, "name").text())
            if not name:
                route.close(
                    one.at,
                    "a share of the requests is for a service that is made of others",
                    "write split",
                )
                return
            if weight := int(named(one, "weight").number(1)):
                shares.append({"service": name, "weight": weight})
        if not route.set("split", shares, weighted.at):
            route.close(
                weighted.at, "a share of the requests is for another service", "write split"
            )
        elif cookie := named(named(named(weighted, "sticky"), "cookie"), "name").text():
            route.set(
                "sticky", {"cookie": cookie}, named(weighted, "sticky").at, "the cookie is signed"
            )
        weighted.ignore("healthCheck", "sticky")
        self._draft.leftovers(weighted)

    def _mirror(self, route: Route, mirroring: Item) -> None:
        mirrors = named(mirroring, "mirrors").each()
        for number, one in enumerate(mirrors):
            name = self._plain(named(one, "name").text())
            keys: dict[str, Any] = {
                "service": name,
                "share": f"{named(one, 'percent').number(0):g}%",
            }
            if (most := named(mirroring, "maxBodySize")).number(-1) > 0:
                keys["max_body"] = int(most.number())
            if number or not name:
                route.lost(one.at, "a second mirror, or one that is made of others")
            else:
                route.set("mirror", keys, one.at)
        mirroring.ignore("mirrorBody", "healthCheck")
        self._draft.leftovers(mirroring)

    def _failover(self, route: Route, failover: Item) -> None:
        fallback = named(failover, "fallback")
        name = self._plain(fallback.text())
        if name:
            route.set(
                "fallback",
                {"service": name},
                fallback.at,
                "when a request fails, and not by health checks alone",
            )
        else:
            route.lost(fallback.at, "a fallback that is made of other services")
        failover.ignore("healthCheck", "errors")
        self._draft.leftovers(failover)

    def _plain(self, name: str) -> str:
        """Return the service of a name that has servers; empty if there is none."""
        service = self._services.get(bare(name))
        if service is None or not named(service, "loadBalancer"):
            return ""
        return self._balancer(bare(name), service).name

    def _balancer(self, name: str, service: Item) -> Part:
        known = Draft.service_name(name) in self._draft.services
        part = self._draft.service(name, service.at)
        if known:
            return part
        balancer = named(service, "loadBalancer")
        self._servers(balancer, part)
        if named(balancer, "passHostHeader").flag(default=True):
            part.put("host", "client")
        if named(balancer, "passHostHeader").value is not None:
            part.same(named(balancer, "passHostHeader").at, f"services.{part.name}.host")
        _strategy(balancer, part)
        _health(named(balancer, "healthCheck"), part)
        if cookie := named(named(named(balancer, "sticky"), "cookie"), "name").text():
            part.set(
                "sticky", {"cookie": cookie}, named(balancer, "sticky").at, "the cookie is signed"
            )
        elif "sticky" in balancer.names():
            part.set(
                "sticky",
                {"cookie": f"_{part.name}"},
                named(balancer, "sticky").at,
                "the cookie is signed",
            )
        if transport := named(balancer, "serversTransport").text():
            self._transport(bare(transport), balancer, part)
        if passive := named(balancer, "passiveHealthCheck"):
            failures = int(named(passive, "maxFailedAttempts").number(1))
            part.set("ejection.failures", max(1, failures), passive.at, "failures in a row count")
            passive.ignore(*passive.names())
        balancer.ignore("responseForwarding", "sticky")
        self._draft.leftovers(service)
        part.report_only(
            service.at,
            "Traefik waits for an answer without a bound; propylon for services.X.timeouts: 30 s for its head",
        )
        return part

    def _servers(self, balancer: Item, part: Part) -> None:
        servers = named(balancer, "servers")
        instances: list[Any] = []
        for server in servers.each():
            url = named(server, "url").text()
            place = urlsplit(url)
            keeps = named(server, "preservePath").flag()
            plain = f"{place.scheme}://{place.netloc}" + (place.path.rstrip("/") if keeps else "")
            if place.path.strip("/") and not keeps:
                part.differs(
                    server.at, f"the path {place.path} is left out: Traefik does not send it either"
                )
            weight = int(named(server, "weight").number(1))
            instances.append({"url": plain, "weight": weight} if weight != 1 else plain)
        if not instances:
            part.lost(balancer.at, "no server, and no port", "write url")
        elif len(instances) == 1 and isinstance(instances[0], str):
            part.set("url", instances[0], servers.at)
        else:
            part.set("instances", instances, servers.at)

    def _transport(self, name: str, balancer: Item, part: Part) -> None:
        transport = self._transports.get(name)
        if transport is None:
            part.lost(
                named(balancer, "serversTransport").at,
                f"the transport {name} is not in these files",
            )
            return
        times = named(transport, "forwardingTimeouts")
        for theirs, ours in (("dialTimeout", "connect"), ("responseHeaderTimeout", "first_byte")):
            if (value := named(times, theirs).text()) and value not in ("0", "0s"):
                part.set(
                    f"timeouts.{ours}",
                    value if value[-1:].isalpha() else f"{value}s",
                    named(times, theirs).at,
                )
        if named(transport, "insecureSkipVerify").flag():
            part.differs(
                named(transport, "insecureSkipVerify").at,
                "propylon verifies the certificate; services.X.tls.ca names who signs it",
            )
        if server := named(transport, "serverName").text():
            part.set("tls.server_name", server, named(transport, "serverName").at)
        for key in ("rootCAs", "certificates", "spiffe"):
            if named(transport, key):
                part.lost(
                    named(transport, key).at,
                    "certificates of the way to the service",
                    "write services.X.tls",
                )
        transport.ignore(
            "maxIdleConnsPerHost", "disableHTTP2", "peerCertURI", "forwardingTimeouts", "spiffe"
        )


def _strategy(balancer: Item, part: Part) -> None:
    strategy = named(balancer, "strategy")
    match strategy.text("wrr"):
        case "wrr":
            if strategy:
                part.same(strategy.at, "services: balance: round_robin, the default")
        case "hrw":
            part.set("balance", {"hash": "ip"}, strategy.at, "another hash function")
        case other:
            part.set(
                "balance",
                "least_connections",
                strategy.at,
                f"by open requests, in place of {other}",
            )


def _health(check: Item, part: Part) -> None:
    if not check:
        return
    keys: dict[str, Any] = {"path": named(check, "path").text("/"), "status": "200-399"}
    if named(check, "mode").text() == "grpc":
        part.lost(check.at, "probes by gRPC")
        return
    keys["interval"] = named(check, "interval").text("30s")
    keys["timeout"] = named(check, "timeout").text("5s")
    for theirs, ours in (("hostname", "host"), ("method", "method")):
        if text := named(check, theirs).text():
            keys[ours] = text
    for theirs, ours in (("port", "port"), ("status", "status")):
        if number := int(named(check, theirs).number()):
            keys[ours] = number
    if headers := {name: item.text() for name, item in named(check, "headers").items()}:
        keys["headers"] = headers
    difference = (
        "the probe is sent with the scheme of the instance" if named(check, "scheme") else ""
    )
    part.set("health", keys, check.at, difference)
    check.ignore("followRedirects", "unhealthyInterval")
