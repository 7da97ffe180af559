"""Endpoints of a team that call services: in parallel, as the client who asks, with what is left when some fail."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Upstream

TEAM = '''
"""A team's gateway, with endpoints that call services."""

import asyncio
import gc
import os
from typing import Annotated, Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from propylon import Gateway, PartError, Service, gather_parts, public, service

gateway = Gateway.from_file("propylon.yaml")
app = gateway.asgi
Orders = Annotated[Service, service("orders")]
Users = Annotated[Service, service("users")]
Stock = Annotated[Service, service("stock")]
Down = Annotated[Service, service("down")]


class Part(BaseModel):
    """What the page shows of a part; whatever else the service says stays here."""

    name: str


class Overview(BaseModel):
    """A page."""

    orders: Part | PartError
    users: Part | PartError
    stock: Part | PartError
    partial: bool


@gateway.api.get("/team/overview", response_model=Overview)
async def overview(orders: Orders, users: Users, stock: Stock, status: int = 200) -> Any:
    return await gather_parts(
        orders=orders.get("/part"),
        users=users.get("/part", params={"of": "me"}),
        stock=stock.get("/part"),
        status=status,
    )


@gateway.api.get("/team/down")
async def down(orders: Down, users: Down) -> Any:
    return await gather_parts(orders=orders.get("/a"), users=users.get("/b"))


@gateway.api.get("/team/frail")
async def frail(frail: Annotated[Service, service("frail")], users: Users) -> Any:
    return await gather_parts(frail=frail.get("/frail"), users=users.get("/part"))


@gateway.api.get("/team/frail-alone")
async def alone(frail: Annotated[Service, service("frail")]) -> Any:
    return (await frail.get("/frail")).text


@gateway.api.get("/team/one")
async def one(orders: Orders) -> Any:
    return (await orders.get("/one")).raise_for_status().json()


@gateway.api.post("/team/order")
async def order(orders: Orders) -> Any:
    answer = await orders.post("/order", json={"item": 7}, headers={"X-Shop": "1"})
    return {"status": answer.status_code, "text": answer.text, "kind": answer.headers["X-Kind"]}


@gateway.api.get("/team/foreign")
async def foreign(stock: Stock) -> Any:
    return (await stock.get("/foreign", headers={"Authorization": "Basic b3duOm93bg=="})).text


@gateway.api.get("/team/open", dependencies=[public])
async def anybody(users: Users) -> Any:
    return (await users.get("/open")).text


@gateway.api.get("/team/download")
async def download(orders: Orders) -> StreamingResponse:
    async def pieces() -> Any:
        async with orders.stream("GET", "/download") as answer:
            async for data in answer.aiter_bytes():
                yield data

    return StreamingResponse(pieces())


@gateway.api.get("/team/first")
async def first(orders: Orders) -> str:
    async with orders.stream("GET", "/endless") as answer:
        async for text in answer.aiter_text():
            return text
    return ""


@gateway.api.get("/team/held", dependencies=[public])
async def held() -> dict[str, int]:
    gc.collect()
    return {"tasks": len(asyncio.all_tasks()), "files": len(os.listdir("/proc/self/fd"))}
