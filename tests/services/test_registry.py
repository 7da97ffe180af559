"""The registry: who may register, once each, for how long; and what a reload leaves of it."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from propylon.errors import InvalidRequest, NotFound
from propylon.services import registry as module
from propylon.services.admission import ALL_SERVICES, Admission, Allowed
from propylon.services.fleet import Fleet
from propylon.services.instance import HealthRules, Instance
from propylon.services.registration import Registered
from propylon.services.registry import keep_sweeping
from propylon.upstream.dial import Address
from tests.proxy.doubles import Asked, run
from tests.services.registrar import ALLOW, Names, World, said
from tests.support.examples import examples


def reason(refusal: pytest.ExceptionInfo[InvalidRequest]) -> str:
    """What is wrong with the host; the answer is a 400."""
    assert (refusal.value.status, refusal.value.code) == (400, "INVALID_REQUEST")
    fields = refusal.value.details["fields"]
    assert isinstance(fields, dict)
    assert list(fields) == ["host"]
    return str(fields["host"])


# Coming


def test_an_instance_registers() -> None:
    """It is asked at once, probed as it says, and its connections are its own."""
    world = World()
    done = world.register(port=8001, check_endpoint="/up", check_interval=5.0, metadata={"a": 1})
    assert (done.created, done.status, done.lease) == (True, "starting", None)
    assert world.find("orders").fleet.candidates() == (done.instance,)
    assert (done.instance.id, done.instance.host) == ("10.0.0.1:8001", b"10.0.0.1:8001")
    assert (done.instance.source, done.instance.metadata) == ("registered", {"a": 1})
    assert world.watcher.watched == {done.instance: HealthRules(path=b"/up", interval=5.0)}
    assert [pool.probing for pool in world.pools] == [False, True]
    assert (done.instance.upstream, done.instance.probe) == tuple(world.pools)
    assert {pool.address for pool in world.pools} == {Address("10.0.0.1", 8001)}


@pytest.mark.parametrize(
    ("host", "port", "name", "header"),
    [
        ("10.0.0.1", 80, "10.0.0.1:80", b"10.0.0.1"),
        ("10.0.0.1", 8080, "10.0.0.1:8080", b"10.0.0.1:8080"),
        ("orders.internal", 80, "orders.internal:80", b"orders.internal"),
        ("fd00::1", 80, "[fd00::1]:80", b"[fd00::1]"),
        ("fd00::1", 8000, "[fd00::1]:8000", b"[fd00::1]:8000"),
    ],
)
def test_names_of_instances(host: str, port: int, name: str, header: bytes) -> None:
    """`host:port`; the Host header leaves out the default port."""
    instance = World("10.0.0.0/8", "fd00::/8").register(host=host, port=port).instance
    assert (instance.id, instance.host) == (name, header)


def test_the_same_again() -> None:
    """It is there once; nothing is opened anew, nothing that is known is lost."""
    world = World()
    first = world.register()
    first.instance.state.status = "healthy"
    again = world.register()
    assert (again.created, again.status) == (False, "healthy")
    assert again.instance is first.instance
    assert (world.ids(), len(world.pools)) == (["10.0.0.1:80"], 2)


def test_the_same_with_other_settings() -> None:
    """They are taken over; what is known of it stays."""
    world = World()
    first = world.register()
    first.instance.state.status = "unhealthy"
    again = world.register(check_endpoint="/up", check_interval=3.0, metadata={"b": 2})
    assert (again.created, again.status, again.instance.metadata) == (False, "unhealthy", {"b": 2})
    assert world.watcher.watched == {again.instance: HealthRules(path=b"/up", interval=3.0)}
    assert again.instance.upstream is first.instance.upstream
    assert (world.ids(), len(world.pools), [pool.closed for pool in world.pools]) == (
        ["10.0.0.1:80"],
        2,
        [0, 0],
    )


def test_many_at_once() -> None:
    """However many register the same at the same moment, one is first."""
    world = World(names=Names(orders_internal=["10.0.0.9"]))
    addresses = world.names.addresses

    async def slowly(host: str) -> Sequence[str]:
        await asyncio.sleep(0)
        return await addresses(host)

    world.names.addresses = slowly  # type: ignore[method-assign]

    async def main() -> list[Registered]:
        one = said(host="orders.internal")
        return await asyncio.gather(*(world.registry.register(one) for _ in range(20)))

    done = asyncio.run(main())
    assert [one.created for one in done].count(True) == 1
    assert (world.ids(), len(world.pools)) == (["orders.internal:80"], 2)


def test_thresholds_are_the_services() -> None:
    """What a registration does not say, the service does."""
    world = World()
    rules = HealthRules(healthy_after=2, unhealthy_after=3, timeout=0.5)
    world.registry.apply([world.service("orders", health=rules)], world.admission(*ALLOW), None)
    done = world.register(check_endpoint="/up")
    assert done.instance.health == dataclasses.replace(rules, path=b"/up")


def test_an_instance_of_the_configuration_registers() -> None:
    """It is there already, and stays what was written down."""
    world = World(ttl=10.0)
    written = Instance("10.0.0.1:80", b"a", b"/base", Asked())
    world.registry.apply([world.service("orders", written)], world.admission(*ALLOW), 10.0)
    done = world.register(metadata={"a": 1})
    assert (done.created, done.instance, done.lease) == (False, written, None)
    assert world.registry.heartbeat("orders", "10.0.0.1:80").lease is None
    with pytest.raises(InvalidRequest, match="it is configured"):
        world.registry.deregister("orders", "10.0.0.1:80")
    world.now += 100
    world.registry.sweep()
    assert (world.ids(), world.pools) == (["10.0.0.1:80"], [])


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all services together; who is there already may come again."""
    monkeypatch.setattr(module, "_MAX_INSTANCES", 3)
    world = World()
    for number in range(3):
        world.register(f"s{number}", port=8000 + number)
    with pytest.raises(InvalidRequest) as refusal:
        world.register("one-more")
    assert "3 registered instances" in reason(refusal)
    assert not world.register("s0", port=8000).created
    assert [service.name for service in world.registry.services()] == ["orders", "s0", "s1", "s2"]
    world.registry.deregister("s0", "10.0.0.1:8000")
    assert world.register("one-more").created


