"""A table that is made after another one keeps the routes that would come out the same, and no others."""

from collections.abc import Callable
from typing import Any

from propylon.assembly.carry import ServiceSet
from propylon.compile.routes import Parts
from propylon.compile.services import Dependencies
from propylon.compile.table import Compiled, compile_slowly, compile_table
from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.models.schema import GatewayConfig
from propylon.loop.slices import at_once
from propylon.proxy.principal import Principal
from propylon.proxy.route import Before, Route
from propylon.wire.message import Request
from tests.proxy.doubles import STILL, Asked
from tests.proxy.limited import limiting

WRITTEN: dict[str, Any] = {
    "services": {"orders": {"url": "http://orders:8000"}, "items": {"url": "http://items:8000"}},
    "routes": [
        {"path": "/orders", "service": "orders", "hosts": ["a.example", "b.example"]},
        {"path": "/items", "service": "items"},
        {"path": "/items/{id}", "service": "items", "timeouts": {"total": "7s"}},
    ],
}
UP = Asked()
OWN = Asked()
DEPENDENCIES = Dependencies(lambda _address, _limit: UP, lambda: 0.0)


def config(**changed: Any) -> GatewayConfig:
    """A configuration with two services."""
    return GatewayConfig.model_validate({**WRITTEN, **changed})


def parts(written: GatewayConfig, **changed: Any) -> Parts:
    """What its table is made of."""
    given = {"endpoints": builtin_endpoints(written.prefix, written.auth), **changed}
    return Parts(OWN, given.pop("forward", STILL), **given)


class World:
    """A configuration in force, and the next ones."""

    def __init__(self, **some: Any) -> None:
        self.config = config()
        self.services = at_once(ServiceSet().plan(self.config.services, DEPENDENCIES))
        self.first = self.next(self.config, None, **some)

    def next(self, written: GatewayConfig, before: Compiled | None, **some: Any) -> Compiled:
        """Compile a configuration after another one."""
        work = compile_slowly(written, parts(written, **some), self.services.by_name, before)
        return at_once(work)

    def kept(self, written: GatewayConfig | None = None, **some: Any) -> list[bool]:
        """Whether each of the file's routes is the very same as before."""
        after = self.next(written or self.config, self.first, **some)
        olds = set(map(id, self.first.table.routes))
        return [id(route) in olds for route in of_file(after)]


def of_file(compiled: Compiled) -> list[Route]:
    """The routes that were written."""
    return [route for route in compiled.table.routes if not route.service.builtin]


def test_nothing_changed() -> None:
    """Every route is the same, the gateway's own too, and so are the places in the table."""
    world = World()
    after = world.next(world.config, world.first)
    assert all(map(lambda a, b: a is b, after.table.routes, world.first.table.routes))
    assert len(after.table.routes) == len(world.first.table.routes)
    assert after.table._anywhere is world.first.table._anywhere


def test_one_route_changed() -> None:
    """Only that one is made again."""
    world = World()
    first, second, third = world.config.routes
    second = second.model_copy(update={"max_body": 5})
    changed = world.config.model_copy(update={"routes": (first, second, third)})
    assert world.kept(changed) == [True, True, False, True]
    assert of_file(world.next(changed, world.first))[2].max_body == 5


def test_order_and_number() -> None:
    """A route is known wherever it stands, and a new one between others harms none."""
    world = World()
    new = world.config.routes[1].model_copy(update={"path": "/new"})
    first, second, third = world.config.routes
    changed = world.config.model_copy(update={"routes": (third, new, first)})
    assert world.kept(changed) == [True, False, True, True]
    assert world.kept(world.config.model_copy(update={"routes": (second,)})) == [True]


def test_another_service_object() -> None:
    """The routes to it are made again: they hold its breaker, its instances and its timeouts."""
    world = World()
    changed = config(services={**WRITTEN["services"], "items": {"url": "http://other:1"}})
    world.services = at_once(world.services.plan(changed.services, DEPENDENCIES))
    assert world.kept() == [True, True, False, False]


def test_the_basis() -> None:
    """Routes that rest on something else that has changed are all made again."""
    world = World()
    for some in (
        {"forward": object()},
        {"override": Principal("alice")},
        {"endpoints": ()},
        {"limits": limiting()},
        {"stages": dict(parts(world.config).stages) | {"none": object()}},
    ):
        assert world.kept(**some) == [False] * 4, some
    for key, value in {
        "server": {"max_body": 9},
        "cors": {"origins": ["https://a.example"]},
        "defaults": {"rate_limit": {"rate": "9/s"}},
        "tls": {"certificate": "a", "key": "b", "clients": {"ca": "c"}},
    }.items():
        changed = config(**{key: value}).model_copy(update={"routes": world.config.routes})
        assert world.kept(changed) == [False] * 4, key


def policy(seen: list[float] | None = None) -> Callable[[float], Before]:
    """A policy stage for each total time, the same one for the same time."""
    made: dict[float, Before] = {}

    def compose(total: float) -> Before:
        async def before(request: Request, principal: Principal) -> None: ...

        if seen is not None:
            seen.append(total)
        return made.setdefault(total, before)

    return compose


def test_policies() -> None:
    """A route is made again when it gets a policy, another one or none; others stay."""
    one, other = policy(), policy()
    world = World(policies={"/items": one})
    assert world.kept(policies={"/items": one}) == [True] * 4
    assert world.kept(policies={"/items": other}) == [True, True, False, True]
    assert world.kept() == [True, True, False, True]
    assert world.kept(policies={"/items": one, "/orders": other}) == [False, False, True, True]
    after = world.next(world.config, world.first, policies={"/items": other})
    assert of_file(after)[2].before is other(of_file(after)[2].timeouts.total)


def test_a_policy_gets_the_total_time_of_its_route() -> None:
    """The route's own, else its service's; also when it is asked whether it is still the same."""
    seen: list[float] = []
    some = {"policies": {"/items/{id}": policy(seen)}}
    world = World(**some)
    assert seen == [7.0]
    longer = world.config.routes[2].model_copy(
        update={"timeouts": world.config.routes[2].timeouts.model_copy(update={"total": 9.0})}
    )
    changed = world.config.model_copy(update={"routes": (*world.config.routes[:2], longer)})
    assert world.kept(changed, **some) == [True, True, True, False]
    assert set(seen) == {7.0, 9.0}


def test_in_slices_it_is_the_same_table() -> None:
    """A table that grew from another one routes as one that was made alone."""
    world = World()
    new = world.config.routes[1].model_copy(update={"path": "/items/{id}/parts", "exact": True})
    changed = world.config.model_copy(update={"routes": (*world.config.routes[1:], new)})
    after = world.next(changed, world.first).table
    alone = compile_table(changed, parts(changed), world.services.by_name)
    assert [(route.name, route.pattern) for route in after.routes] == [
        (route.name, route.pattern) for route in alone.routes
    ]
