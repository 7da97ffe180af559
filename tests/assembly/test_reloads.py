"""A reload beside the requests: what it keeps, what it refuses, what it tells, and in which order."""

import asyncio
import gc
import sys
import threading
from pathlib import Path

import pytest

from propylon import Gateway, Principal, Request, public
from propylon.config.reading.load import Loaded
from tests.upstream.peer import run

SERVICES = "services: {orders: {url: 'http://127.0.0.1:9'}}\n"
MANY = 1200


def text(*routes: str) -> str:
    """A file with these paths."""
    lines = [f"  - {{path: {path}, service: orders, auth: none}}\n" for path in routes]
    return SERVICES + "routes:\n" + "".join(lines)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two routes."""
    path = tmp_path / "propylon.yaml"
    path.write_text(text("/a", "/b"))
    return path


@pytest.fixture
def gateway(file: Path) -> Gateway:
    """A gateway of that file."""
    return Gateway.from_file(file, {})


async def reloaded(gateway: Gateway) -> None:
    """Reload beside the loop, and wait for it."""
    done = asyncio.Event()
    gateway.reload_soon(done.set)
    await done.wait()


def paths(gateway: Gateway) -> list[str]:
    """What is in force: as the gateway says it, and as requests are matched."""
    written = [route.path for route in gateway.config.routes]
    if gateway.running is not None:
        table = gateway.running.table
        assert [route.name for route in table.routes if not route.service.builtin] == written
        assert gateway.running.config is gateway.config
    return written


def test_what_did_not_change_is_the_same_object(gateway: Gateway, file: Path) -> None:
    """Its configuration, its compiled route and its service; the changed route is another one."""

    async def main() -> None:
        async with gateway.lifespan():
            assert gateway.running is not None
            config, table = gateway.config, gateway.running.table
            file.write_text(text("/a", "/c"))
            await reloaded(gateway)
            assert paths(gateway) == ["/a", "/c"]
            assert gateway.config.routes[0] is config.routes[0]
            assert gateway.config.services["orders"] is config.services["orders"]
            old, new = table.routes, gateway.running.table.routes
            assert [one is other for one, other in zip(old, new, strict=True)] == [
                *[True] * (len(old) - 1),
                False,
            ]

    run(main())


@pytest.mark.parametrize("started", [True, False])
def test_an_endpoint_in_a_route_s_place(
    gateway: Gateway, file: Path, caplog: pytest.LogCaptureFixture, *, started: bool
) -> None:
    """A file whose route an endpoint of the team would shadow changes nothing, at once or beside the requests."""
    gateway.api.get("/own", dependencies=[public])(lambda: "open")

    async def main() -> None:
        before = gateway.config
        file.write_text(text("/a", "/own"))
        gateway.reload()
        assert gateway.config is before
        await reloaded(gateway)
        assert gateway.config is before
        assert caplog.text.count("routes[1].path: is also the path of an endpoint") == 2
        file.write_text(text("/a", "/c"))
        await reloaded(gateway)
        assert paths(gateway) == ["/a", "/c"]

    async def running() -> None:
        async with gateway.lifespan():
            await main()

    run(running() if started else main())


def test_policies_and_overrides_during_a_reload(gateway: Gateway, file: Path) -> None:
    """What a team says while the new table is made holds in the new table, too."""
    policy_called: list[str] = []

    def policy(request: Request, principal: Principal) -> None:
        policy_called.append(request.path.decode())

    async def main() -> None:
        async with gateway.lifespan():
            assert gateway.running is not None
            prepare = gateway.running.prepare(gateway.read())
            next(prepare)
            gateway.before("/a")(policy)
            with pytest.raises(StopIteration) as stopped:
                while True:
                    next(prepare)
            routes = stopped.value.value.compiled.table.routes
            [route] = [one for one in routes if one.name == "/a"]
            assert route.before is not None
            [same] = [one for one in gateway.running.table.routes if one.name == "/a"]
            assert route.before is same.before

    run(main())


def test_several_that_ask_at_once(gateway: Gateway, file: Path) -> None:
    """Those who ask while a reload waits for its turn get it: the file as it is by then is in force."""
    reads: list[int] = []
    read = gateway.read

    def counted() -> Loaded:
        reads.append(1)
        return read()

    gateway.read = counted

    async def main() -> None:
        async with gateway.lifespan():
            done = asyncio.Event()
            for _ in range(5):
                gateway.reload_soon(done.set)
            file.write_text(text("/c"))
            await done.wait()
            assert paths(gateway) == ["/c"]
            assert len(reads) == 1

    run(main())


def test_a_later_reload_wins(gateway: Gateway, file: Path) -> None:
    """A reload that read the file earlier does not put it back when it comes to its end later."""
    entered, go_on = threading.Event(), threading.Event()
    read = gateway.read

    def slow() -> Loaded:
        loaded = read()
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            assert go_on.wait(10)
        return loaded

    gateway.read = slow
    told: list[list[str]] = []
    gateway.on_reload = lambda loaded: told.append([one.path for one in loaded.config.routes])

    async def main() -> None:
        async with gateway.lifespan():
            file.write_text(text("/old"))
            done = asyncio.Event()
            gateway.reload_soon(done.set)
            await asyncio.to_thread(entered.wait, 10)
            file.write_text(text("/new"))
            gateway.reload()
            go_on.set()
            await done.wait()
            assert paths(gateway) == ["/new"]
            assert told == [["/new"]]

    run(main())


def test_what_is_told_last_is_in_force(gateway: Gateway, file: Path) -> None:
    """A replacement worker goes on with what was told last: two threads that tell do not overtake each other."""
    entered, go_on = threading.Event(), threading.Event()
    told: list[str] = []

    def tell(loaded: Loaded) -> None:
        if not entered.is_set():
            entered.set()
            assert go_on.wait(10)
        told.append(loaded.config.routes[0].path)

    gateway.on_reload = tell

    async def main() -> None:
        async with gateway.lifespan():
            file.write_text(text("/one"))
            done = asyncio.Event()
            gateway.reload_soon(done.set)
            await asyncio.to_thread(entered.wait, 10)
            file.write_text(text("/two"))
            # A reload belongs to the loop's thread; there it waits for the thread that tells.
            timer = threading.Timer(0.05, go_on.set)
            timer.start()
            gateway.reload()
            timer.join()
            await done.wait()
            assert told == ["/one", "/two"]

    run(main())


def test_a_stop_during_a_reload(gateway: Gateway, file: Path) -> None:
    """What was made is put nowhere: there is nothing any more that it could be put into."""
    entered, go_on = threading.Event(), threading.Event()
    read = gateway.read

    def slow() -> Loaded:
        entered.set()
        assert go_on.wait(10)
        return read()

    async def main() -> None:
        done = asyncio.Event()
        async with gateway.lifespan():
            before = gateway.config
            gateway.read = slow
            file.write_text(text("/c"))
            gateway.reload_soon(done.set)
            await asyncio.to_thread(entered.wait, 10)
            running = gateway.running
        go_on.set()
        await done.wait()
        assert running is not None
        assert running.config is before

    run(main())


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_only_an_own_process_is_touched(
    gateway: Gateway, file: Path, monkeypatch: pytest.MonkeyPatch, *, owned: bool, at_once: bool
) -> None:
    """Thousands of new routes are frozen in a process of the gateway's own, and in a host's nothing is."""
    calls: list[str] = []
    for name in ("collect", "freeze"):
        monkeypatch.setattr(gc, name, lambda *_, name=name: calls.append(name))
    before = (gc.get_threshold(), sys.getswitchinterval())
    during: list[object] = []
    gateway.on_reload = lambda _: during.append((gc.get_threshold(), sys.getswitchinterval()))
    if owned:
        gateway.own_process()

    async def main() -> None:
        async with gateway.lifespan():
            file.write_text(text(*(f"/r{number}" for number in range(MANY))))
            if at_once:
                gateway.reload()
            else:
                await reloaded(gateway)
            assert len(paths(gateway)) == MANY

    run(main())
    assert ("freeze" in calls) is owned
    assert owned or not calls
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    assert (during == [before]) is (at_once or not owned)
