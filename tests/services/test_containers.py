"""Following an engine: what runs, what its list says of it, and an engine that lies, hangs, breaks or is too much."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.services import containers as module
from propylon.services.containers import Container, Containers, read_containers
from propylon.upstream import docker
from propylon.upstream.dial import Address
from propylon.upstream.pools import Pools
from tests.support.docker import Engine, container
from tests.support.examples import examples
from tests.upstream.peer import run, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    for name in ("_LEAST", "_BURST"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "_BACKOFF", 0.001)


class Seen:
    """What was told, one after the other."""

    def __init__(self) -> None:
        self.all: list[list[str]] = []

    def __call__(self, found: tuple[Container, ...]) -> None:
        """Note the names of those that are asked."""
        self.all.append([one.name for one in found if one.asked])

    async def becomes(self, *names: str) -> None:
        """Wait until these are the last."""
        await until(lambda: self.all and self.all[-1] == list(names))


@asynccontextmanager
async def following(engine: Engine) -> AsyncIterator[tuple[Containers, Seen]]:
    """Follow this engine for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    pools = Pools(loop, Ticker(loop, 0.025), Outbox(loop))
    pool = pools.fresh(Address("", 0, path=str(engine.socket)), 3)
    seen = Seen()
    followed = Containers(docker.Engine(pool), seen, lambda: 0.5)
    try:
        yield followed, seen
    finally:
        followed.close()
        pool.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("newest", "oldest", "asked"),
    [("1.51", "1.24", "/v1.44/"), ("1.60", "1.52", "/v1.52/"), ("1.41", "1.12", "/v1.41/")],
)
def test_containers_come_and_go(tmp_path: Path, newest: str, oldest: str, asked: str) -> None:
    """By a version of the API that both sides speak; one that is not well is not asked, and back when it is."""

    async def main() -> None:
        with Engine(tmp_path / "s", newest=newest, oldest=oldest) as engine:
            engine.run(container("web", {}))
            async with following(engine) as (followed, seen):
                await seen.becomes("web")
                engine.run(container("web", {}), container("api", {}, created=2))
                await seen.becomes("web", "api")
                sick = container("web", {}, status="Up 5 minutes (unhealthy)")
                engine.run(sick, container("api", {}, created=2), event="health_status: unhealthy")
                await seen.becomes("api")
                engine.run(container("web", {}, status="Up 5 minutes (healthy)"), event="die")
                await seen.becomes("web")
                assert followed.up
                assert all(asked in target for target in engine.asked if target != "/version")

    run(main())


def broken(engine: Engine) -> None:
    """The stream breaks; what happened meanwhile was told to nobody."""
    engine.cut()


def hanging(engine: Engine) -> None:
    """It does not answer a list."""
    engine.answers.append(None)
    engine.run(container("web", {}))


def garbage(engine: Engine) -> None:
    """What it says is no list."""
    engine.answers += [b"{}", b"[", b"[" * 10_000, b"x" * 4000]
    engine.run(container("web", {}))


@pytest.mark.parametrize("fault", [broken, hanging, garbage])
def test_what_goes_wrong_ends_with_the_truth(
    tmp_path: Path,
    fault: Callable[[Engine], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is known stays meanwhile; it is said once, and once when it is over."""
    monkeypatch.setattr(docker, "_ANSWER", 0.2)
    monkeypatch.setattr(docker, "_LARGEST", 3000)

    async def main() -> None:
        with Engine(tmp_path / "s") as engine:
            engine.run(container("web", {}))
            async with following(engine) as (followed, seen):
                await seen.becomes("web")
                await until(lambda: engine.streams)
                fault(engine)
                await until(lambda: engine.lists > 1)
                engine.run(container("web", {}), container("new", {}, created=2), event="")
                engine.cut()
                await seen.becomes("web", "new")
                await until(lambda: followed.up)
                assert [] not in seen.all

    with caplog.at_level(logging.WARNING):
        run(main())
    said = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert said[:2] == [
        "docker: the containers are not followed",
        "docker: the containers are followed again",
    ]


def test_an_engine_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A start does not wait for it; it may come later."""

    async def main() -> None:
        with Engine(tmp_path / "s") as engine:
            engine.socket = tmp_path / "later"
            async with following(engine) as (followed, seen):
                await until(lambda: followed.tried)
                assert not followed.up
                (tmp_path / "later").symlink_to(tmp_path / "s")
                engine.run(container("web", {}))
                await seen.becomes("web")

    with caplog.at_level(logging.WARNING):
        run(main())
    assert len(caplog.records) == 2


def test_silence_has_everything_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that was lost is found by and by; that is no failure."""
    monkeypatch.setattr(docker, "_IDLE", 0.05)

    async def main() -> None:
        with Engine(tmp_path / "s") as engine:
            async with following(engine) as (_, seen):
                await seen.becomes()
                engine.run(container("web", {}), event="")
                await seen.becomes("web")

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


def test_what_a_list_says() -> None:
    """Names, networks, ports; in the order in which they were made, whatever the list's."""
    late = container("b", {"x": "y"}, created=5, ports=(80, 443))
    late["NetworkSettings"]["Networks"] |= {
        "six": {"IPAddress": "", "GlobalIPv6Address": "fd00::1"},
        "none": {"IPAddress": ""},
        "cloud": {"IPAddress": "169.254.169.254"},
    }
    late["Ports"].append({"PrivatePort": 53, "Type": "udp"})
    gone = container("gone", {}) | {"State": "exited"}
    paused = container("a", {}, created=3) | {"State": "paused"}
    starting = container("s", {}, created=4, status="Up 1 second (health: starting)")
    found = read_containers([late, paused, gone, starting, None, {}, container("", {})])
    assert [(one.name, one.asked) for one in found] == [
        ("0" * 12, True),
        ("a", False),
        ("s", False),
        ("b", True),
    ]
    assert found[-1].networks == {"shop_default": "127.0.0.1", "six": "fd00::1"}
    assert found[-1].ports == (80, 443)


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("running"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["Id", "Names", "State", "Labels", "Ports", "Networks", "IPAddress"]), inner
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(container("x", {}))), anything))
@examples(100)
def test_nothing_that_the_engine_says_is_a_fault(changed: dict[str, Any]) -> None:
    """Each container is read or passed over."""
    for one in read_containers([json.loads(json.dumps(container("x", {}) | changed))]):
        assert all(isinstance(value, str) for value in one.labels.values())
