"""`propylon top` in front of a real gateway, driven by textual's own pilot: what it shows, what keys do, how it comes back."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Static
from typer.testing import CliRunner

from propylon.cli import top as command
from propylon.cli.main import app
from propylon.commands.top.link import Link, LinkLost, of_this_machine, of_url
from propylon.commands.top.picture import INSTANCES, Picture, sorted_rows
from propylon.commands.top.screen import Top, _Question
from propylon.commands.top.words import breaker, milliseconds, rate, shown, sparkline
from propylon.config.models.schema import GatewayConfig
from tests.support.client import ask
from tests.support.gateway import Gateway, Running, environment
from tests.support.gateway import command as started
from tests.support.tokens import SECRET, authorized, mint
from tests.support.upstream import Upstream

HOSTILE = "/a\u202e[bold]red[/]\x7f"
PREFIX = "/api/v1"


class World:
    """A gateway of two workers, in front of one service with two instances."""

    def __init__(self, folder: Path) -> None:
        self.upstreams = [Upstream(), Upstream()]
        urls = [f"http://127.0.0.1:{one.port}" for one in self.upstreams]
        self.config: dict[str, Any] = {
            "server": {"workers": 2},
            "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
            "services": {"up": {"instances": urls}},
            "routes": [
                {"name": HOSTILE, "path": "/a", "service": "up", "auth": "none"},
                {"name": "b", "path": "/b", "service": "up", "auth": "none"},
            ],
        }
        self.gateway = Gateway("fast", self.config, folder)
        self.gateway.wait_ready()
        self.token = mint("ann", scope="admin", top="yes")
        for path in ("/a", "/a", "/b"):
            assert ask(self.gateway.port, target=path).status == 200

    def link(self, token: str | None = None) -> Link:
        """As the command makes it from the file."""
        server = {"server": {"host": "127.0.0.1", "port": self.gateway.port}}
        place = of_this_machine(GatewayConfig.model_validate(server))
        return Link(place, PREFIX, lambda: self.token if token is None else token)

    def drained(self) -> int:
        """How many instances the registry calls drained."""
        admin = authorized("eve", scope="admin", top="yes")
        answer = ask(self.gateway.port, "GET", f"{PREFIX}/services/up", admin)
        return sum(one["drained"] for one in json.loads(answer.body)["instances"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all tests here."""
    found = World(tmp_path_factory.mktemp("top"))
    yield found
    found.gateway.stop()
    for one in found.upstreams:
        one.close()


def drive(link: Link, act: Callable[[Any, Top], Awaitable[None]]) -> None:
    """Show a gateway without a terminal, and do something there."""

    async def within() -> None:
        top = Top(link, pause=0.05)
        async with asyncio.timeout(60), top.run_test(size=(140, 40)) as pilot:
            await act(pilot, top)

    asyncio.run(within())


async def until(pilot: Any, holds: Callable[[], bool]) -> None:
    """Wait until something is there; `drive` says when it is too late."""
    while not holds():
        await pilot.pause(0.02)


def cells(top: Top, name: str) -> list[list[str]]:
    """What a table shows."""
    table: DataTable[Any] = top.screen_stack[0].query_one(f"#{name}", DataTable)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


def said(top: Top, name: str) -> str:
    """What a line says."""
    return str(top.screen_stack[0].query_one(f"#{name}", Static).render())


def test_rows_order_and_escapes(world: World) -> None:
    """Instances, routes with numbers of all workers, hostile names as text (THREATS 72, 73), and another order by a key."""

    async def act(pilot: Any, top: Top) -> None:
        await until(pilot, lambda: len(cells(top, "routes")) == 2)
        names = {row[0] for row in cells(top, "routes")}
        assert names == {"b", r"/a\u202e[bold]red[/]\x7f"}
        assert [row[2:4] for row in cells(top, "instances")] == [["not probed", "closed"]] * 2
        assert "The one service answers" in said(top, "whole")
        assert said(top, "link").endswith(": live")
        await pilot.press(
            "tab", "s", "s", "s", "s", "s", "s"
        )  # p99, then from the beginning: route
        assert said(top, "routes-name") == "Routes, by route, rising"
        rising = [row[0] for row in cells(top, "routes")]
        await pilot.press("S")
        assert [row[0] for row in cells(top, "routes")] == rising[::-1]

    drive(world.link(), act)


def test_keys_act_after_one_more_question(world: World) -> None:
    """An instance is drained and restored, a breaker opened and reset, in all workers; `n` does nothing."""

    async def act(pilot: Any, top: Top) -> None:
        await until(pilot, lambda: len(cells(top, "instances")) == 2)
        await _confirm(pilot, top, "d", "n")
        await pilot.pause()
        assert world.drained() == 0
        await _confirm(pilot, top, "d", "y")
        await until(
            pilot, lambda: [row[2] for row in cells(top, "instances")].count("drained") == 1
        )
        assert world.drained() == 1
        # The cursor is still on the instance that is drained now: it is the one that is restored.
        await _confirm(pilot, top, "u", "y")
        await until(pilot, lambda: not any(row[2] == "drained" for row in cells(top, "instances")))
        await _confirm(pilot, top, "o", "y")
        await until(
            pilot, lambda: all(row[3].startswith("open by hand") for row in cells(top, "instances"))
        )
        assert ask(world.gateway.port, target="/b").status == 503
        await _confirm(pilot, top, "r", "y")
        await until(pilot, lambda: all(row[3] == "closed" for row in cells(top, "instances")))

    drive(world.link(), act)
    actions = {one["action"] for one in world.gateway.lines('"audit"')}
    assert actions >= {"instance.drain", "instance.restore", "circuit.open", "circuit.reset"}


