"""`maintenance`: where it is written, and what stands over it."""

from typing import Any

import pytest

from propylon.config.models.schema import GatewayConfig
from tests.compile.compiled import KEY, World, one


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
