"""`split`: a route is compiled for each of its services, and kept while they are the same."""

from typing import Any

import pytest

from propylon.assembly.carry import ServiceSet
from propylon.commands.explain.dry_run import SampleRequest
from propylon.commands.explain.explain import explain
from propylon.commands.routes import as_data, rows
from propylon.compile.cache import cache_rules
from propylon.compile.exposure import expose
from propylon.compile.limits import labels_of_limits, names_of_limits
from propylon.compile.services import Dependencies
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import load
from propylon.loop.slices import at_once
from tests.compile.test_reuse import DEPENDENCIES, World

SPLIT = [{"service": "orders", "weight": 95}, {"service": "items", "weight": 5}]
FILE = """
services:
  stable: {url: http://stable:8000, timeouts: {total: 7s}}
  canary: {url: http://canary:8000/v2}
routes:
  - {name: shop, path: /shop, auth: none, split: [{service: stable, weight: 95}, {service: canary, weight: 5}]}
"""


def written(**of_route: Any) -> GatewayConfig:
    """A route that is shared out, on two hosts, beside another one."""
    return GatewayConfig.model_validate(
        {
            "services": {
                "orders": {"url": "http://orders:8000", "rate_limit": {"rate": "9/s", "name": "o"}},
                "items": {"url": "http://items:8000"},
            },
            "routes": [
                {"path": "/shop", "hosts": ["a.example", "b.example"], "split": SPLIT, **of_route},
                {"path": "/items", "service": "items"},
            ],
        }
    )


def test_each_service_has_its_own_stages() -> None:
    """Timeouts are merged with those of each, on each host."""
    world = World()
    made = world.next(written(), None)
    routes = [route for route in made.table.routes if not route.service.builtin]
    assert [len(route.parts) for route in routes] == [2, 2, 1]
    for route in routes[:2]:
        parts = route.parts
        assert [one.service.name for one in parts] == ["orders", "items"]
        assert [one.share for one in parts] == ["95 of 100", "5 of 100"]
        assert {one.pattern.host for one in parts} == {route.pattern.host}
        assert all(one.split is None for one in parts)


def test_routes_are_kept_while_all_services_are_the_same() -> None:
    """A change of the second service makes the route anew, and of neither keeps it."""
    config = written()
    set_of = ServiceSet()
    services = at_once(set_of.plan(config.services, DEPENDENCIES))
    world = World()
    world.services = services
    first = world.next(config, None)
    olds = set(map(id, first.table.routes))

    def kept() -> list[bool]:
        after = world.next(config, first)
        routes = [route for route in after.table.routes if not route.service.builtin]
        return [id(route) in olds for route in routes]

    assert kept() == [True, True, True]
    other = Dependencies(DEPENDENCIES.connect, lambda: 0.0)
    world.services = at_once(ServiceSet().plan(config.services, other))
    assert kept() == [False, False, False]


def test_rules_of_shares_are_compared() -> None:
    """Two spellings with other shares are two rules."""
    world = World()

    def rules(**of_route: Any) -> object:
        made = world.next(written(**of_route), None)
        return next(route for route in made.table.routes if route.split is not None).rules

    assert rules() == rules()
    assert rules() != rules(split=[{"service": "orders"}, {"service": "items"}])


def test_what_is_told_of_limits_and_operations() -> None:
    """The limits of all services; the operations of the first one."""
    config = written(rate_limit={"rate": "5/s", "name": "mine"})
    assert names_of_limits(config, "/shop") == ["mine", "o"]
    assert [label for _, label in labels_of_limits(config)] == [
        "route:/shop/mine",
        "service:orders/o",
    ]
    assert [one.service for one in expose(config)] == ["orders", "items"]


def test_a_cache_is_that_of_the_service() -> None:
    """The place of its answers is one for each service, whatever the shares."""
    route = written(cache={"ttl": "1m"}).routes[0]
    config = written()
    places = [cache_rules(config, target) for target in route.targets]
    other = written(cache={"ttl": "1m"}, split=[*SPLIT[:1], {"service": "items", "weight": 50}])
    assert places[0] != places[1]
    assert places == [cache_rules(config, target) for target in other.routes[0].targets]


@pytest.fixture
def loaded(tmp_path: Any) -> Any:
    """The file, read."""
    (tmp_path / "propylon.yaml").write_text(FILE)
    return load(tmp_path / "propylon.yaml", {})


def test_routes_shows_the_shares(loaded: Any) -> None:
    """Both services, and the instances of both."""
    assert rows(loaded)[0][2] == "stable 95, canary 5"
    data = next(one for one in as_data(loaded) if not one["own"])
    assert data["service"] is None
    assert data["split"] == [
        {"service": "stable", "weight": 95},
        {"service": "canary", "weight": 5},
    ]
    assert data["instances"] == ["stable:8000", "canary:8000"]


def test_explain_shows_the_choice(loaded: Any) -> None:
    """The first request is for the service with the largest share; its values come from there."""
    told = explain(loaded, SampleRequest("GET", "/shop/7")).as_data()
    assert told["route"]["service"] == "stable"
    assert told["upstream"]["service"] == "stable"
    assert told["lost"] == [] or all(one["why"] == "path" for one in told["lost"])
    stages = {one["stage"]: one for one in told["stages"]}
    said = 'route "shop", whose split gives it to service "stable" (95 of 100)'
    assert stages["match"]["text"].startswith(said)
