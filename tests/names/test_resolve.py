"""Names that change their addresses: looked up again by TTL, kept while DNS fails, followed."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import ConnectFailed
from propylon.names import resolve
from propylon.names.lookup import Lookup
from propylon.names.nameserver import NameServers
from propylon.names.resolve import LookupResult, Resolver, SrvTarget, split
from tests.names.responder import Responder
from tests.upstream.peer import run, until

NAME = "orders.example"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Told:
    """A source that answers what a test says, when the test says so."""

    def __init__(self, *values: str, ttl: float = 10.0) -> None:
        self.values = values
        self.ttl = ttl
        self.fails = False
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def addresses(self, name: str) -> LookupResult[str]:
        """Answer, or fail."""
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise ConnectFailed("no", reason="nobody answers")
        return LookupResult(self.values, self.ttl)

    async def targets(self, name: str) -> LookupResult[SrvTarget]:
        """Answer with targets of these names."""
        found = await self.addresses(name)
        return LookupResult(tuple(SrvTarget(value, 80) for value in found.values), found.ttl)


def test_an_answer_holds_as_long_as_it_says() -> None:
    """Asked once in the meantime, and anew when it is over."""

    async def main() -> None:
        source, clock = Told("10.0.0.1"), Clock()
        resolver = Resolver(source, clock)
        for _ in range(3):
            assert await resolver.addresses(NAME) == ("10.0.0.1",)
        clock.now += 9.9
        assert (await resolver.addresses(NAME), source.asked) == (("10.0.0.1",), 1)
        source.values = ("10.0.0.2",)
        clock.now += 0.1
        assert (await resolver.addresses(NAME), source.asked) == (("10.0.0.2",), 2)
        assert resolver.known(NAME) == ("10.0.0.2",)
        assert resolver.known("other.example") == ()

    run(main())


@pytest.mark.parametrize(("ttl", "holds"), [(0, 1), (0.5, 1), (30, 30), (600, 60), (2**31 - 1, 60)])
def test_ttls_are_kept_within_bounds(ttl: float, holds: float) -> None:
    """No busy loop, and no name that is stuck for ten minutes."""

    async def main() -> None:
        source, clock = Told("10.0.0.1", ttl=ttl), Clock()
        resolver = Resolver(source, clock)
        await resolver.addresses(NAME)
        clock.now += holds - 0.01
        await resolver.addresses(NAME)
        assert source.asked == 1
        clock.now += 0.02
        await resolver.addresses(NAME)
        assert source.asked == 2

    run(main())


def test_many_who_ask_are_one_question() -> None:
    """Callers share one lookup, and a caller that gives up does not cancel it for the others."""

    async def main() -> None:
        source = Told("10.0.0.1")
        source.gate = asyncio.Event()
        resolver = Resolver(source, Clock())
        asking = [asyncio.create_task(resolver.addresses(NAME)) for _ in range(5)]
        await asyncio.sleep(0.01)
        asking[0].cancel()
        await asyncio.sleep(0)
        source.gate.set()
        assert await asyncio.gather(*asking[1:]) == [("10.0.0.1",)] * 4
        assert source.asked == 1
        with pytest.raises(asyncio.CancelledError):
            await asking[0]

    run(main())


def test_a_failure_that_nobody_waits_for_is_no_complaint() -> None:
    """The only caller has given up when the failure comes: asyncio logs no exception."""

    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, info: complaints.append(info))
        source = Told()
        source.fails, source.gate = True, asyncio.Event()
        resolver = Resolver(source, Clock())
        asking = asyncio.create_task(resolver.addresses(NAME))
        await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.sleep(0)
        source.gate.set()
        await asyncio.sleep(0.01)
        del asking
        assert complaints == []

    run(main())


def test_who_comes_while_it_is_looked_up_takes_what_is_known() -> None:
    """Nothing waits for DNS but the first."""

    async def main() -> None:
        source, clock = Told("10.0.0.1"), Clock()
        resolver = Resolver(source, clock)
        await resolver.addresses(NAME)
        clock.now += 11
        source.gate, source.values = asyncio.Event(), ("10.0.0.2",)
        first = asyncio.create_task(resolver.addresses(NAME))
        await asyncio.sleep(0)
        assert await resolver.addresses(NAME) == ("10.0.0.1",)
        source.gate.set()
        assert await first == ("10.0.0.2",)
        assert source.asked == 2

    run(main())


def test_while_nobody_answers_the_last_addresses_stay(caplog: pytest.LogCaptureFixture) -> None:
    """For as long as that takes; it is tried again now and then, and the log says so."""

    async def main() -> None:
        source, clock = Told("10.0.0.1"), Clock()
        resolver = Resolver(source, clock)
        await resolver.addresses(NAME)
        source.fails = True
        for _ in range(100):
            clock.now += 60
            assert await resolver.addresses(NAME) == ("10.0.0.1",)
        assert source.asked == 101
        clock.now += 1
        await resolver.addresses(NAME)
        assert source.asked == 101
        source.fails, source.values = False, ("10.0.0.2",)
        for _ in range(3):
            clock.now += 60
            assert await resolver.addresses(NAME) == ("10.0.0.2",)

    run(main())
    # An outage of hours is two lines for each name, not one every five seconds.
    begins, ends = (record.getMessage() for record in caplog.records)
    assert begins.startswith(f"{NAME} is not looked up anew")
    assert ends.startswith(f"{NAME} is looked up again")


def test_nobody_answers_from_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """ConnectFailed until a name server answers; a thousand requests do not make a thousand lookups."""

    async def main() -> None:
        source, clock = Told(), Clock()
        source.fails = True
        resolver = Resolver(source, clock)
        for _ in range(2):
            for _ in range(100):
                with pytest.raises(ConnectFailed) as failed:
                    await resolver.addresses(NAME)
                assert failed.value.reason == "nobody answers"
            clock.now += resolve._RETRY
        assert source.asked == 2
        source.fails, source.values = False, ("10.0.0.1",)
        assert await resolver.addresses(NAME) == ("10.0.0.1",)

    run(main())
    begins, ends = (record.getMessage() for record in caplog.records)
    assert begins.startswith(f"{NAME} is not found")
    assert ends.startswith(f"{NAME} is looked up again")


@pytest.mark.parametrize(("ttl", "holds"), [(0, 1), (3, 3), (3600, 5)])
def test_that_there_is_no_such_name_holds_for_a_moment(ttl: float, holds: float) -> None:
    """As long as the zone says, but neither no time nor long."""

    async def main() -> None:
        source, clock = Told(ttl=ttl), Clock()
        resolver = Resolver(source, clock)
        for passed in (0.0, holds - 0.01, 0.0):
            clock.now += passed
            with pytest.raises(ConnectFailed) as failed:
                await resolver.addresses(NAME)
            assert failed.value.reason == f"name lookup of {NAME}: no such name"
            resolver.mark_stale(NAME)
        assert source.asked == 1
        clock.now += 0.02
        source.values = ("10.0.0.1",)
        assert await resolver.addresses(NAME) == ("10.0.0.1",)

    run(main())


def test_who_comes_while_a_lost_name_is_looked_up_is_told_at_once() -> None:
    """It failed a moment ago, and may hang now: no request waits for it."""

    async def main() -> None:
        source, clock = Told(), Clock()
        source.fails = True
        resolver = Resolver(source, clock)
        with pytest.raises(ConnectFailed):
            await resolver.addresses(NAME)
        clock.now += resolve._RETRY
        source.gate = asyncio.Event()
        first = asyncio.create_task(resolver.addresses(NAME))
        await asyncio.sleep(0)
        with pytest.raises(ConnectFailed):
            await resolver.addresses(NAME)
        source.fails, source.values = False, ("10.0.0.1",)
        source.gate.set()
        assert await first == ("10.0.0.1",)
        assert source.asked == 2

    run(main())


def test_a_name_that_is_gone_is_believed_after_a_while() -> None:
    """A mistake in a zone must not end a service at once; coming back ends the count."""

    async def main() -> None:
        source, clock = Told("10.0.0.1"), Clock()
        resolver = Resolver(source, clock)
        await resolver.addresses(NAME)
        source.values = ()
        clock.now += 10
        assert await resolver.addresses(NAME) == ("10.0.0.1",)
        clock.now += resolve._HOLD - 1
        assert await resolver.addresses(NAME) == ("10.0.0.1",)
        source.values = ("10.0.0.2",)
        clock.now += 10
        assert await resolver.addresses(NAME) == ("10.0.0.2",)
        source.values = ()
        clock.now += 10
        assert await resolver.addresses(NAME) == ("10.0.0.2",)
        clock.now += resolve._HOLD
        with pytest.raises(ConnectFailed) as failed:
            await resolver.addresses(NAME)
        assert failed.value.reason == f"name lookup of {NAME}: no such name"
        assert resolver.known(NAME) == ()

    run(main())


def test_doubt() -> None:
    """After a failed connection the next request looks the name up again, but not more than once a second."""

    async def main() -> None:
        source, clock = Told("10.0.0.1", ttl=60), Clock()
        resolver = Resolver(source, clock)
        resolver.mark_stale(NAME)  # never heard of
        await resolver.addresses(NAME)
        source.values = ("10.0.0.2",)
        clock.now += 0.5
        resolver.mark_stale(NAME)
        assert await resolver.addresses(NAME) == ("10.0.0.1",)
        clock.now += 0.5
        resolver.mark_stale(NAME)
        assert await resolver.addresses(NAME) == ("10.0.0.2",)
        assert source.asked == 2

    run(main())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest name is forgotten for a new one."""
    monkeypatch.setattr(resolve, "_MAX_NAMES", 3)

    async def main() -> None:
        source = Told("10.0.0.1")
        resolver = Resolver(source, Clock())
        for number in range(5):
            await resolver.addresses(f"{number}.example")
        assert list(resolver._addresses._entries) == ["2.example", "3.example", "4.example"]

    run(main())