# Services that nobody wrote down


def test_an_unknown_service_begins_and_ends_with_its_instances() -> None:
    """It is there as long as it has some; whoever lists services hears of it."""
    world = World()
    world.register("new")
    world.register("new", "10.0.0.2")
    assert world.ids("new") == ["10.0.0.1:80", "10.0.0.2:80"]
    world.registry.deregister("new", "10.0.0.1:80")
    world.registry.deregister("new", "10.0.0.2:80")
    assert world.changes == [["orders"], ["orders", "new"], ["orders"]]
    assert world.probed == []


def test_a_service_that_is_written_down_stays_without_instances() -> None:
    """It answers 503 until one registers."""
    world = World()
    assert world.find("orders").fleet.candidates() == ()
    world.register()
    world.registry.deregister("orders", "10.0.0.1:80")
    assert world.find("orders").fleet.candidates() == ()
    assert world.changes == [["orders"]]


# Who may


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("11.0.0.1", "registry.allow does not name 11.0.0.1"),
        ("evil.example", "registry.allow does not name evil.example (192.0.2.1)"),
        ("half.example", "registry.allow does not name half.example (192.0.2.1)"),
        ("nowhere.internal", "nowhere.internal does not resolve"),
        ("169.254.169.254", "169.254.169.254 is an address that is never registered"),
        ("meta.internal", "meta.internal (169.254.169.254) is an address that is never registered"),
        ("fe80::1", "fe80::1 is an address that is never registered"),
        ("127.0.0.1", "registry.allow does not name 127.0.0.1"),
        ("local.internal", "registry.allow does not name local.internal (127.0.0.1)"),
        ("2852039166", "write the address in full"),
        ("127.1", "write the address in full"),
        ("10.1", "write the address in full"),
        ("0x0a000001", "write the address in full"),
        ("metadata.google.internal", "a cloud's metadata service is never registered"),
    ],
)
def test_who_may_not(host: str, why: str) -> None:
    """Nobody is taken in, nothing is opened, and the reason names the key to set."""
    names = Names(
        evil_example=["192.0.2.1"],
        half_example=["10.0.0.1", "192.0.2.1"],
        meta_internal=["10.0.0.1", "169.254.169.254"],
        local_internal=["127.0.0.1"],
    )
    names.answers |= {"metadata.google.internal": ["10.0.0.1"], "127.1": ["10.0.0.1"]}
    world = World(names=names)
    with pytest.raises(InvalidRequest) as refusal:
        world.register("new", host)
    assert reason(refusal).startswith(why)
    assert (world.pools, world.changes) == ([], [["orders"]])


