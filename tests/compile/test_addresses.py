"""How instances are connected to and probed, as it comes out of what was written."""

import re
from pathlib import Path
from typing import Any

import pytest

from propylon.compile.services import Compiled, Dependencies, compile_service
from propylon.config.models.services import ServiceConfig
from propylon.names.resolve import Resolver, SrvTarget
from propylon.services.discovery import MemberKey
from propylon.upstream.dial import Address
from propylon.upstream.tls import SYSTEM_TRUST, TlsSettings, tls_context
from tests.proxy.doubles import Asked
from tests.support.secure import Authority


class World:
    """A service, and the addresses that were connected to for it: for requests, and for probes."""

    def __init__(self, **written: Any) -> None:
        self.requests: list[Address] = []
        self.probes: list[Address] = []
        self.config = ServiceConfig.model_validate(written)
        known: Any = Known()
        self.compiled: Compiled = compile_service(
            "a", self.config, Dependencies(self._connect, lambda: 0.0, resolver=known)
        )
        self.service = self.compiled.service

    def _connect(self, address: Address, limit: int) -> Asked:
        (self.requests if limit == self.config.max_connections else self.probes).append(address)
        return Asked()

    def member(self, key: MemberKey) -> Address:
        """The address of a member of the only name."""
        self.compiled.members[0]._make(key)
        return self.requests[-1]


class Known(Resolver):
    """Knows nothing yet."""

    def __init__(self) -> None:
        pass

    def known(self, host: str) -> tuple[str, ...]:
        """No address."""
        return ()

    def known_targets(self, name: str) -> tuple[SrvTarget, ...]:
        """No target."""
        return ()


def test_a_unix_socket() -> None:
    """It is an instance of its own, and no name to be followed."""
    world = World(instances=["unix:/run/a.sock:/v1", "http://127.0.0.1:80"])
    socket, _ = world.service.instances
    assert (socket.id, socket.host, socket.base) == ("unix:/run/a.sock", b"localhost", b"/v1")
    assert world.requests[0] == world.probes[0] == Address("localhost", 0, path="/run/a.sock")
    assert world.compiled.members == ()


def test_tls_without_a_word() -> None:
    """The system is trusted, and the name is the URL's."""
    world = World(url="https://a.test")
    assert world.requests == [Address("a.test", 443, tls_context(SYSTEM_TRUST))]
    assert world.member("192.0.2.1").name == "a.test"
    target = world.member(SrvTarget("b.test", 8443))
    assert (target.host, target.name) == ("b.test", "")


def test_tls_as_it_is_written(tmp_path: Path) -> None:
    """What was written goes for https instances, their members and their probes, and for no others."""
    ca = Authority(tmp_path).file.read_text()
    tls = {"ca": ca, "server_name": "orders.internal"}
    world = World(instances=["https://a.test", "http://127.0.0.1:80"], tls=tls)
    context = tls_context(TlsSettings(ca=ca))
    assert world.requests == [
        Address("a.test", 443, context, name="orders.internal"),
        Address("127.0.0.1", 80),
    ]
    assert world.probes == world.requests
    assert world.member("192.0.2.1") == Address("192.0.2.1", 443, context, name="orders.internal")
    target = world.member(SrvTarget("b.test", 8443))
    assert target == Address("b.test", 8443, context, name="orders.internal")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_proxy_protocol(version: str) -> None:
    """The service, all its addresses and its probes know of it."""
    world = World(url="http://127.0.0.1:80", proxy_protocol=version)
    assert world.service.proxy_protocol == version
    assert [one.proxy for one in (*world.requests, *world.probes)] == [version, version]


def test_a_port_for_probes() -> None:
    """Only probes go there; each member of a name is probed at its own address."""
    world = World(url="http://a.test:80", health={"port": 8081})
    assert (world.requests[0].port, world.probes[0].port) == (80, 8081)
    world.member("192.0.2.1")
    assert world.probes[-1] == Address("192.0.2.1", 8081, name="a.test")


def test_health_rules() -> None:
    """Every key of a health check becomes what the probe needs."""
    rules = World(
        url="http://a",
        health={
            "method": "POST",
            "host": "b",
            "headers": {"X-Probe": "1"},
            "status": "200-204",
            "body": "ok",
        },
    ).service.fleet.health
    assert rules is not None
    assert (rules.method, rules.host, rules.tcp) == (b"POST", b"b", False)
    assert rules.headers == b"\r\nUser-Agent: propylon-health\r\nX-Probe: 1"
    assert (set(rules.statuses), rules.body) == ({200, 201, 202, 203, 204}, re.compile(b"ok"))
    named = World(url="http://a", health={"headers": {"user-agent": "kube-probe"}})
    assert named.service.fleet.health is not None
    assert named.service.fleet.health.headers == b"\r\nuser-agent: kube-probe"
    tcp = World(url="http://a", health={"type": "tcp"}).service.fleet.health
    assert tcp is not None
    assert tcp.tcp