# Following, with a real name server


def following(responder: Responder, servers: NameServers | None = None, **ttls: float) -> Resolver:
    """A resolver that asks this name server, as often as a test can wait."""
    bounds = {"least_ttl": 0.02, "most_ttl": 0.02, **ttls}
    asked = servers or responder.servers()
    return Resolver(Lookup(lambda: asked), asyncio.get_running_loop().time, **bounds)


def test_answers_that_change_are_told() -> None:
    """Each of them is passed to `on_change`, without a request."""

    async def main() -> None:
        async with Responder({(NAME, "A"): ["10.0.0.1"]}) as responder:
            told: list[tuple[str, ...]] = []
            # Long enough for what was told to hold still while it is looked at.
            resolver = following(responder, least_ttl=0.4, most_ttl=0.4)
            task = resolver.follow(NAME, told.append)
            await until(lambda: told)
            responder.records[NAME, "A"] = ["10.0.0.2", "10.0.0.3"]
            await until(lambda: set(told[-1]) == {"10.0.0.2", "10.0.0.3"})
            assert set(told[0]) == {"10.0.0.1"}
            assert set(await resolver.addresses(NAME)) == {"10.0.0.2", "10.0.0.3"}
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_a_ttl_is_waited_for() -> None:
    """A name that holds for a second is not asked for before."""

    async def main() -> None:
        async with Responder({(NAME, "A"): ["10.0.0.1"]}, ttl=1) as responder:
            times: list[float] = []
            resolver = following(responder, most_ttl=60.0)
            resolver.follow(NAME, lambda _: times.append(asyncio.get_running_loop().time()))
            await until(lambda: len(times) == 2)
            assert times[1] - times[0] > 0.9
            resolver.close()

    run(main())


