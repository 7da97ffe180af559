"""`maintenance`, `fallback` and `mirror`: where they are written, and what stands over what."""

from dataclasses import replace
from typing import Any

import pytest

from propylon.compile.carriers import Vouched
from propylon.compile.detours import DetourCompiler
from propylon.compile.routes import Parts, RouteCompiler
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.fallback import Fallback
from propylon.proxy.forward import Forward
from propylon.proxy.mirror import Mirror
from propylon.stores.sums import LocalSums
from propylon.telemetry.metrics import Metrics
from tests.compile.compiled import KEY, World, one
from tests.proxy.doubles import STILL


def closed(route: dict[str, Any], **defaults: Any) -> int:
    """The status of a route with these rules."""
    return one({**route}, top={"defaults": defaults}).handle("/a")[0]


@pytest.mark.parametrize(
    ("route", "default", "status"),
    [
        ({}, None, 200),
        ({"maintenance": True}, None, 503),
        ({"maintenance": "yes"}, None, 503),
        ({"maintenance": {}}, None, 503),
        ({"maintenance": False}, None, 200),
        ({}, True, 503),
        ({}, "true", 503),
        ({"maintenance": False}, True, 200),
        ({"maintenance": False}, {"status": 500}, 200),
        ({"maintenance": {"status": 502}}, {"retry_after": "1h"}, 502),
        ({"maintenance": {"allow": ["192.0.2.0/24"]}}, True, 200),
        ({"maintenance": {"allow": ["10.0.0.0/8"]}}, True, 503),
    ],
)
def test_a_route_stands_over_defaults(route: dict[str, Any], default: Any, status: int) -> None:
    """What a route says itself counts, also that it is in service."""
    assert closed(route, maintenance=default) == status


def test_answers_without_a_service_can_be_under_maintenance() -> None:
    """So `defaults.maintenance` takes out of service all that the file has."""
    world = World(
        {"routes": [{"path": "/a", "auth": "none", "respond": {}}],
         "defaults": {"maintenance": {"retry_after": "1500ms"}}, **KEY}
    )  # fmt: skip
    status, block = world.handle("/a")
    assert status == 503
    assert block.endswith(b"\r\nRetry-After: 2")


@pytest.mark.parametrize(
    "written", [7, "tonight", {"status": 200}, {"status": 600}, [], {"allow": ["x"]}]
)
def test_what_is_no_maintenance(written: Any) -> None:
    """It is refused, and not taken for true."""
    with pytest.raises(ValueError, match="maintenance"):
        GatewayConfig.model_validate(
            {"services": {"a": {"url": "http://a"}},
             "routes": [{"path": "/a", "service": "a", "maintenance": written}]}
        )  # fmt: skip


def detoured(route: dict[str, Any], **top: Any) -> World:
    """A world with another service, in which there are fallbacks and mirrors."""
    services = {
        "orders": {"url": "http://orders"},
        "other": {"url": "http://other", "forward_token": False},
    }
    detours = DetourCompiler(Metrics(LocalSums()))
    return one(route, top={"services": services, **top}, detours=detours)


def test_the_way_to_another_service_is_one_route() -> None:
    """Metrics know routes by their identity: a new one for each failure would be kept until the next reload."""
    world = detoured(
        {"fallback": {"service": "other"}, "timeouts": {"total": "7s"}, "strip_prefix": True}
    )
    stage = world.route.forward
    assert isinstance(stage, Fallback)
    assert stage.other is not None
    there = stage.other.become(world.route)
    assert there is stage.other.become(world.route)
    assert (there.service.name, there.service.forward_token) == ("other", False)
    assert (there.name, there.timeouts.total, there.rewrite) == ("/a", 7.0, world.route.rewrite)
    mirrored = detoured({"mirror": {"service": "other"}})
    mirror = mirrored.route.forward
    assert isinstance(mirror, Mirror)
    copied = mirror.become(mirrored.route)
    assert copied is mirror.become(mirrored.route)
    assert copied.service.retry.attempts == 1
    assert copied.service.fleet is mirrored.services["other"].fleet


@pytest.mark.parametrize(
    ("route", "defaults", "kind"),
    [
        ({}, {"fallback": {"respond": {}}}, Fallback),
        ({"fallback": "none"}, {"fallback": {"respond": {}}}, Forward),
        ({"fallback": {"service": "other"}}, {"fallback": {"respond": {}, "on": [503]}}, Fallback),
        ({}, {"mirror": {"service": "other"}}, Mirror),
        ({"mirror": "none"}, {"mirror": {"service": "other"}}, Forward),
    ],
)
def test_defaults_of_detours(route: dict[str, Any], defaults: dict[str, Any], kind: type) -> None:
    """A route's own answer takes the place of the default's, and keeps its `on`; none takes it off."""
    world = detoured(route, defaults=defaults)
    assert isinstance(world.route.forward, kind)
    written = world.config.routes[0].fallback
    if route.get("fallback") == {"service": "other"}:
        assert written is not None
        assert (written.service, written.respond, written.on) == ("other", None, (503,))


def test_a_route_with_detours_is_kept_over_a_reload() -> None:
    """As long as nothing of it changes, the other service included."""
    rules = {"fallback": {"service": "other"}, "mirror": {"service": "other"}}
    world = detoured(rules)
    detours = DetourCompiler(Metrics(LocalSums()))

    def again(services: dict[str, Any]) -> bool:
        parts = Parts(world.own, STILL, detours=detours)
        compiler = RouteCompiler(world.config, parts, Vouched(frozenset(), frozenset()), services)
        return compiler.is_current([world.route], world.config.routes[0], world.services["orders"])

    assert again(world.services)
    changed = replace(world.services["other"])
    assert not again({**world.services, "other": changed})
