"""A route that a client can choose in place of a stricter one to the same service is doubted."""

from typing import Any

import pytest

from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.laxer import laxer_routes

BETA = {"match": {"headers": {"X-Channel": "beta"}}}
STRICT = {"name": "strict", "path": "/a", "service": "a"}


def doubted(*routes: dict[str, Any]) -> list[str]:
    """The names of the routes that are doubted."""
    services = {name: {"url": f"http://{name}:8000"} for name in ("a", "b")}
    written = [{"service": "a", **route} for route in routes]
    config = GatewayConfig.model_validate({"services": services, "routes": written})
    return [config.routes[int(path[1])].name for path, _ in laxer_routes(config)]


@pytest.mark.parametrize(
    "lax",
    [
        {"path": "/a", "auth": "none", **BETA},
        {"path": "/a", "auth": "optional", **BETA},
        {"path": "/a", "scopes": [], **BETA},
    ],
)
def test_less_is_asked_for_where_the_client_says_so(lax: dict[str, Any]) -> None:
    """The token, the scopes."""
    strict = {**STRICT, "scopes": ["read"]}
    assert doubted(strict, {"name": "lax", **lax}) == ["lax"]


@pytest.mark.parametrize(
    ("strict", "lax"),
    [
        ({"roles": ["admin"]}, {"roles": ["admin", "clerk"]}),
        ({"issuers": ["https://a.example"]}, {}),
        ({"clients": {"allow": ["10.0.0.0/8"]}}, {}),
        ({"clients": {"deny": ["10.0.0.0/8"]}}, {}),
        ({"security": "from-document"}, {}),
    ],
)
def test_other_rules(strict: dict[str, Any], lax: dict[str, Any]) -> None:
    """The laxer one is doubted, whichever of the two has the condition."""
    assert doubted({**STRICT, **strict, **BETA}, {"name": "lax", "path": "/a", **lax}) == ["lax"]
    assert doubted({**STRICT, **strict}, {"name": "lax", "path": "/a", **lax, **BETA}) == ["lax"]


def test_leaving_the_condition_out_leads_to_a_less_specific_route() -> None:
    """The stricter route is the deeper one, and the client need not meet its condition."""
    assert doubted(
        {**STRICT, "path": "/a/{id}", **BETA}, {"name": "lax", "path": "/a", "auth": "none"}
    ) == ["lax"]


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/a", "auth": "none", "service": "b", **BETA},  # another service
        {"path": "/a", **BETA},  # as strict
        {"path": "/a", "scopes": ["x"], **BETA},  # stricter: the one that asks for less is doubted
        {"path": "/b", "auth": "none", **BETA},
        {"path": "/a", "auth": "none", "methods": ["PUT"], **BETA},
        {"path": "/a", "auth": "none", "hosts": ["b.example"], **BETA},
        {"path": "/a/b", "auth": "none"},  # no condition: another path is another route
    ],
)
def test_what_is_no_laxer_route(other: dict[str, Any]) -> None:
    """Nothing is said of the other route."""
    strict = {**STRICT, "methods": ["GET"], "hosts": ["a.example"]}
    assert "other" not in doubted(strict, {"name": "other", **other})