async def _confirm(pilot: Any, top: Top, key: str, answer: str) -> None:
    await pilot.press(key)
    await until(pilot, lambda: isinstance(top.screen, _Question))
    await pilot.press(answer)
    await until(pilot, lambda: not isinstance(top.screen, _Question))


def test_it_comes_back(tmp_path: Path) -> None:
    """The gateway ends and starts again on its port: the tables stay, the line says what is wrong, and then it is live."""
    world = World(tmp_path)
    again: list[Gateway] = []

    async def act(pilot: Any, top: Top) -> None:
        await until(pilot, lambda: said(top, "link").endswith(": live"))
        await asyncio.to_thread(world.gateway.stop)
        await until(pilot, lambda: "refused. Trying again" in said(top, "link"))
        assert len(cells(top, "instances")) == 2
        before = top.picture.generation
        again.append(await asyncio.to_thread(_again, world.gateway))
        await until(
            pilot, lambda: said(top, "link").endswith(": live") and top.picture.generation != before
        )

    try:
        drive(world.link(), act)
    finally:
        for one in (*again, world.gateway):
            one.stop()
        for up in world.upstreams:
            up.close()


def _again(gateway: Gateway) -> Any:
    folder = gateway.file.parent / "again"
    folder.mkdir()
    found = Running(
        started("fast", gateway.file, gateway.port), gateway.port, folder, environment(gateway.file)
    )
    found.wait_ready()
    return found


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "the token is not accepted: it is missing, has expired or was revoked"),
        (mint("bob", scope="read", top="no"), "the token has not the scope that it needs"),
    ],
)
def test_it_says_why_it_may_not(world: World, token: str, why: str) -> None:
    """And it asks again: a token file may get another one."""

    async def act(pilot: Any, top: Top) -> None:
        await until(pilot, lambda: why in said(top, "link"))

    drive(world.link(token), act)


# Without a terminal


def test_it_is_refused_without_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 2, and the line that installs it."""
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["top"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'propylon[top]'" in done.stderr


def test_it_wants_a_terminal() -> None:
    """In a pipe it would draw forever."""
    done = CliRunner().invoke(app, ["top"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "draws on a terminal" in done.stderr


@pytest.mark.parametrize(
    "url", ["gateway:8000", "ftp://a", "http://", "http://a:b@c/", "http://a:99999"]
)
def test_urls_that_are_none(url: str) -> None:
    """Refused before anything is drawn."""
    with pytest.raises(LinkLost, match="--url is no URL"):
        of_url(url)


def test_lines_add_up() -> None:
    """A full line takes the place of all; another one sets entries and takes those away that are gone."""
    one = {"drained": False, "ejected_until": None, "status": "healthy", "requests": 5, "failed": 1,
           "failures": 0, "latency_ms": 2.5}  # fmt: skip
    ill = {**one, "status": "unhealthy"}
    picture = Picture()
    services = {
        "a": {"circuit": None, "instances": {"x:1": one, "y:1": ill}},
        "b": {"circuit": None, "instances": {}},
    }
    full = {"full": True, "generation": "g", "seq": 1, "gone": {}, "set": {"services": services, "routes": {
        "r\x00a": [10.0, 1.0, 0.0, 90, 1, 0, 2.0, 3.0, 4.0], "/docs\x00propylon": [1.0, 0, 0, 1, 0, 0, 1, 1, 1]}}}  # fmt: skip
    picture.take(full)
    rows = sorted_rows(picture.instances(), INSTANCES.index("state"), falling=False)
    assert [row.cells[2] for row in rows] == ["no instance", "unhealthy", "healthy"]
    assert picture.summary().startswith("Trouble: a, b   10.0 requests/s")
    (route,) = picture.routes()
    assert route.cells == ("r", "a", "10.0", "█", "10.0 %", "", "2.0 ms", "3.0 ms", "4.0 ms")
    picture.take(
        {
            "full": False,
            "generation": "g",
            "seq": 2,
            "set": {},
            "gone": {"services": ["b"], "routes": ["r\x00a"]},
        }
    )
    assert {row.key[0] for row in picture.instances()} == {"a"}
    assert picture.routes() == []
    assert (picture.generation, picture.seq) == ("g", 2)


def test_words() -> None:
    """Numbers, states and names."""
    assert (rate(None), rate(0.25), rate(12345.6)) == ("-", "0.2", "12,346")
    assert (milliseconds(1.25), milliseconds(1234.0), milliseconds(30000.0)) == (
        "1.2 ms",
        "1,234 ms",
        "30.0 s",
    )
    assert sparkline([0, 1, 8]) == "▁▁█"
    assert sparkline([0, 0]) == "▁▁"
    assert shown("\x1b]0;x\x07" + "a" * 200) == r"\x1b]0;x\x07" + "a" * 107 + "…"
    held = {"state": "OPEN", "held": True, "opened_at": "2026-11-21T10:00:00Z"}
    assert breaker(held) == "open by hand since 10:00:00"