'''

# Seconds. What is late here is never in time, and what is in time has the whole day.
LATE = 0.3
PATIENT = {"connect": 20, "first_byte": 20, "total": 30}
CONNECTIONS = 256  # and as many requests may wait for one
BODY = os.urandom(3_000_000)


class Shop:
    """The services behind the team's gateway."""

    def __init__(self) -> None:
        self.orders, self.users, self.stock = (Upstream(identified=True) for _ in range(3))
        self.closed = free_port()

    @property
    def all(self) -> tuple[Upstream, ...]:
        """Those that listen."""
        return (self.orders, self.users, self.stock)

    def configuration(self) -> Config:
        """The file beside the team's module."""
        once = {"attempts": 1}
        return {
            "auth": {"jwt": {"secret": SECRET}},
            "services": {
                "orders": {"url": f"http://127.0.0.1:{self.orders.port}/base", "timeouts": PATIENT, "retry": once,
                           "max_connections": CONNECTIONS},
                "users": {"url": f"http://127.0.0.1:{self.users.port}", "timeouts": PATIENT, "retry": once,
                          "max_connections": CONNECTIONS, "claims": {"X-Tenant": "tenant"}},
                "stock": {"url": f"http://127.0.0.1:{self.stock.port}", "forward_token": False, "retry": once,
                          "max_connections": CONNECTIONS, "timeouts": {**PATIENT, "idle": LATE}},
                "frail": {"url": f"http://127.0.0.1:{self.stock.port}", "retry": once,
                          "circuit": {"failure_threshold": 3, "min_throughput": 3, "recovery_timeout": 3600}},
                "down": {"url": f"http://127.0.0.1:{self.closed}", "retry": once},
            },
            "routes": [{"path": "/frail", "service": "frail", "strip_prefix": True}],
        }  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """Three services that listen."""
    made = Shop()
    yield made
    for upstream in made.all:
        upstream.close()


@pytest.fixture(scope="module")
def teams(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A team's gateway on each edge."""
    folder = tmp_path_factory.mktemp("aggregation")
    running = Kept(EDGES, folder, shop.configuration(), app="overview", source=TEAM)
    yield running
    running.close()


@pytest.fixture(scope="module")
def team(edge: str, teams: Kept) -> Gateway:
    """The one on the edge in turn."""
    return teams.at(edge)


@pytest.fixture(autouse=True)
def clean(shop: Shop) -> Iterator[None]:
    """Services without a past, and no doubt about what they were sent."""
    for upstream in shop.all:
        upstream.reset()
    yield
    assert [upstream.faults for upstream in shop.all] == [[], [], []]


def part(name: str, **more: Any) -> answers.Script:
    """The answer of a service that does well."""
    said = ", ".join(f'"{key}": "{value}"' for key, value in {"name": name, **more}.items())
    return answers.plain(headers=["Content-Type: application/json"], body=b"{%b}" % said.encode())


def overview(team: Gateway, query: str = "", subject: str = "ann", **claims: Any) -> Answer:
    """Ask for the page."""
    return ask(team.port, target=f"/team/overview{query}", headers=authorized(subject, **claims))


def test_three_services_are_called_at_the_same_time(team: Gateway, shop: Shop) -> None:
    """No service answers before all three were called, so the calls are under way together."""
    together = threading.Barrier(3)

    def meet(name: str) -> answers.Script:
        def script(peer: Peer, arrived: Arrived) -> None:
            together.wait(20)
            part(name, secret="not-shown")(peer, arrived)

        return script

    for name, upstream in zip(("orders", "users", "stock"), shop.all, strict=True):
        path = "/base/part" if name == "orders" else "/part"
        upstream.on(path, meet(name))
    answer = overview(team)
    assert answer.status == 200
    assert answer.json() == {
        "orders": {"name": "orders"},
        "users": {"name": "users"},
        "stock": {"name": "stock"},
        "partial": False,
    }
    assert shop.users.last.target == b"/part?of=me"


def test_services_hear_who_asks(team: Gateway, shop: Shop) -> None:
    """Identity, claims, id and trace are the client's, the token only where it is forwarded; forged headers are not."""
    for upstream in shop.all:
        upstream.fallback = part("x")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [*authorized("ann", scope="b a", tenant="acme"), ("traceparent", trace), ("X-Request-ID", "it-is-me-17"),
               ("tracestate", "a=1"), ("X-User-Roles", "root"), ("x_tenant", "evil"), ("X-Privacy-Level", "strict")]  # fmt: skip
    assert ask(team.port, target="/team/overview", headers=headers).status == 200
    spans = set()
    for upstream in shop.all:
        arrived = upstream.last
        assert arrived.get("x-user-id") == "ann"
        assert arrived.get("x-user-scopes") == "a,b"
        assert arrived.get("x-user-roles") is None
        assert arrived.get("x-request-id") == "it-is-me-17"
        assert arrived.get("x-privacy-level") == "strict"
        assert arrived.get("x-forwarded-for") == "127.0.0.1"
        assert arrived.get("tracestate") == "a=1"
        _, trace_id, span, _ = str(arrived.get("traceparent")).split("-")
        assert trace_id == trace.split("-")[1]
        spans.add(span)
    assert len(spans) == 3
    assert "b7ad6b7169203331" not in spans
    assert shop.orders.last.get("authorization") == dict(headers)["Authorization"]
    assert shop.stock.last.get("authorization") is None
    assert shop.users.last.get("x-tenant") == "acme"
    assert shop.orders.last.get("x-tenant") is None


def test_an_endpoint_for_everybody(team: Gateway, shop: Shop) -> None:
    """An anonymous client is one to the services, too, and its call needs no token."""
    shop.users.on("/open", answers.plain(body=b"hello"))
    answer = ask(team.port, target="/team/open", headers=[("X-User-Id", "root")])
    assert (answer.status, answer.json()) == (200, "hello")
    assert shop.users.last.get("x-user-id") is None
    assert ask(team.port, target="/team/overview").status == 401


def test_a_body_and_a_header_of_its_own(team: Gateway, shop: Shop) -> None:
    """JSON goes out with its type and length; the status and the headers of the answer are there."""
    shop.orders.on("/base/order", answers.plain("201 Created", ["X-Kind: book"], b"made"))
    answer = ask(team.port, "POST", "/team/order", authorized())
    assert answer.json() == {"status": 201, "text": "made", "kind": "book"}
    arrived = shop.orders.last
    assert (arrived.method, bytes(arrived.body)) == ("POST", b'{"item":7}')
    assert arrived.get("content-type") == "application/json"
    assert arrived.get("x-shop") == "1"


def test_credentials_of_the_endpoints_own(team: Gateway, shop: Shop) -> None:
    """What the endpoint says in Authorization goes out, also where the caller's token would not."""
    shop.stock.on("/foreign", answers.plain(body=b"ok"))
    assert ask(team.port, target="/team/foreign", headers=authorized()).json() == "ok"
    assert shop.stock.last.get("authorization") == "Basic b3duOm93bg=="


# Some fail


def broken(peer: Peer, arrived: Arrived) -> None:
    """Begin an answer and fall silent."""
    peer.read_body(arrived)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    peer.wait_gone(arrived)


@pytest.mark.parametrize(("query", "status"), [("", 200), ("?status=207", 207)])
def test_some_parts_fail(team: Gateway, shop: Shop, query: str, status: int) -> None:
    """One with an error body, one that is no JSON, one that goes well: the good part is there, the others say why not."""
    shop.orders.on("/base/part", answers.plain("500 Oops", body=b'{"trace": "s3cret-internals"}'))
    shop.users.on("/part", part("users"))
    shop.stock.on("/part", answers.plain(body=b"<html>"))
    answer = overview(team, query)
    assert answer.status == status
    told = answer.json()
    assert told["partial"] is True
    assert told["users"] == {"name": "users"}
    assert told["orders"]["error"] == {
        "code": "UPSTREAM_ERROR",
        "message": 'The service "orders" answered 500',
        "details": {"service": "orders", "status": 500},
    }
    assert told["stock"]["error"]["code"] == "UPSTREAM_ERROR"
    assert b"s3cret" not in answer.body


def test_a_part_that_is_too_slow(team: Gateway, shop: Shop) -> None:
    """The service's own timeout ends it; the call is closed, and the log names it under the client's id."""
    shop.orders.on("/base/part", part("orders"))
    shop.users.on("/part", part("users"))
    shop.stock.on("/part", broken)
    answer = overview(team)
    assert (answer.status, answer.json()["partial"]) == (200, True)
    assert answer.json()["stock"]["error"]["code"] == "UPSTREAM_TIMEOUT"
    assert shop.stock.wait(lambda: shop.stock.last.cancelled)
    assert shop.stock.wait(lambda: _calls(team, answer))
    (call,) = _calls(team, answer)
    assert (call["service"], call["level"], call["path"]) == ("stock", "warning", "/part")
    assert len(team.records(str(answer.get("x-request-id")))) == 1


def _calls(team: Gateway, answer: Answer) -> list[dict[str, Any]]:
    found = team.lines(str(answer.get("x-request-id")))
    return [line for line in found if line.get("event") == "call"]


def test_all_parts_fail(team: Gateway) -> None:
    """Nothing to show is 502, and the envelope says what became of each part."""
    answer = ask(team.port, target="/team/down", headers=authorized())
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (502, "UPSTREAM_ERROR")
    assert {part["code"] for part in error["details"]["parts"].values()} == {"UPSTREAM_ERROR"}
    assert answer.json()["request_id"] == answer.get("x-request-id")
    assert answer.get("x-error-source") == "gateway"


@pytest.mark.parametrize("status", ["404 Not Found", "503 Busy", "302 Found"])
def test_an_error_status_that_nobody_catches(team: Gateway, shop: Shop, status: str) -> None:
    """`raise_for_status` becomes the gateway's envelope."""
    shop.orders.on("/base/one", answers.plain(status, body=b"no"))
    answer = ask(team.port, target="/team/one", headers=authorized())
    assert answer.status == 502
    assert answer.json()["error"]["details"] == {"service": "orders", "status": int(status[:3])}


# Who waits no longer


def test_a_client_that_leaves_ends_all_calls(team: Gateway, shop: Shop) -> None:
    """No service works on for nobody."""
    for upstream in shop.all:
        upstream.fallback = answers.hang
    client = RawClient(team.port)
    client.send(request(target="/team/overview", headers=authorized()))
    for upstream in shop.all:
        assert upstream.last
    client.reset()
    for upstream in shop.all:
        assert upstream.wait(lambda upstream=upstream: upstream.last.cancelled)
        upstream.fallback = part("x")
    assert overview(team).json()["partial"] is False


def endless(peer: Peer, arrived: Arrived) -> None:
    """Send without an end."""
    peer.send(b"HTTP/1.1 200 OK\r\n\r\nbegun")
    peer.wait_gone(arrived)


def test_an_endpoint_that_has_enough(team: Gateway, shop: Shop) -> None:
    """Leaving the block of a stream closes it."""
    shop.orders.on("/base/endless", endless)
    assert ask(team.port, target="/team/first", headers=authorized()).json() == "begun"
    assert shop.orders.wait(lambda: shop.orders.last.cancelled)


def test_a_stream_is_passed_on(team: Gateway, shop: Shop) -> None:
    """A body of any size goes through the endpoint piece by piece, whole and in order."""
    shop.orders.on("/base/download", answers.plain(body=BODY))
    assert ask(team.port, target="/team/download", headers=authorized()).body == BODY


def test_a_stream_that_breaks_off(team: Gateway, shop: Shop) -> None:
    """A broken answer does not look whole."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    shop.orders.on("/base/download", answers.raw(head, end=answers.close))
    with RawClient(team.port) as client:
        client.send(request(target="/team/download", headers=authorized()))
        answer = client.read()
    assert (answer.body, answer.complete) == (b"half", False)


# Many


MANY = 500


async def _all_at_once(port: int) -> list[int]:
    """Ask for the page on that many connections, all of them open before the first answer is read."""
    asked = request(target="/team/overview", headers=[*authorized(), ("Connection", "close")])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MANY)]
    for _, writer in opened:
        writer.write(asked)
    read = await asyncio.gather(*(reader.read() for reader, _ in opened))
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()
    return [int(answer[9:12]) for answer in read]


def held(team: Gateway) -> dict[str, int]:
    """The gateway's tasks and open files."""
    found: dict[str, int] = ask(team.port, target="/team/held").json()
    return found


def test_many_at_once_leave_nothing(team: Gateway, shop: Shop) -> None:
    """Hundreds of pages at the same time: all are whole, no instance gets more connections than it may, and nothing is left over."""
    for upstream in shop.all:
        upstream.fallback = part("x")
    assert overview(team).status == 200
    before, opened = held(team), [upstream.connections for upstream in shop.all]
    assert asyncio.run(_all_at_once(team.port)) == [200] * MANY
    assert [len(upstream.requests) for upstream in shop.all] == [MANY + 1] * 3
    for upstream, known in zip(shop.all, opened, strict=True):
        assert upstream.connections - known <= CONNECTIONS
    kept = before["files"] + 3 * CONNECTIONS  # idle connections to the services
    assert shop.orders.wait(lambda: held(team)["tasks"] <= before["tasks"])
    assert shop.orders.wait(lambda: held(team)["files"] <= kept)


def test_an_open_breaker_is_respected(team: Gateway, shop: Shop) -> None:
    """Calls and proxied requests share a breaker: once calls have opened it, neither reaches the service."""
    shop.users.fallback = part("users")
    shop.stock.on("/frail", answers.plain("500 Oops"))

    def page() -> dict[str, Any]:
        told: dict[str, Any] = ask(team.port, target="/team/frail", headers=authorized()).json()
        return told

    assert [page()["frail"]["error"]["code"] for _ in range(3)] == ["UPSTREAM_ERROR"] * 3
    shop.stock.reset()
    told = page()
    assert told["frail"]["error"]["code"] == "CIRCUIT_OPEN"
    assert told["frail"]["error"]["details"]["service"] == "frail"
    assert told["users"] == {"name": "users"}
    for target in ("/frail/x", "/team/frail-alone"):
        answer = ask(team.port, target=target, headers=authorized())
        assert (answer.status, answer.json()["error"]["code"]) == (503, "CIRCUIT_OPEN")
        assert answer.get("retry-after")
    assert shop.stock.requests == []


def test_a_service_that_is_not_there_starts_nothing(edge: str, shop: Shop, tmp_path: Path) -> None:
    """A name that the file does not have is said at the start, and nothing listens."""
    source = TEAM.replace('service("users")', 'service("user")')
    (tmp_path / "overview.py").write_text(source)
    running = Gateway(edge, shop.configuration(), tmp_path, app="overview")
    try:
        assert running.process.wait(30) != 0
    finally:
        running.kill()
    said = running.said()
    for words in ('no service "user", and the endpoint /team/overview on gateway', 'mean "users"?'):
        assert words in said.replace('\\"', '"')  # in a line of text, or of JSON
    assert "listening on" not in said