def test_nobody_may_without_rules() -> None:
    """The default lets nobody in, and says which key does."""
    world = World()
    world.registry.apply([], world.admission(), None)
    with pytest.raises(InvalidRequest) as refusal:
        world.register()
    assert reason(refusal) == "registry.allow is empty, so no host may register"


def test_nothing_is_looked_up_in_vain() -> None:
    """A name that no rule could let in is asked about nowhere."""
    world = World("*.internal", names=Names(evil_example=["10.0.0.1"]))
    with pytest.raises(InvalidRequest):
        world.register(host="evil.example")
    assert world.names.asked == []


@pytest.mark.parametrize("allow", ["127.0.0.0/8", "127.0.0.1"])
def test_this_host_by_name(allow: str) -> None:
    """Who names loopback means it."""
    world = World(allow, names=Names(a_example=["127.0.0.1"]))
    assert world.register(host="127.0.0.1", port=9000).created
    assert world.register(host="a.example", port=9000).created


def test_localhost_by_name() -> None:
    """Both of its addresses; but no other name that leads there."""
    world = World("localhost", "*.example", names=Names(localhost=["::1", "127.0.0.1"]))
    world.names.answers["a.example"] = ["127.0.0.1"]
    assert world.register(host="localhost").created
    with pytest.raises(InvalidRequest):
        world.register(host="a.example")
    with pytest.raises(InvalidRequest):
        World("*", "0.0.0.0/0", "::/0", names=world.names).register(host="localhost")


def test_the_gateway_itself() -> None:
    """It would ask itself for ever; another port of its host is somebody else."""
    world = World(ours=[("10.0.0.1", 8000)], names=Names(gateway_internal=["10.0.0.1"]))
    for host in ("10.0.0.1", "gateway.internal"):
        with pytest.raises(InvalidRequest) as refusal:
            world.register(host=host, port=8000)
        assert reason(refusal).endswith("is the gateway itself")
    assert world.register(host="10.0.0.1", port=8001).created


def test_every_connection_checks_again() -> None:
    """What a name led to when it registered is no promise."""
    world = World("10.0.0.0/8", "*.internal")
    world.register(host="orders.internal")
    world.register(host="10.0.0.1")
    for pool in world.pools[
        :2
    ]:  # a glob names the host: its addresses may be any but the forbidden
        assert pool.permit("10.0.0.9")
        assert pool.permit("192.0.2.1")
        assert not pool.permit("169.254.169.254")
        assert not pool.permit("127.0.0.1")
    for pool in world.pools[2:]:
        assert pool.permit("10.0.0.1")
        assert not pool.permit("192.0.2.1")


# Staying


def test_a_lease_is_renewed_by_heartbeats() -> None:
    """Each is good for the whole time; without one the instance leaves, and its probes with it."""
    world = World(ttl=10.0)
    assert world.register().lease == 10.0
    for _ in range(5):
        world.now += 9.5
        world.registry.sweep()
        assert world.registry.lease("orders", "10.0.0.1:80") == 0.5
        assert world.registry.heartbeat("orders", "10.0.0.1:80").lease == 10.0
    world.now += 9.99
    world.registry.sweep()
    assert (world.ids(), world.probed) == (["10.0.0.1:80"], ["10.0.0.1:80"])
    instance = world.find("orders").instances[0]
    world.now += 0.01
    world.registry.sweep()
    assert (world.ids(), world.probed, instance.state.status) == ([], [], "stopped")
    assert [pool.closed for pool in world.pools] == [1, 1]
    with pytest.raises(NotFound):
        world.registry.heartbeat("orders", "10.0.0.1:80")


def test_registering_again_renews_the_lease() -> None:
    """With the same settings or others."""
    world = World(ttl=10.0)
    world.register()
    world.now += 9
    assert world.register().lease == 10.0
    world.now += 9
    assert world.register(check_interval=7.0).lease == 10.0
    world.now += 9
    world.registry.sweep()
    assert world.ids() == ["10.0.0.1:80"]


