"""Instances that follow a name: one for it, one for each of its addresses, one for each target."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.names.resolve import LookupResult, Resolver, SrvTarget
from propylon.services.discovery import Discovery, MemberKey, Members
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance
from tests.proxy.doubles import Asked
from tests.upstream.peer import run, until

NAME = "orders.example"


class Source:
    """A source whose answers a test changes."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    async def addresses(self, name: str) -> LookupResult[str]:
        """The addresses."""
        return LookupResult(self.values, 0.0)

    async def targets(self, name: str) -> LookupResult[SrvTarget]:
        """The targets."""
        return LookupResult(self.values, 0.0)


class Place:
    """A fleet with one name in it, which is followed."""

    def __init__(self, *values: Any, srv: bool = False) -> None:
        self.source = Source(*values)
        self.made: list[str] = []
        self.retired: list[str] = []
        self.members = Members(NAME, self.make, srv=srv)
        self.resolver = Resolver(self.source, asyncio.get_running_loop().time, least_ttl=0.005)
        self.fleet = Fleet(self.members.start(self.resolver), "orders")

    def make(self, key: MemberKey) -> Instance:
        """An instance with an upstream of its own."""
        if isinstance(key, SrvTarget):
            name, weight = f"{key.host}:{key.port}", key.weight
            return Instance(name, name.encode(), b"", self.upstream(name), weight, source="dns")
        name = f"{key or NAME}:8000"
        source: Any = "dns" if key else "configured"
        return Instance(name, b"orders", b"", self.upstream(name), source=source)

    def upstream(self, name: str) -> Asked:
        """Note that it was made."""
        self.made.append(name)
        return Asked()

    def retire(self, instance: Instance) -> None:
        """Note that it was taken down."""
        self.retired.append(instance.id)

    def follow(self) -> "asyncio.Task[None]":
        """Begin."""
        return self.members.follow(self.resolver, self.fleet, self.retire)

    @property
    def ids(self) -> list[str]:
        """Who is there."""
        return [instance.id for instance in self.fleet.instances]

    async def becomes(self, *values: Any, ids: list[str]) -> None:
        """Change the answer and wait for what comes of it."""
        self.source.values = values
        await until(lambda: self.ids == ids)


def play(script: Callable[[Place], Any], *values: Any, srv: bool = False) -> None:
    """Run a script over a place that is followed."""

    async def main() -> None:
        place = Place(*values, srv=srv)
        place.follow()
        try:
            await script(place)
        finally:
            place.resolver.close()

    run(main())


def test_a_name_with_one_address_is_one_instance() -> None:
    """Whichever that is at the moment: the connections look for it themselves."""

    async def script(place: Place) -> None:
        first = place.fleet.instances
        assert place.ids == [f"{NAME}:8000"]
        place.source.values = ("10.0.0.2",)
        await asyncio.sleep(0.03)
        assert place.fleet.instances == first
        assert (place.made, place.retired) == ([f"{NAME}:8000"], [])

    play(script, "10.0.0.1")


def test_a_name_that_does_not_resolve_is_one_instance() -> None:
    """Whoever asks it is told so, and not that there is no instance."""

    async def script(place: Place) -> None:
        await asyncio.sleep(0.02)
        assert place.ids == [f"{NAME}:8000"]
        assert len(place.fleet.candidates()) == 1

    play(script)


def test_addresses_come_and_go() -> None:
    """Each is an instance; those that stay are the same, and keep what is known of them."""

    async def script(place: Place) -> None:
        await until(lambda: place.ids == ["10.0.0.1:8000", "10.0.0.2:8000"])
        assert place.retired == [f"{NAME}:8000"]
        kept = place.fleet.instances[1]
        kept.state.failures = 3
        await place.becomes("10.0.0.3", "10.0.0.2", ids=["10.0.0.2:8000", "10.0.0.3:8000"])
        assert place.fleet.instances[0] is kept
        assert place.retired == [f"{NAME}:8000", "10.0.0.1:8000"]
        assert place.made.count("10.0.0.2:8000") == 1
        assert {instance.host for instance in place.fleet.instances} == {b"orders"}
        await place.becomes("10.0.0.2", ids=[f"{NAME}:8000"])
        assert place.fleet.instances[0].source == "configured"

    play(script, "10.0.0.1", "10.0.0.2")


def test_a_fleet_begins_with_what_is_known() -> None:
    """After a reload nothing is asked before there are instances."""

    async def script(place: Place) -> None:
        await until(lambda: len(place.ids) == 2)
        again = Members(NAME, place.make)
        instances = again.start(place.resolver)
        assert [instance.id for instance in instances] == ["10.0.0.1:8000", "10.0.0.2:8000"]
        fleet = Fleet(instances)
        task = again.follow(place.resolver, fleet, place.retire)
        await asyncio.sleep(0.02)
        assert fleet.instances == instances
        task.cancel()

    play(script, "10.0.0.1", "10.0.0.2")


