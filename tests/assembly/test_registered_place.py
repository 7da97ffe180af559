"""Where a registered instance of a service that was written down is asked: as its other instances are."""

from dataclasses import replace
from typing import Any, cast

import pytest

from propylon.assembly.membership import Membership
from propylon.config.models.schema import GatewayConfig
from propylon.upstream.dial import Address
from propylon.upstream.pools import Pools
from tests.services.registrar import World, said


class Fresh:
    """Makes no connections, and keeps where they would lead."""

    def fresh(self, address: Address, limit: int, permit: object) -> Address:
        """The address."""
        return address


def membership(service: dict[str, Any]) -> Membership:
    """Who joins instances to a service of that configuration."""
    config = GatewayConfig.model_validate({"services": {"orders": service}})
    nothing = cast("Any", None)
    return Membership(config, cast("Pools", Fresh()), nothing, nothing, nothing)


def is_encrypted(service: dict[str, Any], name: str = "orders") -> bool:
    """Whether what registers with it is asked over TLS."""
    ways = membership(service)._ways(name, Address("10.0.0.1", 8000))
    assert len({address.tls for address in ways}) == 1, "probes go as requests do"
    return ways[0].tls is not None


@pytest.mark.parametrize("url", ["https://a.internal", "HTTPS://a.internal/v2"])
def test_tokens_stay_encrypted(url: str) -> None:
    """A service of https instances gets none that is asked in the clear."""
    assert is_encrypted({"url": url})
    assert is_encrypted({"instances": ["https://b.internal", {"url": url}]})
    assert not is_encrypted({"url": url}, name="bills")


def test_a_plain_service_stays_plain() -> None:
    """What registers speaks what its service speaks."""
    assert not is_encrypted({"url": "http://a.internal"})
    assert not is_encrypted({})


@pytest.mark.parametrize(
    ("service", "base"),
    [
        ({"url": "http://a/v2/base"}, b"/v2/base"),
        ({"instances": ["http://a/v2", "http://b/v2/"]}, b"/v2"),
        ({"instances": ["http://a/v2", "http://b/v3"]}, b""),
        ({"url": "http://a"}, b""),
        ({}, b""),
    ],
)
def test_the_base_path(service: dict[str, Any], base: bytes) -> None:
    """It belongs to the service: half of its requests would go elsewhere otherwise."""
    assert membership(service)._base("orders") == base
    assert membership(service)._base("bills") == b""


def test_the_base_path_of_an_instance() -> None:
    """It comes with the service, and changes with a reload."""
    world = World()
    bases = {"orders": b"/v2"}
    world.registry._base = lambda service: bases.get(service, b"")
    world.register()
    world.register(service="bills")
    registered = said()
    found = world.find("orders").fleet.find(registered.id)
    assert found is not None
    assert found.base == b"/v2"
    other = world.find("bills").fleet.find(registered.id)
    assert other is not None
    assert other.base == b""
    bases["orders"] = b"/v3"
    world.registry.apply(world.registry.services()[:1], world.registry._admission, None)
    found = world.find("orders").fleet.find(registered.id)
    assert found is not None
    assert found.base == b"/v3"


# TLS, the PROXY protocol, a port for probes


def test_an_instance_is_connected_to_as_its_service_says() -> None:
    """The name that certificates must have, the PROXY protocol and the port of probes come with the service."""
    written = {
        "url": "https://a.internal",
        "tls": {"server_name": "orders.internal"},
        "proxy_protocol": "v2",
        "health": {"port": 8081},
    }
    asked, probed = membership(written)._ways("orders", Address("10.0.0.1", 8000))
    assert (asked.name, asked.proxy, asked.port) == ("orders.internal", "v2", 8000)
    assert probed == replace(asked, port=8081)
    assert is_encrypted({"tls": {"verify": True}}), "no URL, and TLS was asked for"


def test_a_reload_with_other_tls_opens_other_connections() -> None:
    """An instance that registered gets new connections, and keeps what is known of it; the old ones are closed."""
    world = World()
    name = ""
    world.registry._ways = lambda _, address: (
        replace(address, name=name),
        replace(address, name=name),
    )
    world.register()
    world.register(service="bills")
    old = world.pools[:2]
    found = world.find("orders").fleet.find(said().id)
    assert found is not None
    configured = world.registry.services()[:1]
    world.registry.apply(configured, world.registry._admission, None)
    assert len(world.pools) == 4, "nothing has changed, so nothing is opened"
    name = "orders.internal"
    world.registry.apply(configured, world.registry._admission, None)
    assert [pool.closed for pool in old] == [1, 1]
    after = world.find("orders").fleet.find(said().id)
    assert after is not None
    assert after.state is found.state
    assert after.upstream is world.pools[4]
    assert (world.pools[4].address.name, world.pools[5].probing) == ("orders.internal", True)
