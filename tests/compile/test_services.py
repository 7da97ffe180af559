"""From what was written to what runs: services, their instances and their rules."""

import ssl
from typing import Any

import pytest

from propylon.config.models.services import ServiceTimeoutsConfig
from propylon.services.registration import Registration
from tests.compile.compiled import World, one


def test_instances() -> None:
    """Each URL is one: its id, the Host it is asked with, its base path, its weight, its connections."""
    services = {
        "orders": {
            "instances": [
                "http://a:8000",
                {"url": "http://b.example/base/", "weight": 3},
                "https://c",
                "http://[2001:db8::1]:81",
            ],
            "max_connections": 7,
        }
    }
    world = one(top={"services": services})
    found = world.services["orders"].instances
    assert [(one.id, one.host, one.base, one.weight) for one in found] == [
        ("a:8000", b"a:8000", b"", 1),
        ("b.example:80", b"b.example", b"/base", 3),
        ("c:443", b"c", b"", 1),
        (found[3].id, b"[2001:db8::1]:81", b"", 1),
    ]
    # What probes go over has connections of its own.
    asked = [to for to, limit in world.connected if limit == 7]
    assert [(to.host, to.port) for to in asked] == [
        ("a", 8000),
        ("b.example", 80),
        ("c", 443),
        ("2001:db8::1", 81),
    ]
    tls = [to.tls for to in asked]
    assert [context is not None for context in tls] == [False, False, True, False]
    secure = tls[2]
    assert secure is not None
    assert (secure.verify_mode, secure.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_an_instance_has_one_name() -> None:
    """The same address is the same instance, whether it was written down, registered or looked up."""
    services = {"orders": {"url": "http://[2001:db8::1]:81"}}
    [found] = one(top={"services": services}).services["orders"].instances
    assert found.id == Registration("orders", "2001:db8::1", 81).id == "[2001:db8::1]:81"


def test_a_service_without_instances() -> None:
    """503, and it is among the services that /health shows."""
    world = one(top={"services": {"orders": {}}})
    assert world.handle()[0] == 503
    assert [service.name for service in world.table.services] == ["orders"]


def test_rules_of_a_service() -> None:
    """Retries, their budget, the breaker: as written, or the defaults of the documentation."""
    service = one().services["orders"]
    assert (service.retry.attempts, service.budget.share) == (3, 0.2)
    assert service.fleet.health is None
    assert service.breaker is not None
    written = {
        "url": "http://orders:8000",
        "retry": {"attempts": 5, "on": ["timeout", 500], "budget": "50%", "non_idempotent": True},
        "health": {"path": "/up", "interval": "5s"},
        "circuit": {"failure_threshold": 1, "min_throughput": 1},
        "balance": "least_connections",
    }
    service = one(top={"services": {"orders": written}}).services["orders"]
    assert (service.retry.attempts, service.retry.statuses) == (5, {500})
    assert (service.retry.kinds, service.retry.non_idempotent) == ({"timeout"}, True)
    assert service.budget.share == 0.5
    assert service.fleet.health is not None
    assert (service.fleet.health.path, service.fleet.health.interval) == (b"/up", 5.0)


def test_routes_of_a_service_share_what_is_known_of_it() -> None:
    """One breaker, one budget, one fleet."""
    routes = [
        {"path": path, "service": "orders", "auth": "none", "hosts": ["a.test", "b.test"]}
        for path in ("/a", "/b")
    ]
    found = World({"routes": routes}).routes
    assert len(found) == 4
    assert len({id(route.service) for route in found}) == 1


def test_a_breaker_of_one_service_is_not_anothers() -> None:
    """Nor is what is known of instances, though their URL be the same."""
    services = {"a": {"url": "http://x:1"}, "b": {"url": "http://x:1"}}
    world = World({"services": services})
    one_, other = world.services["a"], world.services["b"]
    assert one_.breaker is not other.breaker
    assert one_.budget is not other.budget
    assert one_.instances[0].state is not other.instances[0].state


@pytest.mark.parametrize(
    ("written", "stream"),
    [({}, 300.0), ({"first_byte": 1}, 300.0), ({"idle": "30s"}, 30.0), ({"idle": 600}, 600.0)],
)
def test_a_written_idle_holds_for_event_streams(written: dict[str, Any], stream: float) -> None:
    """Event streams may be silent for five minutes, unless the operator wrote how long a body may be."""
    world = one(top={"services": {"orders": {"url": "http://a:1", "timeouts": written}}})
    assert world.services["orders"].timeouts.stream == stream


def test_a_reload_notices_that_idle_is_written() -> None:
    """The default and the same number written are two configurations."""
    default, written = ServiceTimeoutsConfig(), ServiceTimeoutsConfig(idle=30.0)
    assert default == ServiceTimeoutsConfig(first_byte=30.0)
    assert default != written
    assert written == ServiceTimeoutsConfig(idle=30.0)
    assert hash(written) == hash(ServiceTimeoutsConfig(idle=30.0))
