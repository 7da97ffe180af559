"""Whatever a team's own code ends by: its client is told, nobody else notices, and the log has it once."""

import json
from collections.abc import Iterator

import pytest

from tests.support.client import RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, authorized
from tests.support.topology import Upstreams

TEAM = '''
"""A team's gateway, all of whose code is broken."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Depends
from starlette.responses import StreamingResponse

from propylon import Gateway, Principal, Request, public

gateway = Gateway.from_file("propylon.yaml")
app = gateway.asgi


def deep(depth: int = 0) -> None:
    deep(depth + 1)


async def fall(kind: str) -> None:
    marker = f"m4rker-{kind}"
    if kind == "cancelled":
        raise asyncio.CancelledError(marker)
    if kind == "awaited":
        own = asyncio.create_task(asyncio.sleep(3600), name=marker)
        asyncio.get_running_loop().call_soon(own.cancel, marker)
        await own
    if kind == "key":
        raise KeyError(marker)
    if kind == "group":
        raise ExceptionGroup(marker, [KeyError("inner"), ExceptionGroup("deeper", [OSError()])])
    if kind == "taskgroup":
        async with asyncio.TaskGroup() as group:
            group.create_task(fall("key"))
            group.create_task(asyncio.sleep(3600))
    if kind == "timeout":
        async with asyncio.timeout(0.01):
            await asyncio.sleep(3600)
    if kind == "stop":
        raise StopIteration(marker)
    if kind == "stop-async":
        raise StopAsyncIteration(marker)
    if kind == "deep":
        deep()
    if kind == "memory":
        raise MemoryError(marker)
    if kind == "assertion":
        raise AssertionError


@gateway.before("guarded")
async def policy(request: Request, principal: Principal) -> None:
    await fall(request.path.decode().rpartition("/")[2])


@gateway.api.get("/plain/{kind}", dependencies=[public])
async def plain(kind: str) -> str:
    await fall(kind)
    return kind


async def depended(kind: str) -> AsyncIterator[None]:
    await fall(kind)
    yield


@gateway.api.get("/depends/{kind}", dependencies=[public, Depends(depended)])
async def depends(kind: str) -> str:
    return kind


@gateway.api.get("/streamed/{kind}", dependencies=[public])
async def streamed(kind: str) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.sleep(0.02)
        await fall(kind)
        yield b", and whole"

    return StreamingResponse(body())


@gateway.api.get("/slow", dependencies=[public])
async def slow() -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for number in range(4):
            yield b"%d" % number
            await asyncio.sleep(0.1)

    return StreamingResponse(body())
'''
CANCELLED = ["cancelled", "awaited"]
KINDS = [*CANCELLED, "key", "group", "taskgroup", "timeout", "stop", "stop-async", "deep", "memory",
         "assertion"]  # fmt: skip
QUERY = "v4lue-of-a-query-8Hn"


def configuration(port: int) -> Config:
    """The file beside the team's module."""
    return {
        "auth": {"jwt": {"secret": SECRET}},
        "services": {"main": {"url": f"http://127.0.0.1:{port}"}},
        "routes": [{"name": "guarded", "path": "/guarded", "service": "main"}],
    }


@pytest.fixture(scope="module")
def teams(guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """The team's gateway on each edge."""
    config = configuration(guarded_upstreams.main.port)
    running = Kept(EDGES, tmp_path_factory.mktemp("broken"), config, app="team", source=TEAM)
    yield running
    running.close()


@pytest.fixture
def team(edge: str, teams: Kept, guarded_upstreams: Upstreams) -> Iterator[Gateway]:
    """The one on the edge in turn; it lives on, and so does whoever is in the middle of something."""
    guarded_upstreams.reset()
    running = teams.at(edge)
    with RawClient(running.port) as beside:
        beside.send(request(target="/plain/fine"))
        assert beside.read().body == b'"fine"'
        yield running
        beside.send(request(target="/plain/fine"))
        assert beside.read().body == b'"fine"'
    assert running.process.poll() is None, running.said()
    assert guarded_upstreams.main.raw == b""


class Asked:
    """What came of asking for everything that falls over in one place, and what was logged of it."""

    def __init__(self, team: Gateway, place: str) -> None:
        before = len(team.said())
        self.headers = authorized()
        self.answers = {
            kind: ask(team.port, target=f"/{place}/{kind}?secret={QUERY}", headers=self.headers)
            for kind in KINDS
        }
        # All lines are written in their order: when the last one is there, the others are.
        team.record(ask(team.port, target="/plain/fine"))
        self.said = team.said()[before:]
        records = [team.record(answer) for answer in self.answers.values()]
        assert [record["path"] for record in records] == [f"/{place}/{kind}" for kind in KINDS]
        assert {record["level"] for record in records} == {"error"}

    @property
    def tracebacks(self) -> int:
        """How many were logged; where the loop was held up, on a loaded machine, the watchdog logs one of its own."""
        lines = [line for line in self.said.splitlines() if '"traceback"' in line]
        return sum("watchdog" not in json.loads(line).get("logger", "") for line in lines)

    def check_secrets(self) -> None:
        """Nothing that came with a request is logged; nothing of the team's code is answered."""
        for secret in (self.headers[0][1].partition(" ")[2], QUERY):
            assert secret not in self.said
        for answer in self.answers.values():
            assert b"m4rker" not in answer.head + answer.body
            assert QUERY.encode() not in answer.head + answer.body

    def check_refused(self) -> None:
        """500 in the envelope, each of them."""
        for kind, answer in self.answers.items():
            assert (answer.status, answer.complete) == (500, True), kind
            assert answer.json()["error"]["code"] == "INTERNAL_ERROR", kind
            assert answer.json()["request_id"] == answer.get("x-request-id"), kind
            assert answer.get("x-error-source") == "gateway", kind


def test_a_policy(team: Gateway) -> None:
    """Nobody is let through; each bug is in the log, once."""
    found = Asked(team, "guarded")
    found.check_refused()
    found.check_secrets()
    assert found.tracebacks == len(KINDS)


@pytest.mark.parametrize("place", ["plain", "depends"])
def test_an_endpoint(team: Gateway, place: str) -> None:
    """The same, wherever in the endpoint it happens; what was cancelled need not have a traceback."""
    found = Asked(team, place)
    found.check_refused()
    found.check_secrets()
    assert len(KINDS) - len(CANCELLED) <= found.tracebacks <= len(KINDS)


def test_an_answer_that_has_begun(team: Gateway) -> None:
    """It is cut, at once: it must not look whole, and its client must not wait for the rest."""
    found = Asked(team, "streamed")
    for kind, answer in found.answers.items():
        assert (answer.status, answer.body, answer.complete) == (200, b"begun", False), kind
    found.check_secrets()
    assert len(KINDS) - len(CANCELLED) <= found.tracebacks <= len(KINDS)


def test_others_in_the_middle_of_theirs(team: Gateway) -> None:
    """Whatever falls over beside it, a stream goes on to its end."""
    with RawClient(team.port) as client:
        client.send(request(target="/slow"))
        for kind in KINDS[:5]:
            for place in ("guarded", "plain", "streamed"):
                ask(team.port, target=f"/{place}/{kind}", headers=authorized())
        answer = client.read()
    assert (answer.body, answer.complete) == (b"0123", True)
