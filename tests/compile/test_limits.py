"""Which limits a route gets: its own, the default's, its service's; and what stays over a reload."""

from __future__ import annotations

from typing import Any

from propylon.compile.limits import LimitCompiler, TeamCosts, names_of_limits
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.limit.stage import LimitStage
from tests.proxy.limited import limiting

BASE: dict[str, Any] = {
    "services": {
        "plain": {"url": "http://a:1"},
        "busy": {"url": "http://b:1", "rate_limit": {"rate": "9/s"}},
    },
    "defaults": {"rate_limit": {"rate": "7/s"}},
}


def config(*routes: dict[str, Any], **top: Any) -> GatewayConfig:
    """A configuration with these routes."""
    named = [{"path": f"/{at}", "service": "plain", **route} for at, route in enumerate(routes)]
    return GatewayConfig.model_validate({**BASE, "routes": named, **top})


def stages(
    made: GatewayConfig, compiler: LimitCompiler | None = None, **teams: TeamCosts
) -> list[LimitStage | None]:
    """The stage of each route."""
    using = compiler or limiting()
    return [using.of_route(made, route, teams) for route in made.routes]


def ids(stage: LimitStage | None) -> list[str]:
    """The ids of a stage's limits."""
    return [] if stage is None else [limit.rule.id for limit in stage.limits]


def test_which_limits_count() -> None:
    """A route's own replaces the default, the service's is added, none takes the default off."""
    own = {"rate_limit": {"rate": "5/s"}}
    made = config(
        {},
        own,
        {"rate_limit": "none"},
        {"service": "busy"},
        {"service": "busy", **own},
        {"service": "busy", "rate_limit": "none"},
    )
    assert list(map(ids, stages(made))) == [
        ["defaults/default"],
        ["route:/1/default"],
        [],
        ["defaults/default", "service:busy/default"],
        ["route:/4/default", "service:busy/default"],
        ["service:busy/default"],
    ]


def test_names_in_headers_differ() -> None:
    """A service's limit of the same name as the route's is told apart."""
    [stage] = stages(config({"service": "busy", "rate_limit": {"rate": "5/s"}}))
    assert stage is not None
    assert [limit.name for limit in stage.limits] == ["default", "service:default"]


def test_routes_of_one_name_count_apart() -> None:
    """Two routes on one path, for different methods, have a limit each."""
    made = config(
        {"path": "/a", "methods": ["GET"], "rate_limit": {"rate": "5/s"}},
        {"path": "/a", "methods": ["POST", "PUT"], "rate_limit": {"rate": "5/s"}},
    )
    assert list(map(ids, stages(made))) == [
        ["route:/a GET/default"],
        ["route:/a POST,PUT/default"],
    ]


def test_stage_stays_over_a_reload() -> None:
    """The same limits give the very same stage; other numbers, or another function, another one."""
    compiler = limiting()
    before = stages(config({}, {"rate_limit": {"rate": "5/s"}}), compiler)
    again = stages(config({}, {"rate_limit": {"rate": "5/s"}}), compiler)
    assert [one is other for one, other in zip(before, again, strict=True)] == [True, True]
    changed = stages(config({}, {"rate_limit": {"rate": "6/s"}}), compiler)
    assert [one is other for one, other in zip(before, changed, strict=True)] == [True, False]

    async def price(*_: object) -> int:
        return 1

    team = {"/0": TeamCosts(price=price)}
    priced = stages(config({}, {"rate_limit": {"rate": "5/s"}}), compiler, **team)
    assert [one is other for one, other in zip(before, priced, strict=True)] == [False, True]


def test_in_flight_stays_over_a_reload() -> None:
    """The requests in flight are counted on by the new stage."""
    compiler = limiting()
    [first], [second] = (
        stages(config({"rate_limit": {"in_flight": 2, "mode": mode}}), compiler)
        for mode in ("enforce", "shadow")
    )
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.limits[0].in_flight is second.limits[0].in_flight


def test_who_is_priced_and_charged() -> None:
    """A function for one limit leaves the others alone; a written cost wins over a price."""

    async def price(*_: object) -> int:
        return 1

    limits = [
        {"name": "a", "rate": "5/s"},
        {"name": "b", "rate": "5/s"},
        {"name": "c", "rate": "5/s", "cost": 2},
    ]
    team = {"/0": TeamCosts(price, "a", lambda _exchange, _pay: None, "b")}
    [stage] = stages(config({"rate_limit": limits}), None, **team)
    assert stage is not None
    assert [limit.cost for limit in stage.limits] == [None, 1, 2]
    assert [limit.charged for limit in stage.limits] == [False, True, False]
    assert [limit.rule.charged for limit in stage.limits] == [False, True, False]


def test_shared_limit_is_one_rule_for_all_routes() -> None:
    """If one of its routes is charged, a limit that routes share may be overdrawn on all of them: it is one limit."""
    team = {"/0": TeamCosts(charge=lambda _exchange, _pay: None)}
    first, second = stages(config({}, {}), None, **team)
    assert first is not None
    assert second is not None
    assert first.limits[0].rule.identity == second.limits[0].rule.identity


def test_names_of_limits() -> None:
    """A decorator may name each limit of a route, the service's included."""
    made = config({"name": "a", "service": "busy", "rate_limit": {"name": "x", "rate": "5/s"}})
    assert names_of_limits(made, "a") == ["x", "default"]
    assert names_of_limits(made, "nosuch") == []
