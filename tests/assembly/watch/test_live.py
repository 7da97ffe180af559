"""The stream of the state: who comes back loses nothing and doubles nothing, and who does not read is cut off."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.assembly.watch import live as module
from propylon.assembly.watch.live import Live, difference
from tests.support.examples import examples
from tests.upstream.peer import run

SECTIONS = st.dictionaries(
    st.sampled_from(["services", "routes"]),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    min_size=2,
)


class Viewer:
    """What a page does with the lines."""

    def __init__(self) -> None:
        self.generation, self.seq = "", 0
        self.sections: dict[str, dict[str, Any]] = {}

    def take(self, line: bytes) -> None:
        """Set what it sets, as dashboard-gateway.js does."""
        said = json.loads(line)
        if said["full"]:
            self.sections = {}
        elif said["generation"] != self.generation or said["seq"] <= self.seq:
            return
        for name, entries in said["set"].items():
            self.sections.setdefault(name, {}).update(entries)
        for name, keys in said["gone"].items():
            for key in keys:
                del self.sections[name][key]
        self.generation, self.seq = said["generation"], said["seq"]


class World:
    """A state that a case changes, and what it is told by."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"services": {}}
        self.watched: list[int] = []
        numbers: Iterator[int] = count()
        self.live = Live(self.gather, lambda: f"g{next(numbers)}", self.watched.append)

    async def gather(self) -> dict[str, Any]:
        """A copy of it."""
        return {name: dict(section) for name, section in self.state.items()}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come at once."""
    monkeypatch.setattr(module, "_EVERY", 0.0)


@given(st.lists(SECTIONS, min_size=1, max_size=6))
@examples(60)
def test_a_viewer_has_the_state(states: list[dict[str, Any]]) -> None:
    """All differences one after the other make the last state, whatever the states."""
    sections: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] = {}
    for after in states:
        changed, gone = difference(before, after)
        for name, entries in changed.items():
            sections.setdefault(name, {}).update(entries)
        for name, keys in gone.items():
            for key in keys:
                del sections[name][key]
        before = after
        assert {k: v for k, v in sections.items() if v} == {k: v for k, v in after.items() if v}


async def read(world: World, viewer: Viewer, until: Any) -> None:
    """Be a viewer until something holds."""
    async with aclosing(world.live.lines(viewer.generation, viewer.seq)) as lines:
        async for line in lines:
            viewer.take(line)
            if until():
                return


def test_who_comes_back_gets_what_was_missed() -> None:
    """The lines in between, and no full one; the entries are as they are by then."""

    async def story() -> None:
        world, viewer = World(), Viewer()
        await read(world, viewer, lambda: viewer.seq >= 2)
        seen, generation = viewer.seq, viewer.generation
        world.state["services"] = {"orders": 1}
        missed: list[dict[str, Any]] = []
        async with aclosing(world.live.lines(generation, seen)) as lines:
            async for line in lines:
                missed.append(json.loads(line))
                viewer.take(line)
                if viewer.sections == {"services": {"orders": 1}}:
                    break
        assert not any(one["full"] for one in missed)
        assert [one["seq"] for one in missed] == list(range(seen + 1, seen + 1 + len(missed)))
        world.live.close()
        await asyncio.sleep(0)

    run(story())


def test_who_comes_from_elsewhere_gets_all() -> None:
    """A viewer of another worker, or of a time that is forgotten, begins with a full line."""

    async def story() -> None:
        world, viewer = World(), Viewer()
        world.state["services"] = {"orders": 1}
        viewer.generation, viewer.seq, viewer.sections = "elsewhere", 99, {"services": {"old": 1}}
        await read(world, viewer, lambda: viewer.generation != "elsewhere")
        assert viewer.sections == {"services": {"orders": 1}}
        world.live.close()
        await asyncio.sleep(0)

    run(story())


def test_who_does_not_read_is_cut_off() -> None:
    """Its stream ends after a short backlog; another viewer goes on."""

    async def story() -> None:
        world, viewer = World(), Viewer()
        async with aclosing(world.live.lines()) as slow:
            await anext(slow)
            await read(world, viewer, lambda: viewer.seq > 20)
            with pytest.raises(StopAsyncIteration):
                for _ in range(20):
                    await anext(slow)
        world.live.close()
        await asyncio.sleep(0)

    run(story())


def test_who_is_always_behind_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream ends though lines wait for its viewer: with it ends what an expired token may see."""
    monkeypatch.setattr(module, "_LASTS", 0.0)

    async def story() -> None:
        world = World()
        async with aclosing(world.live.lines()) as lines:
            await anext(lines)
            await world.live.overview()  # puts a line into the backlog
            with pytest.raises(StopAsyncIteration):
                await anext(lines)
        world.live.close()
        await asyncio.sleep(0)

    run(story())


def test_nothing_is_gathered_while_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A while after the last viewer has left, it stops, and says so."""
    monkeypatch.setattr(module, "_GRACE", 0.0)

    async def story() -> None:
        world, viewer = World(), Viewer()
        assert world.watched == []
        await read(world, viewer, lambda: True)
        while world.watched != [1, -1]:
            await asyncio.sleep(0)
        await read(world, viewer, lambda: True)
        assert world.watched == [1, -1, 1]
        assert viewer.generation != "g1"
        world.live.close()
        await asyncio.sleep(0)

    run(story())