def test_without_a_ttl_nobody_leaves() -> None:
    """Probes alone decide; heartbeats are taken all the same."""
    world = World()
    world.register()
    world.now += 1e9
    world.registry.sweep()
    standing = world.registry.heartbeat("orders", "10.0.0.1:80")
    assert (standing.lease, standing.status, world.ids()) == (None, "starting", ["10.0.0.1:80"])


def test_a_service_ends_with_its_last_lease(caplog: pytest.LogCaptureFixture) -> None:
    """One that nobody wrote down; and the log says why."""
    world = World(ttl=10.0)
    world.register("new")
    world.now += 10
    world.registry.sweep()
    assert world.changes[-1] == ["orders"]
    assert 'instance 10.0.0.1:80 of "new" is removed: it sent no heartbeat' in caplog.text


def test_sweeping_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, until it is cancelled."""
    monkeypatch.setattr(module, "SWEEP_EVERY", 0.005)
    world = World(ttl=10.0)
    world.register()

    async def main() -> None:
        task = asyncio.create_task(keep_sweeping(world.registry))
        await asyncio.sleep(0.02)
        assert world.ids() == ["10.0.0.1:80"]
        world.now += 1000
        async with asyncio.timeout(10):
            while world.ids():
                await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# Going


def test_an_instance_deregisters() -> None:
    """Nobody asks or probes it any more; what it has in hand is its connections' business."""
    world = World()
    world.register()
    world.register(host="10.0.0.2")
    world.registry.deregister("orders", "10.0.0.1:80")
    assert (world.ids(), world.probed) == (["10.0.0.2:80"], ["10.0.0.2:80"])
    assert [pool.closed for pool in world.pools] == [1, 1, 0, 0]
    with pytest.raises(NotFound):
        world.registry.deregister("orders", "10.0.0.1:80")


@pytest.mark.parametrize(
    ("service", "instance_id"),
    [("orders", "10.0.0.2:80"), ("nothing", "10.0.0.1:80"), ("", ""), ("orders", "../x")],
)
def test_unknown(service: str, instance_id: str) -> None:
    """404, with what was asked for."""
    world = World()
    world.register()
    for act in (world.registry.heartbeat, world.registry.deregister):
        with pytest.raises(NotFound) as missing:
            act(service, instance_id)
        assert missing.value.details == {"service": service, "instance_id": instance_id}
    assert world.ids() == ["10.0.0.1:80"]


def test_one_that_comes_back_begins_anew() -> None:
    """With new connections, and tried before its first probe."""
    world = World()
    world.register().instance.state.status = "failed"
    world.registry.deregister("orders", "10.0.0.1:80")
    again = world.register()
    assert (again.created, again.status) == (True, "starting")
    assert world.find("orders").fleet.candidates() == (again.instance,)
    assert [pool.closed for pool in world.pools] == [1, 1, 0, 0]


def test_closing() -> None:
    """Every connection to what has registered."""
    world = World()
    world.register()
    world.register("new")
    world.registry.close()
    assert [pool.closed for pool in world.pools] == [1] * 4


def test_who_registered() -> None:
    """As they said it last."""
    world = World()
    world.register()
    world.register("new", port=8000)
    world.register(check_interval=5.0)
    assert world.registry.registrations() == (said(check_interval=5.0), said("new", port=8000))


# Reloading


def reloaded(
    world: World, *instances: Instance, allow: Sequence[str] = ALLOW, **rest: Any
) -> Fleet:
    """Adopt a new configuration as a reload does; return the new fleet of "orders"."""
    old = world.find("orders").fleet
    ttl = rest.pop("ttl", None)
    new = world.after(old, "orders", *instances, **rest)
    world.registry.apply([new], world.admission(*allow), ttl)
    return new.fleet


def test_what_registered_survives_a_reload() -> None:
    """With its connections, and what is known of it."""
    world = World()
    done = world.register()
    world.register("new")
    done.instance.state.status = "unhealthy"
    fleet = reloaded(world, Instance("10.0.0.5:80", b"a", b"", Asked()))
    assert world.find("orders").fleet is fleet
    kept = fleet.find("10.0.0.1:80")
    assert kept is done.instance
    assert [one.id for one in fleet.candidates()] == ["10.0.0.5:80"]
    assert (world.ids("new"), sorted(world.probed)) == (["10.0.0.1:80"], ["10.0.0.1:80"] * 2)
    assert {pool.closed for pool in world.pools} == {0}
    world.registry.deregister("orders", "10.0.0.1:80")
    assert world.ids() == ["10.0.0.5:80"]


