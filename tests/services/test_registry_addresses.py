"""Where a registered instance may lead: no spelling, no resolver and no moment gets anybody where nobody may go."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from propylon import RegistrationRequest
from propylon.errors import ConnectFailed, InvalidRequest, UpstreamError
from propylon.services.health import check
from propylon.services.instance import Instance
from propylon.services.registration import Registration
from propylon.upstream.dial import Address
from propylon.upstream.pool import Pool
from propylon.upstream.pools import Pools
from tests.services import registrar
from tests.services.registrar import Names, World
from tests.upstream.peer import Collected, run, until
from tests.upstream.peer import World as Sockets
from tests.upstream.test_dial import Counting

EVERYTHING = ("*", "0.0.0.0/0", "::/0")
METADATA, SELF, LOOPBACK = "169.254.169.254", "0.0.0.0", "127.0.0.1"
FORBIDDEN = [METADATA, SELF, LOOPBACK, "100.100.100.200", "255.255.255.255"]


class Careless(Names):
    """A resolver that reads whatever the C library reads as an address, and knows a few names."""

    async def addresses(self, host: str) -> Sequence[str]:
        """What `getaddrinfo` makes of it, which asks nobody over the wire."""
        self.asked.append(host)
        if host in self.answers:
            return self.answers[host]
        try:
            found = socket.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST)
        except OSError:
            raise ConnectFailed("no", reason="no such name") from None
        return [str(entry[4][0]) for entry in found]


def registered(host: str, world: World) -> Registration | None:
    """What becomes of a registration by HTTP: None if it is refused."""
    try:
        asked = RegistrationRequest(service_name="orders", host=host, port=80)
        world.register(asked.service_name, asked.host, port=asked.port)
    except (ValidationError, InvalidRequest):
        return None
    [said] = world.registry.registrations()
    return said


# Spellings


def spellings(address: IPv4Address) -> st.SearchStrategy[str]:
    """Ways to write an IPv4 address that somebody or other understands."""
    parts = str(address).split(".")
    number = int(address)
    part = st.sampled_from([str, lambda text: f"0{int(text):o}", lambda text: f"0x{int(text):x}"])
    padded = st.sampled_from([lambda text: text.zfill(3), lambda text: f"0X{int(text):04X}"])
    each = st.tuples(*[st.one_of(part, padded)] * 4).map(
        lambda ways: ".".join(way(text) for way, text in zip(ways, parts, strict=True))
    )
    short = [
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        f"{parts[0]}.0x{number & 0xFFFFFF:x}",
        str(number),
        f"0x{number:x}",
        f"0X{number:08X}",
        f"0{number:o}",
    ]
    wide = str(address).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    odd = [wide, str(address).replace(".", "。"), str(address).replace(".", "．")]
    return st.one_of(each, st.sampled_from([str(address), *short, *odd]))


def carried(address: IPv4Address) -> list[str]:
    """IPv6 addresses that lead to an IPv4 address."""
    number = int(address)
    values = [
        0xFFFF << 32 | number,  # mapped
        0xFFFF << 48 | number,  # translated (RFC 2765)
        number,  # compatible
        0x0064_FF9B << 96 | number,  # NAT64
        0x2002 << 112 | number << 80,  # 6to4
    ]
    found = [IPv6Address(value) for value in values]
    return [text for one in found for text in (str(one), one.exploded)] + [f"::ffff:{address}"]


DECORATED: list[Callable[[str], str]] = [
    str.upper,
    lambda host: host + ".",
    lambda host: f"[{host}]",
    lambda host: f" {host}",
    lambda host: f"{host}%lo",
    lambda host: f"{host}%25eth0",
    lambda host: f"{host}:80",
    lambda host: f"{host}/",
    lambda host: f"x@{host}",
    lambda host: f"{host}\x00",
]


@given(data=st.data())
def test_no_spelling_gets_in(data: st.DataObject) -> None:
    """However an address is written where nobody may go, and whatever a resolver makes of it."""
    address = IPv4Address(data.draw(st.sampled_from(FORBIDDEN)))
    plain = data.draw(st.one_of(spellings(address), st.sampled_from(carried(address))))
    host = data.draw(st.one_of(st.just(str), st.sampled_from(DECORATED)))(plain)
    world = World(*EVERYTHING, names=Careless())
    assert registered(host, world) is None, host
    assert (world.pools, world.ids()) == ([], [])


@pytest.mark.parametrize(
    "host",
    ["::", "[::]", "0:0:0:0:0:0:0:0", "::0", "::1", "[::1]", "0::1", "fe80::1", "fe80::1%eth0",
     "fe80::a9fe:a9fe%1", "::%lo", "ff02::1", "fd00:ec2::254", "localhost", "LOCALHOST", "localhost."],
)  # fmt: skip
def test_nor_does_any_of_these(host: str) -> None:
    """Whatever is no address of anybody else's."""
    world = World(*EVERYTHING, names=Careless(localhost=["::1", "127.0.0.1"]))
    assert registered(host, world) is None
    assert world.pools == []


