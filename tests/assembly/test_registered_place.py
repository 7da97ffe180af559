"""Where a registered instance of a service that was written down is asked: as its other instances are."""

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