@pytest.mark.parametrize("failing", ["servfail", "silent", "garbage"])
def test_a_server_that_fails_changes_nothing(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told last holds until it is back."""
    monkeypatch.setattr(resolve, "_RETRY", 0.02)

    async def nowhere(host: str) -> LookupResult[str]:
        raise ConnectFailed("no", reason="the system knows no more")

    monkeypatch.setattr("propylon.names.lookup.ask_system", nowhere)

    async def main() -> None:
        async with Responder({(NAME, "A"): ["10.0.0.1"]}) as responder:
            told: list[tuple[str, ...]] = []
            servers = responder.servers()
            resolver = following(responder, servers)
            resolver.follow(NAME, told.append)
            await until(lambda: told)
            servers._resolver.lifetime = servers._resolver.timeout = 0.1
            responder.failing = failing
            count = len(responder.asked)
            await until(lambda: len(responder.asked) > count + 4)
            assert set(told) == {("10.0.0.1",)}
            responder.failing, responder.records = "", {(NAME, "A"): ["10.0.0.9"]}
            await until(lambda: told[-1] == ("10.0.0.9",))
            resolver.close()

    run(main())


def test_a_name_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told as nothing; then it comes."""
    monkeypatch.setattr(resolve, "_RETRY", 0.02)

    async def main() -> None:
        source = Told()
        told: list[tuple[str, ...]] = []
        resolver = Resolver(source, asyncio.get_running_loop().time, least_ttl=0.01)
        resolver.follow(NAME, told.append)
        await until(lambda: len(told) > 1)
        assert set(told) == {()}
        source.values = ("10.0.0.1",)
        await until(lambda: told[-1] == ("10.0.0.1",))
        resolver.close()

    run(main())


def test_services_are_followed() -> None:
    """Their targets are told, and known."""

    async def main() -> None:
        service = "_http._tcp.orders.example"
        async with Responder({(service, "SRV"): ["0 1 80 a.example."]}) as responder:
            told: list[tuple[SrvTarget, ...]] = []
            resolver = following(responder)
            assert resolver.known_targets(service) == ()
            resolver.follow_service(service, told.append)
            await until(lambda: told)
            responder.records[service, "SRV"].append("0 1 81 b.example.")
            await until(lambda: len(told[-1]) == 2)
            assert resolver.known_targets(service) == told[-1]
            assert told[-1] == (SrvTarget("a.example", 80), SrvTarget("b.example", 81))
            resolver.close()

    run(main())


def test_closing_leaves_no_task() -> None:
    """Neither one that waits for a TTL, nor one that has just been asked for, nor a question."""

    async def main() -> None:
        source = Told("10.0.0.1")
        resolver = Resolver(source, Clock())
        before = asyncio.all_tasks()
        resolver.follow("a.example", lambda _: None)
        await asyncio.sleep(0.01)
        source.gate = asyncio.Event()
        resolver.follow("b.example", lambda _: None)
        await asyncio.sleep(0.01)
        resolver.follow("c.example", lambda _: None)
        resolver.close()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before

    run(main())


# Which addresses are instances


@pytest.mark.parametrize(
    ("addresses", "instances"),
    [
        ([], ()),
        (["10.0.0.1"], ()),
        (["10.0.0.2", "10.0.0.1"], ("10.0.0.1", "10.0.0.2")),
        (["10.0.0.10", "10.0.0.9"], ("10.0.0.9", "10.0.0.10")),
        (["10.0.0.1", "10.0.0.1"], ()),
        (["10.0.0.1", "fd00::1"], ()),
        (["fd00::2", "fd00::1"], ("fd00::1", "fd00::2")),
        (["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"], ("10.0.0.1", "10.0.0.2")),
        (["10.0.0.1", "fd00::1", "fd00::2"], ()),
        (["127.0.0.1", "::1"], ()),
        (["127.0.0.2", "127.0.0.1", "::1"], ("127.0.0.1", "127.0.0.2")),
        (["127.0.0.1"], ()),
        (["::1"], ()),
        (["127.0.0.1", "10.0.0.1"], ("10.0.0.1", "127.0.0.1")),
        (["nonsense"], ()),
    ],
)
def test_split(addresses: list[str], instances: tuple[str, ...]) -> None:
    """Several addresses of one family are several instances; the IPv4 and the IPv6 address of a host are one."""
    assert split(addresses) == instances


@given(st.lists(st.ip_addresses().map(str), max_size=8), st.randoms())
def test_split_does_not_depend_on_the_order(addresses: list[str], chance: Any) -> None:
    """Name servers rotate their answers: that is no change."""
    shuffled = list(addresses)
    chance.shuffle(shuffled)
    assert split(shuffled) == split(addresses)
    assert len(split(addresses)) != 1