@pytest.mark.parametrize(
    ("host", "instance_id"),
    [
        ("10.0.0.1", "10.0.0.1:80"),
        ("::ffff:10.0.0.1", "10.0.0.1:80"),
        ("::FFFF:0a00:0001", "10.0.0.1:80"),
        ("FD00:0:0::0007", "[fd00::7]:80"),
        ("Orders.Internal", "orders.internal:80"),
        ("xn--bcher-kva.internal", "xn--bcher-kva.internal:80"),
    ],
)
def test_whoever_may_has_one_name(host: str, instance_id: str) -> None:
    """In whichever way it is written, it is the same instance."""
    names = Careless(orders_internal=["10.0.0.9"])
    names.answers["xn--bcher-kva.internal"] = ["10.0.0.8"]
    world = World(*EVERYTHING, names=names)
    said = registered(host, world)
    assert said is not None
    assert said.id == instance_id
    assert world.ids() == [instance_id]


@pytest.mark.parametrize(
    "host",
    ["10.1", "10.0.1", "167772161", "0xa000001", "012.0.0.1", "010.0.0.1", "0x0a.0.0.1", "10.0.0.1.",
     "10.0.0.1:80", "[fd00::7]", "fd00::7%eth0", "fd00::7%1", "fd00::7.", "orders.internal.", ".10.0.0.1"],
)  # fmt: skip
def test_nobody_has_another(host: str) -> None:
    """Whoever may register is not let in by another name, and nobody is asked about it."""
    names = Careless(orders_internal=["10.0.0.9"])
    names.answers["orders.internal."] = ["10.0.0.9"]
    world = World(*EVERYTHING, names=names)
    assert registered(host, world) is None
    assert (world.pools, world.names.asked) == ([], [])


@pytest.mark.parametrize("host", ["bücher.internal", "xn--", "ⓞrders.internal", "orders。internal"])
def test_names_in_other_scripts(host: str) -> None:
    """A name is written as DNS knows it: nobody guesses what another form of it may be."""
    world = World("*.internal", names=Careless())
    assert registered(host, world) is None
    assert [asked for asked in world.names.asked if not asked.isascii()] == []


# What a resolver says

NASTY = [
    [METADATA],
    [SELF],
    [LOOPBACK],
    ["::1"],
    ["::"],
    ["::ffff:169.254.169.254"],
    ["::ffff:127.0.0.1"],
    ["fe80::1%eth0"],
    ["::1%lo"],
    ["64:ff9b::a9fe:a9fe"],
    ["10.0.0.9", METADATA],
    ["10.0.0.9", "10.0.0.8", "::ffff:a9fe:a9fe"],
    ["2852039166"],
    ["0xa9fea9fe"],
    ["010.0.0.9"],
    ["somewhere.else"],
    [""],
]


@pytest.mark.parametrize("answer", NASTY, ids=str)
def test_names_that_lead_there(answer: list[str]) -> None:
    """One such address is enough, wherever it stands in the answer, and what is no address is none."""
    world = World(*EVERYTHING, names=Names(orders_internal=answer))
    assert registered("orders.internal", world) is None
    assert world.pools == []


