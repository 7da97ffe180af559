"""A reload in slices: at each moment requests see one configuration, and afterwards nothing is left of the old one."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from propylon import Gateway
from propylon.errors import NotFound
from propylon.proxy.exchange import Exchange
from tests.proxy.doubles import Client, request
from tests.upstream.peer import run

MANY = 300


def text(version: str, count: int = MANY) -> str:
    """A file in which every route has another path in each version, and two services of which one moves."""
    address = {"one": "127.0.0.2", "two": "127.0.0.3"}[version]
    head = (
        "services: {stays: {url: 'http://127.0.0.1:9'}, moves: {url: 'http://" + address + ":9'}}\n"
    )
    routes = [
        f"  - path: /{version}/{number}\n    service: {('stays', 'moves')[number % 2]}\n    auth: none\n"
        for number in range(count)
    ]
    return head + "routes:\n" + "".join(routes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file, in its first version."""
    path = tmp_path / "propylon.yaml"
    path.write_text(text("one"))
    return path


@contextmanager
def no_collector() -> Iterator[None]:
    """Whatever goes away meanwhile goes because nothing refers to it any more."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def steps(gateway: Gateway) -> Generator[None, None, bool]:
    """A reload, step by step."""
    reloads = gateway._reloads
    return reloads._apply(reloads._read(), reloads._count)


def seen(gateway: Gateway) -> set[str]:
    """Which versions a request finds, whatever its number."""
    assert gateway.running is not None
    found = set()
    for version in ("one", "two"):
        for number in (0, 1, MANY // 2, MANY - 1):
            try:
                gateway.running.table.match(request(f"/{version}/{number}".encode()))
            except NotFound:
                found.add(f"not {version}")
            else:
                found.add(version)
    return found


def test_a_request_sees_the_old_routes_or_the_new_ones(file: Path) -> None:
    """Between any two steps: all of the one and none of the other, and the services that belong to them."""
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            assert gateway.running is not None
            file.write_text(text("two"))
            pictures = []
            for _ in steps(gateway):
                # What a request would be told of the services stands in its route.
                hosts = {
                    instance.id
                    for route in gateway.running.table.routes
                    if not route.service.builtin
                    for instance in route.service.instances
                }
                pictures.append((seen(gateway), hosts))
            old = ({"one", "not two"}, {"127.0.0.1:9", "127.0.0.2:9"})
            new = ({"not one", "two"}, {"127.0.0.1:9", "127.0.0.3:9"})
            switched = pictures.index(new)
            assert pictures == [old] * switched + [new] * (len(pictures) - switched)
            assert 10 < switched < len(pictures) - 3

    run(main())


def test_nothing_is_left_of_what_was_replaced(file: Path) -> None:
    """Not a table, a route, its words, or a service that has moved; and it takes no collector to find that out."""
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            running = gateway.running
            assert running is not None
            with no_collector():
                table = weakref.ref(running.table)
                route, words = running.table.routes[-1], gateway.config.routes[-1]
                leaf = running.table.leaf((None, (b"one", b"0"), False))
                file.write_text(text("two"))
                done = asyncio.Event()
                gateway.reload_soon(done.set)
                await done.wait()
                assert seen(gateway) == {"not one", "two"}
                assert table() is None
                left = [sys.getrefcount(words), sys.getrefcount(leaf), sys.getrefcount(route)]
                # One is the name here, the other the call; the route, which is held here, holds its words (its rules).
                assert left == [3, 2, 2]

    run(main())


def test_a_request_that_failed_does_not_hold_the_table(file: Path) -> None:
    """A connection keeps its last exchange, with the error that the old table raised; it may be idle for long."""
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            running = gateway.running
            assert running is not None
            pipeline = running.edge.pipeline
            exchanges: list[Exchange] = []
            pipeline._observers = (*pipeline._observers, exchanges.append)
            for method, path in ((b"GET", b"/nowhere"), (b"TRACE", b"/one/0"), (b"GET", b"/%zz")):
                await pipeline.handle(request(path, method=method), Client())
            assert [exchange.status for exchange in exchanges] == [404, 405, 400]
            with no_collector():
                table = weakref.ref(running.table)
                file.write_text(text("two"))
                gateway.reload()
                assert table() is None

    run(main())


def test_parts_are_let_go_of_in_many_steps(file: Path) -> None:
    """The old configuration is as large as the new one, and dropping it would stall just as long."""
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            assert gateway.running is not None
            old = gateway.running.table.routes[-MANY:]
            alive = []
            file.write_text(text("two"))
            work = steps(gateway)
            for _ in work:
                if gateway.config.routes[0].path == "/two/0":
                    # The tuple here is one of those who refer to it, the loop another one, the call the third.
                    alive.append(sum(sys.getrefcount(route) > 3 for route in old))
            assert alive[0] > MANY // 2
            assert alive[-1] == 0
            assert max(a - b for a, b in pairwise(alive)) <= 64

    run(main())


def test_what_is_in_force_is_not_dismantled_when_nothing_changed(file: Path) -> None:
    """The same file again: the same routes, and every one is found."""
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            assert gateway.running is not None
            before = gateway.running.table
            gateway.reload()
            assert gateway.running.table is not before
            assert gateway.running.table.routes == before.routes
            assert seen(gateway) == {"one", "not two"}

    run(main())
