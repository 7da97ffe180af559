"""Threats that no other test shows; docs/topics/threats.md lists all of them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import RawClient, request
from tests.support.gateway import EDGES, Gateway
from tests.support.systems import System, Systems
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Upstream
from tests.support.waiting import soon, wait

# What is left over, told by the process itself.
CENSUS = """

@gateway.api.get("/census")
async def census() -> dict[str, int]:
    import asyncio, os
    return {"tasks": len(asyncio.all_tasks()), "files": len(os.listdir("/proc/self/fd"))}
"""
CLOSED = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"


@pytest.fixture
def system(systems: Systems) -> System:
    """The game library, which tells what is left over."""
    return systems.keep("census", "game-library", source=CENSUS)


def test_t71_a_long_path_costs_nothing(system: System) -> None:
    """Threat 71: a path of 50 KB that would keep a regular expression busy is answered like any other."""
    path = "/api/games/" + "a" * 50_000 + "!"
    answer = system.ask_as("t71", "GET", path)
    assert (answer.status, system.of("game", answer).target) == (200, path[10:].encode())
    # In milliseconds; an expression that backtracks takes longer than the universe.
    assert system.record(answer)["duration_ms"] < 5000


@pytest.mark.parametrize("target", ["/api/games/x", "/api/nosuch", "/api/games/%zz", "/livez"])
def test_t72_a_foreign_server_logs_no_query(system: System, target: str) -> None:
    """Threat 72: uvicorn's own access log has the path of a request, and nothing of its query."""
    private = "Zq83-query-of-somebody"
    answer = system.ask_as("t72", "GET", f"{target}?token={private}&name={private}")
    before = len(system.said())
    system.ask_as("t72", "GET", "/api/games/last")
    wait(lambda: "/api/games/last" in system.said()[before:])
    said = system.said()
    assert answer.status in {200, 400, 404}
    assert target.partition("%")[0] in said
    assert private not in said


@pytest.fixture(scope="module", params=EDGES)
def caching(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Upstream]]:
    """A gateway with a route that stores answers, and one that says nothing of it."""
    with Upstream(identified=True) as up:
        service = {"url": f"http://127.0.0.1:{up.port}"}
        config = {
            "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
            "services": {"up": service},
            "routes": [
                {"path": "/kept", "service": "up", "auth": "optional", "cache": {"ttl": "30s"}},
                {"path": "/said", "service": "up", "auth": "optional"},
            ],
        }
        gateway = Gateway(request.param, config, tmp_path_factory.mktemp("caching"))
        gateway.wait_ready()
        yield gateway, up
        gateway.stop()


@pytest.mark.parametrize("path", ["/kept/x", "/said/x"])
def test_t74_no_caller_gets_anothers_answer(caching: tuple[Gateway, Upstream], path: str) -> None:
    """Threat 74: whoever asks gets what the service said to them, their cookie included, however cacheable it was."""
    gateway, up = caching
    up.reset()

    def say(peer: Any, arrived: Any) -> None:
        who = f"{arrived.get('x-user-id')} {arrived.get('cookie')}"
        head = ["Cache-Control: max-age=60", f"Set-Cookie: who={arrived.get('x-user-id')}"]
        answers.plain(headers=head, body=who.encode())(peer, arrived)

    up.on(path, say)
    for who in ("alice", "bob", "alice"):
        with RawClient(gateway.port) as client:
            headers = [*authorized(who), ("Cookie", f"session=of-{who}")]
            answer = client.send(request("GET", path, headers)).read()
        assert (answer.body.decode(), answer.get("set-cookie")) == (
            f"{who} session=of-{who}",
            f"who={who}",
        )
    with RawClient(gateway.port) as client:
        answer = client.send(request("GET", path)).read()
    assert answer.body == b"None None"


def mix(system: System, headers: list[tuple[str, str]]) -> None:
    """Traffic of all kinds, some of which goes wrong."""
    port, body = system.port, b"x" * 5000
    with RawClient(port) as client:
        for _ in range(5):
            client.send(request("GET", "/api/games/x", headers)).read()
            client.send(request("POST", "/api/library/x", headers, body)).read()
            client.send(request("GET", "/api/games/x")).read()
            client.send(request("GET", "/api/nosuch", headers)).read()
    for target in ("/api/games/cut", "/api/games/garbage"):
        with RawClient(port) as client:
            client.send(request("GET", target, headers)).read()
    with RawClient(port) as client:  # who leaves in the middle of an answer
        client.send(request("GET", "/api/games/endless", headers)).has_come(b"\r\n\r\n")
    with RawClient(port) as client:  # who leaves in the middle of a body
        client.send(request("POST", "/api/games/x", headers, body)[:-100])
    with RawClient(port) as client:
        client.send(b"no HTTP at all\r\n\r\n").rest()


def test_t76_traffic_leaves_nothing_behind(system: System) -> None:
    """Threat 76: after traffic of all kinds there are no more tasks and open files than before, and memory is flat."""
    system.on("game", "/cut", answers.raw(CLOSED.encode(), end=answers.close))
    system.on("game", "/garbage", answers.raw(b"SSH-2.0-x\r\n\r\n", end=answers.close))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    system.on("game", "/endless", answers.endless(b"5\r\nagain\r\n", first=head, pause=0.01))
    headers = authorized("t76")

    def census() -> dict[str, int]:
        found: dict[str, int] = system.ask("GET", "/census", headers).json()
        return found

    for _ in range(3):
        mix(system, headers)
    wait(lambda: all(not peer.busy for up in system.ups.values() for peer in set(up._peers)))

    def within(most: dict[str, int]) -> bool:
        return all(one <= most[name] for name, one in census().items())

    found, memory = census(), system.rss()
    # What the gateway keeps open for later is bounded. On a busy machine it may open more of it in one round, and not in each.
    for _ in range(4):
        before = found
        for _ in range(10):
            mix(system, headers)
        most = {name: one + 3 for name, one in before.items()}
        if soon(partial(within, most), 10):
            break
        found = census()
    else:
        pytest.fail(f"each round leaves more behind: {before} became {found}")
    assert system.rss() - memory < 4_000_000
    for trouble in ("never retrieved", "was destroyed", "never awaited"):
        assert trouble not in system.said()
