"""What a team puts on its gateway: mistakes are said when they are made, and nothing of theirs opens a guarded route."""

from pathlib import Path
from typing import Any

import pytest

from propylon import Gateway, Principal, Request, public
from propylon.config.reading.problems import ConfigError

CONFIG = """
services: {orders: {}}
routes:
  - {name: orders, path: /orders, service: orders, methods: [GET, POST]}
  - {path: "/items/{id}", service: orders}
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway with two routes."""
    file = tmp_path / "propylon.yaml"
    file.write_text(CONFIG)
    return Gateway.from_file(file, {})


async def policy(request: Request, principal: Principal) -> None:
    """Let everybody pass."""


def test_a_bare_decorator(gateway: Gateway) -> None:
    """`@gateway.before` without a route is said at once: it would guard nothing."""
    bare: Any = gateway.before
    with pytest.raises(TypeError, match="needs the name of a route"):
        bare(policy)


def test_a_route_that_is_not_there(gateway: Gateway) -> None:
    """With the name that was meant, most likely."""
    with pytest.raises(ValueError, match='did you mean "orders"'):
        gateway.before("oders")


def test_a_policy_with_the_wrong_arguments(gateway: Gateway) -> None:
    """It would be a 500 on each request."""

    async def one(request: Request) -> None: ...

    wrong: Any = one
    with pytest.raises(TypeError, match="must take a request and a principal"):
        gateway.before("orders")(wrong)


@pytest.mark.parametrize(
    ("path", "methods", "place"),
    [
        ("/orders", ["GET"], "routes[0].path"),
        ("/orders/", ["POST"], "routes[0].path"),
        ("/items/{other}", ["DELETE"], "routes[1].path"),
    ],
)
def test_an_endpoint_on_a_route_s_path(
    gateway: Gateway, path: str, methods: list[str], place: str
) -> None:
    """It would answer in the place of the route, past its token and its policies: no start."""
    gateway.api.api_route(path, methods=methods, dependencies=[public])(lambda: "open")
    with pytest.raises(ConfigError) as caught:
        gateway.validate()
    [problem] = caught.value.problems
    assert (problem.where, "endpoint on gateway.api" in problem.message) == (place, True)


@pytest.mark.parametrize(
    ("path", "methods"), [("/orders", ["DELETE"]), ("/orders/overview", ["GET"]), ("/o", ["GET"])]
)
def test_an_endpoint_beside_the_routes(gateway: Gateway, path: str, methods: list[str]) -> None:
    """Another path, one below a route's, or a method that the route does not have: that is what a team writes."""
    gateway.api.api_route(path, methods=methods)(lambda: "fine")
    gateway.validate()


@pytest.mark.parametrize("decorator", ["cost", "charge"])
def test_costs_name_a_route_and_a_limit(tmp_path: Path, decorator: str) -> None:
    """A cost for a route or a limit that is not there is refused where it is registered, with the nearest name."""
    file = tmp_path / "propylon.yaml"
    file.write_text(
        "services: {main: {url: 'http://127.0.0.1:9'}}\n"
        "routes: [{name: orders, path: /a, service: main, auth: none,"
        " rate_limit: {name: per-day, rate: 9/d}}]\n"
    )
    put = getattr(Gateway.from_file(file, {}), decorator)
    with pytest.raises(ValueError, match='no route "oders"; did you mean "orders"'):
        put("oders")
    with pytest.raises(ValueError, match='has no limit "perday"; did you mean "per-day"'):
        put("orders", limit="perday")
    with pytest.raises(TypeError, match="needs the name of a route"):
        put(lambda: 1)

    async def function(*_: object) -> int:
        return 1

    assert put("orders", limit="per-day")(function) is function
