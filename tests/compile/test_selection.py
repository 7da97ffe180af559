"""What chooses the instance of a request, compiled: hashes, sticky cookies and queues."""

from typing import Any

import pytest

from propylon.assembly.carry import ServiceSet
from propylon.compile.callees import Callees
from propylon.compile.table import Compiled
from propylon.config.models.schema import GatewayConfig
from propylon.loop.slices import at_once
from propylon.proxy.exchange import Exchange
from propylon.proxy.queue import Queue
from propylon.proxy.route import Route
from propylon.proxy.select import ByKey
from propylon.proxy.sticky import StickyInstance
from propylon.services.service import Service
from tests.compile.compiled import World
from tests.compile.test_reuse import DEPENDENCIES
from tests.proxy.doubles import STILL, Client, request

SECRET = "k3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5w"
AT = {"cookie": "at", "secret": SECRET}


def world(**of_service: Any) -> World:
    """A route to one service."""
    written = {"orders": {"url": "http://orders:8000", **of_service}}
    return World(
        {"services": written, "routes": [{"path": "/a", "auth": "none", "service": "orders"}]}
    )


def test_a_service_without_all_that_costs_nothing() -> None:
    """Its balance chooses, and nobody waits."""
    route = world(balance="random", slow_start="30s").route
    assert (route.select, route.queue, route.hide) == (None, None, None)


def test_each_stands_on_the_one_below_it() -> None:
    """The queue asks the cookie, and the cookie asks the hash."""
    route = world(balance={"hash": "caller"}, sticky=AT, max_in_flight=3).route
    queue = route.select
    assert isinstance(queue, Queue)
    assert route.queue == queue.enter
    assert isinstance(queue.inner, StickyInstance)
    assert isinstance(queue.inner.fresh, ByKey)
    assert queue.room is route.service.room


def test_calls_of_endpoints_wait_too() -> None:
    """They take places, and go by the hash; they have no cookie."""
    at = world(balance={"hash": "caller"}, sticky=AT, max_in_flight=3)
    callees = Callees(STILL)
    callees.apply(Compiled(at.table, config=at.config))
    callee = callees.of("orders")
    assert callee is not None
    queue = callee.route.select
    assert isinstance(queue, Queue)
    assert callee.route.queue == queue.enter
    assert isinstance(queue.inner, ByKey)
    assert queue.room is at.services["orders"].room


@pytest.mark.parametrize(
    ("sticky", "expected"),
    [
        ({}, "; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"max_age": "1h", "same_site": "strict"},
            "; Path=/; HttpOnly; SameSite=Strict; Max-Age=3600",
        ),
        ({"path": "/shop", "http_only": False}, "; Path=/shop; SameSite=Lax"),
        ({"same_site": "none", "secure": True}, "; Path=/; HttpOnly; SameSite=None; Secure"),
    ],
)
def test_attributes_of_the_cookie(sticky: dict[str, Any], expected: str) -> None:
    """As they are written; and the service does not get the cookie."""
    route = world(sticky={**AT, **sticky}).route
    assert line(route).endswith(expected)
    assert route.hide is not None
    assert route.hide(b"\r\nCookie: a=1; at=2\r\nX: y") == b"\r\nCookie: a=1\r\nX: y"
    assert route.hide(b"\r\nCookie: at=2\r\nX: y") == b"\r\nX: y"


def line(route: Route) -> str:
    """How the first answer sets the cookie."""
    asked = request()
    exchange = Exchange(asked, Client(), b"0" * 80, 0.0)
    assert route.select is not None
    route.select.choose(exchange, asked, route.service.instances)
    return exchange.lines.decode().partition("at=")[2]


def test_whose_secret_it_is() -> None:
    """Its own, else one that is made from that of tokens; each service has a key of its own."""
    own = line(world(sticky=AT).route)
    assert own == line(world(sticky=AT).route)
    routes = [{"path": "/a", "auth": "none", "service": "orders"}]
    services = {"orders": {"url": "http://orders:8000", "sticky": {"cookie": "at"}}}
    jwt = {"secret": [SECRET, SECRET[::-1]]}
    of_tokens = World({"auth": {"jwt": jwt}, "services": services, "routes": routes}).route
    assert line(of_tokens) == own
    other = {"items": {"url": "http://orders:8000", "sticky": AT}}
    to_other = World({"services": other, "routes": [{**routes[0], "service": "items"}]}).route
    assert line(to_other) != own


def services(before: ServiceSet | None = None, **more: Any) -> ServiceSet:
    """One with a queue, in force."""
    written = {"orders": {"url": "http://orders:8000", **more}}
    config = GatewayConfig.model_validate({"services": written})
    planned = at_once((before or ServiceSet()).plan(config.services, DEPENDENCIES))
    if before is not None:
        planned.apply(before)
    return planned


def of(one: ServiceSet) -> Service:
    """The service."""
    return one.by_name["orders"]


def test_a_reload_carries_places_and_the_line_over() -> None:
    """Under the new bound; a service whose bound is new begins with an empty line."""
    first = services(max_in_flight=2)
    of(first).instances[0].state.in_flight = 2
    second = services(first, max_in_flight=3)
    old, new = of(first).room, of(second).room
    assert old is not None
    assert new is not None
    assert (old.most, new.most) == (2, 3)
    assert new._line is old._line
    assert [one.state.in_flight for one in of(second).instances] == [2]
    assert of(services(second)).room is None


def test_an_instance_that_comes_back_wakes_the_line() -> None:
    """Whatever is heard of an instance, somebody may have room now."""
    service = of(services(max_in_flight=1))
    assert service.room is not None
    woken: list[int] = []
    service.room._line.append([_Waits(woken)])  # type: ignore[arg-type]
    service.fleet.drain(service.instances[0], drained=True)
    assert woken == [1]


class _Waits:
    """A request that waits."""

    def __init__(self, woken: list[int]) -> None:
        self.woken = woken

    def wants(self) -> bool:
        """It may have a place."""
        return True

    def set(self, _: None) -> None:
        """It goes on."""
        self.woken.append(1)