def test_localhost_is_one_instance() -> None:
    """However many addresses it has."""

    async def script(place: Place) -> None:
        await asyncio.sleep(0.02)
        assert place.ids == [f"{NAME}:8000"]

    play(script, "::1", "127.0.0.1")


def test_others_of_the_fleet_are_left_alone() -> None:
    """What registered stays what it is, though the name leads there, too; and after it comes ours."""

    async def script(place: Place) -> None:
        await until(lambda: len(place.ids) == 2)
        theirs = Instance("10.0.0.3:8000", b"x", b"", Asked(), source="registered")
        place.fleet.add(theirs)
        place.source.values = ("10.0.0.2", "10.0.0.3")
        await until(lambda: "10.0.0.1:8000" not in place.ids)
        assert place.fleet.find("10.0.0.3:8000") is theirs
        assert sorted(place.ids) == ["10.0.0.2:8000", "10.0.0.3:8000"]
        place.fleet.remove(theirs)
        await until(lambda: len(place.ids) == 2)
        ours = place.fleet.find("10.0.0.3:8000")
        assert ours is not None
        assert ours.source == "dns"
        place.fleet.add(Instance("10.0.0.9:8000", b"x", b"", Asked(), source="registered"))
        await place.becomes("10.0.0.2", ids=["10.0.0.9:8000", f"{NAME}:8000"])

    play(script, "10.0.0.1", "10.0.0.2")


def test_targets_are_instances() -> None:
    """With their own names, ports and weights; none at all, if there are none."""

    async def script(place: Place) -> None:
        assert place.ids == []
        await until(lambda: place.ids == ["a.example:80", "b.example:81"])
        assert [instance.weight for instance in place.fleet.instances] == [1, 3]
        before = place.fleet.instances[1]
        before.state.failures = 2
        place.source.values = (SrvTarget("b.example", 81, 2),)
        await until(lambda: place.ids == ["b.example:81"])
        (after,) = place.fleet.instances
        assert (after.weight, after.state) == (2, before.state)
        assert after.upstream is not before.upstream
        assert place.retired == ["a.example:80", "b.example:81"]

    play(script, SrvTarget("a.example", 80), SrvTarget("b.example", 81, 3), srv=True)


@given(st.lists(st.lists(st.integers(1, 6).map("10.0.0.{}".format), max_size=6), max_size=8))
def test_whatever_is_answered(answers: list[list[str]]) -> None:
    """There is one instance for each address of several, or one for all; nothing is left over."""

    async def main() -> None:
        place = Place()
        for answer in answers:
            addresses = tuple(dict.fromkeys(answer))
            keys = tuple(sorted(addresses)) if len(addresses) > 1 else (None,)
            place.members._update(keys, place.fleet, place.retire)
            expected = sorted(f"{key or NAME}:8000" for key in keys)
            assert sorted(place.ids) == expected
            assert len(place.made) - len(place.retired) == len(expected)
            assert len(place.fleet.candidates()) == len(expected)

    asyncio.run(main())


@pytest.mark.parametrize("srv", [False, True])
def test_following_ends(*, srv: bool) -> None:
    """With its task; the instances stay as they are."""

    async def main() -> None:
        place = Place(*([SrvTarget("a", 1)] if srv else ["10.0.0.1", "10.0.0.2"]), srv=srv)
        task = place.follow()
        await until(lambda: len(place.ids) == (1 if srv else 2))
        before = place.ids
        task.cancel()
        place.source.values = ()
        await asyncio.sleep(0.02)
        assert place.ids == before
        assert task.cancelled()

    run(main())


def test_whoever_is_in_force_is_followed() -> None:
    """A name that stays goes on as it is; one that is gone is followed no more."""

    async def main() -> None:
        stays, goes, comes = Place(), Place(), Place()
        source = Source("10.0.0.1", "10.0.0.2")
        resolver = Resolver(source, asyncio.get_running_loop().time, least_ttl=0.005)
        discovery = Discovery(resolver, stays.retire)
        discovery.follow([(place.fleet, place.members) for place in (stays, goes)])
        await until(lambda: len(stays.ids) == len(goes.ids) == 2)
        task = discovery._following[stays.members]
        discovery.follow([(place.fleet, place.members) for place in (stays, comes)])
        assert discovery._following[stays.members] is task
        source.values = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
        await until(lambda: len(stays.ids) == len(comes.ids) == 3)
        assert len(goes.ids) == 2
        discovery.close()
        source.values = ("10.0.0.1",)
        await asyncio.sleep(0.02)
        assert (len(stays.ids), len(comes.ids)) == (3, 3)
        assert task.cancelled()

    run(main())