@pytest.mark.parametrize("answer", NASTY, ids=str)
def test_names_that_lead_there_later(answer: list[str]) -> None:
    """What a name led to when it registered is forgotten: each connection, and each probe, looks again."""
    world = World(*EVERYTHING, names=Names(orders_internal=["10.0.0.9"]))
    assert registered("orders.internal", world) is not None
    assert [pool.probing for pool in world.pools] == [False, True]
    good = [[pool.permit(address) for address in answer] for pool in world.pools]
    assert good == [[address.startswith("10.") for address in answer]] * 2


# Over real sockets


class Connected(registrar.World):
    """A registry whose instances are connected to."""

    def __init__(self, sockets: Sockets, names: Names) -> None:
        loop = asyncio.get_running_loop()
        self.sockets = sockets
        self.all = Pools(loop, sockets.ticker, sockets.outbox, names)
        super().__init__("127.0.0.1", names=names)

    def connect(  # type: ignore[override]
        self, service: str, address: Address, permit: Any, *, probing: bool
    ) -> Pool:
        """Connections that lead somewhere."""
        return self.all.fresh(address, 2, permit)

    @property
    def instance(self) -> Instance:
        """The one that registered."""
        [found] = self.find("orders").instances
        return found

    async def request(self) -> int:
        """What a request to it comes to; 0 if nobody was asked."""
        try:
            answer = await self.instance.upstream.send(self.sockets.out(), Collected())
        except UpstreamError as error:
            assert error.unsent
            return 0
        return answer.head.status

    async def probe(self) -> int | None:
        """What a probe of it comes to."""
        fleet = self.find("orders").fleet
        return (await check(fleet, self.instance, clock=time.monotonic, wall=time.time)).status

    def disconnect(self) -> None:
        """Close what is open, so that the next request needs another connection."""
        for pool in (self.instance.upstream, self.instance.probe):
            assert isinstance(pool, Pool)
            while pool._idle:
                pool._idle.pop().abort()


Script = Callable[[Connected, Names, Counting], Awaitable[None]]


def play(script: Script) -> None:
    """An instance that registered by a name; another listener on the same port, which nobody may ask."""

    async def main() -> None:
        async with Sockets() as sockets, Counting("127.0.0.2", sockets.port) as elsewhere:
            names = Names(orders_internal=["127.0.0.1"])
            world = Connected(sockets, names)
            world.register(host="orders.internal", port=sockets.port)
            try:
                await script(world, names, elsewhere)
            finally:
                world.registry.close()
            assert elsewhere.came == 0

    run(main())


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.2"], [METADATA], [SELF], ["::ffff:127.0.0.2"], ["::1"], ["fe80::1%lo"], ["127.2"]],
    ids=str,
)
def test_rebinding(answer: list[str]) -> None:
    """A name that leads elsewhere a moment later: nobody is connected to, by requests or by probes."""

    async def script(world: Connected, names: Names, elsewhere: Counting) -> None:
        assert (await world.request(), await world.probe()) == (200, 200)
        names.answers["orders.internal"] = answer
        world.disconnect()
        assert [await world.request() for _ in range(3)] == [0] * 3
        assert [await world.probe() for _ in range(3)] == [None] * 3
        names.answers["orders.internal"] = ["127.0.0.1"]
        assert (await world.request(), await world.probe()) == (200, 200)

    play(script)


def test_of_several_only_those_that_may_be_asked() -> None:
    """Whichever stands first; and when that one is gone, none of the others is tried instead."""

    async def script(world: Connected, names: Names, elsewhere: Counting) -> None:
        names.answers["orders.internal"] = ["127.0.0.2", METADATA, "127.0.0.1"]
        assert (await world.request(), await world.probe()) == (200, 200)
        world.disconnect()
        world.sockets.listener.close()
        await until(lambda: not world.sockets.listener.is_serving())
        assert (await world.request(), await world.probe()) == (0, None)

    play(script)


def test_stricter_rules_hold_for_the_next_connection() -> None:
    """What may no longer be asked is asked no more, and the instance leaves."""

    async def script(world: Connected, names: Names, elsewhere: Counting) -> None:
        upstream = world.instance.upstream
        assert await world.request() == 200
        world.registry.apply([world.service("orders")], world.admission("10.0.0.0/8"), None)
        assert world.ids() == []
        with pytest.raises(ConnectFailed, match="may be asked"):
            await upstream.send(world.sockets.out(), Collected())

    play(script)