def test_a_fleet_that_did_not_carry_anything_over() -> None:
    """Then the registry puts it in."""
    world = World()
    done = world.register(metadata={"a": 1})
    world.registry.apply([world.service("orders")], world.admission(*ALLOW), None)
    (found,) = world.find("orders").instances
    assert (found.id, found.metadata) == ("10.0.0.1:80", {"a": 1})
    assert found.upstream is done.instance.upstream


def test_what_the_file_names_is_the_files() -> None:
    """The registration ends, its connections are closed, the instance stays."""
    world = World(ttl=10.0)
    world.register()
    written = Instance("10.0.0.1:80", b"a", b"", Asked())
    fleet = reloaded(world, written, ttl=10.0)
    world.now += 100
    world.registry.sweep()
    assert [one.source for one in fleet.instances] == ["configured"]
    assert [pool.closed for pool in world.pools] == [1, 1]
    assert world.registry.lease("orders", "10.0.0.1:80") is None


def test_a_service_is_written_down() -> None:
    """Its instances move into it, and are probed there only."""
    world = World()
    world.register("new")
    before = world.find("new").fleet
    world.registry.apply(
        [world.service("orders"), world.service("new")], world.admission(*ALLOW), None
    )
    assert world.find("new").fleet is not before
    assert (world.ids("new"), world.probed) == (["10.0.0.1:80"], ["10.0.0.1:80"])
    assert world.changes[-1] == ["orders", "new"]
    world.registry.deregister("new", "10.0.0.1:80")
    assert world.ids("new") == []


def test_a_service_is_written_down_no_more() -> None:
    """What registered goes on without a route."""
    world = World()
    world.register()
    world.find("orders").fleet.watch(None)  # as whoever takes a service out of force does
    world.registry.apply([], world.admission(*ALLOW), None)
    assert (world.ids(), world.probed) == (["10.0.0.1:80"], ["10.0.0.1:80"])
    world.registry.deregister("orders", "10.0.0.1:80")
    assert world.registry.services() == ()


def test_stricter_rules(caplog: pytest.LogCaptureFixture) -> None:
    """Who may no longer register leaves, and its connections may be made no more."""
    world = World("10.0.0.0/8", "*.internal", "192.0.2.0/24")
    world.register()
    world.register(host="orders.internal")
    world.register("new", host="192.0.2.1")
    reloaded(world, allow=["10.0.0.0/16"])
    assert sorted(world.ids()) == ["10.0.0.1:80", "orders.internal:80"]
    assert [one.name for one in world.registry.services()] == ["orders"]
    assert 'instance 192.0.2.1:80 of "new" is removed: registry.allow' in caplog.text
    assert [pool.closed for pool in world.pools] == [0, 0, 0, 0, 1, 1]
    assert not world.pools[4].permit("192.0.2.1")
    assert not world.pools[2].permit("10.1.0.1")
    reloaded(world, allow=[])
    assert (world.ids(), world.probed) == ([], [])


@pytest.mark.parametrize("names", [[], ["orders"]])
def test_stricter_rules_and_other_services(names: list[str]) -> None:
    """Who may no longer register leaves, wherever the service has gone."""
    world = World()
    world.register()
    world.find("orders").fleet.watch(None)
    world.registry.apply(map(world.service, names), world.admission("192.0.2.1"), None)
    assert [one.name for one in world.registry.services()] == names
    assert (world.registry.registrations(), world.probed) == ((), [])
    assert [pool.closed for pool in world.pools] == [1, 1]


def test_rules_that_know_no_gateway() -> None:
    """Where nobody says where it listens, every address is somebody else's."""
    rules = Admission({ALL_SERVICES: Allowed(["10.0.0.0/8"])}, Names())
    assert run(rules.admit("orders", "10.0.0.1", 80)) == ("10.0.0.1",)
    assert rules.still_admits("orders", "10.0.0.1", 80, ["10.0.0.1"])
    assert not rules.still_admits("orders", "10.0.0.1", 80, ["11.0.0.1"])


@pytest.mark.parametrize(
    ("before", "after", "lease"),
    [(None, 5.0, 5.0), (5.0, None, None), (20.0, 5.0, 5.0), (5.0, 20.0, 3.0)],
)
def test_another_ttl(before: float | None, after: float | None, lease: float | None) -> None:
    """It holds at once, and prolongs nothing before the next heartbeat."""
    world = World(ttl=before)
    world.register()
    world.now += 2
    reloaded(world, ttl=after)
    assert world.registry.lease("orders", "10.0.0.1:80") == lease
    assert world.registry.heartbeat("orders", "10.0.0.1:80").lease == after


def test_other_thresholds() -> None:
    """A registered instance is probed by the new ones of its service."""
    world = World()
    world.register()
    reloaded(world, health=HealthRules(unhealthy_after=4))
    (rules,) = world.watcher.watched.values()
    assert rules.unhealthy_after == 4


# Anything in any order


class RegistryMachine(RuleBasedStateMachine):
    """Instances come, beat, go and are forgotten, over reloads that change the rules."""

    SERVICES = st.sampled_from(["orders", "users", "new"])
    HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "11.0.0.1"])

    def __init__(self) -> None:
        super().__init__()
        self.world = World("10.0.0.0/8", "11.0.0.0/8", ttl=10.0, written=("orders", "users"))
        self.known: dict[tuple[str, str], float] = {}
        self.allowed = {"10.0.0.1", "10.0.0.2", "11.0.0.1"}

    @rule(service=SERVICES, host=HOSTS, interval=st.sampled_from([1.0, 2.0]))
    def register(self, service: str, host: str, interval: float) -> None:
        """Once more, or for the first time."""
        key = (service, f"{host}:80")
        if host not in self.allowed:
            with pytest.raises(InvalidRequest):
                self.world.register(service, host)
            return
        done = self.world.register(service, host, check_interval=interval)
        assert done.created == (key not in self.known)
        self.known[key] = self.world.now + 10

    @rule(service=SERVICES, host=HOSTS, leave=st.booleans())
    def speak(self, service: str, host: str, *, leave: bool) -> None:
        """Send a heartbeat, or leave."""
        key = (service, f"{host}:80")
        act = self.world.registry.deregister if leave else self.world.registry.heartbeat
        if key not in self.known:
            with pytest.raises(NotFound):
                act(*key)
            return
        act(*key)
        self.known[key] = self.world.now + 10
        if leave:
            del self.known[key]

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        """Time goes by, and somebody sweeps."""
        self.world.now += seconds
        self.world.registry.sweep()
        now = self.world.now
        self.known = {key: until for key, until in self.known.items() if until > now}

    @rule(names=st.sets(st.sampled_from(["orders", "users", "new"])), wide=st.booleans())
    def reload(self, names: set[str], *, wide: bool) -> None:
        """Other services, other rules."""
        world = self.world
        before = {service.name: service.fleet for service in world.registry.services()}
        services = [world.after(before.get(name), name) for name in sorted(names)]
        for name, fleet in before.items():
            if name not in names and name in world.registry._configured:
                fleet.watch(None)
        allow = ["10.0.0.0/8", "11.0.0.0/8"] if wide else ["10.0.0.0/8"]
        world.registry.apply(services, world.admission(*allow), 10.0)
        self.allowed = {"10.0.0.1", "10.0.0.2"} | ({"11.0.0.1"} if wide else set())
        self.known = {
            key: until for key, until in self.known.items() if key[1][:-3] in self.allowed
        }

    @invariant()
    def agreed(self) -> None:
        """Who is there is who registered; each is probed, once; the others' connections are closed."""
        found = [
            (service.name, instance.id)
            for service in self.world.registry.services()
            for instance in service.instances
        ]
        assert sorted(found) == sorted(self.known)
        assert sorted(self.world.probed) == sorted(instance_id for _, instance_id in self.known)
        open_pools = {id(pool) for pool in self.world.pools if not pool.closed}
        used = {
            id(pool)
            for service in self.world.registry.services()
            for instance in service.instances
            for pool in (instance.upstream, instance.probe)
        }
        assert open_pools == used
        assert all(pool.closed <= 1 for pool in self.world.pools)

    @invariant()
    def no_empty_services(self) -> None:
        """One that nobody wrote down has instances."""
        assert all(service.instances for service in self.world.registry._dynamic.values())
        assert self.world.changes[-1] == [one.name for one in self.world.registry.services()]


TestAnythingInAnyOrder = RegistryMachine.TestCase
TestAnythingInAnyOrder.settings = examples(40, stateful_step_count=25, report_multiple_bugs=False)
