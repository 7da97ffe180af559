"""Services in a team's endpoints, without sockets: stand-ins, overrides, reloads, models, mistakes."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from propylon import (
    Gateway,
    PartError,
    Principal,
    Service,
    ServiceResponse,
    gather_parts,
    service,
)
from propylon.config.reading.problems import ConfigError
from propylon.control import service as calling
from propylon.errors import BadResponse, UpstreamStatus
from tests.gateway.test_policies import InProcess
from tests.support.tokens import SECRET
from tests.support.zygote import ROOT, ZYGOTE, environment

CONFIG = f"""
auth: {{jwt: {{secret: {SECRET}}}, from: [header, "cookie:session"], tokens: {{enabled: false}}}}
services:
  orders: {{url: "http://127.0.0.1:9/base", retry: {{attempts: 1}}}}
  users: {{url: "http://127.0.0.1:9", retry: {{attempts: 1}}}}
routes: [{{path: /orders, service: orders}}]
"""

Orders = Annotated[Service, service("orders")]
Users = Annotated[Service, service("users")]
Call = Callable[[Service], Any]

app = FastAPI()


@app.get("/base/pieces")
async def pieces() -> Response:
    """An answer in pieces, cut in the middle of a character and of a line."""

    async def cut() -> AsyncIterator[bytes]:
        for piece in (b"one\r\ntw", b"o\nd\xc3", b"\xa9but"):
            yield piece

    return StreamingResponse(cut(), media_type="text/plain")


@app.get("/base/latin")
async def latin() -> Response:
    """Text in another charset."""
    return Response(b"d\xe9but", media_type='text/plain; charset="ISO-8859-1"')


@app.get("/base/strange")
async def strange() -> Response:
    """A charset that is none."""
    return Response("début".encode(), headers={"Content-Type": "text/plain; charset=hex"})


@app.get("/base/cookies")
async def cookies() -> Response:
    """Several lines of one header."""
    answer = Response(status_code=204)
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def echo(path: str, request: Request) -> dict[str, Any]:
    """What the service sees."""
    return {
        "method": request.method,
        "path": path,
        "query": request.url.query,
        "headers": dict(request.headers),
        "body": (await request.body()).decode(),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two services that nothing listens for."""
    (tmp_path / "propylon.yaml").write_text(CONFIG)
    return tmp_path / "propylon.yaml"


@pytest.fixture
def gateway(file: Path) -> Gateway:
    """The gateway of that file."""
    return Gateway.from_file(file, {})


def called(gateway: Gateway, call: Call, **more: Any) -> Any:
    """What an endpoint returns that calls the service `orders`, for which the app stands in."""

    @gateway.api.get("/called")
    async def endpoint(orders: Orders) -> Any:
        return await call(orders)

    with InProcess(gateway.asgi, gateway) as client:
        gateway.override_service("orders", app)
        gateway.override_principal(Principal(subject="ann"))
        answer = client.get("/called", **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


# As users of httpx expect it


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_methods(gateway: Gateway, method: str) -> None:
    """Each method by its name; the base path of the service's URL stands before the path."""

    async def call(orders: Service) -> Any:
        return (await getattr(orders, method)("/x", params={"a": 1})).json()

    told = called(gateway, call)
    assert (told["method"], told["path"], told["query"]) == (method.upper(), "base/x", "a=1")
    assert told["headers"]["x-user-id"] == "ann"


def test_head_and_request(gateway: Gateway) -> None:
    """A HEAD has a head and no body; `request` takes any method in any case."""

    async def call(orders: Service) -> Any:
        head = await orders.head("/x")
        listed = await orders.request("propfind", "/x")
        return [head.status_code, head.content.decode(), listed.status_code]

    assert called(gateway, call) == [405, "", 405]


class Item(BaseModel):
    """Something to order."""

    number: int


@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({"json": {"item": Item(number=7)}}, '{"item":{"number":7}}', "application/json"),
        ({"data": {"a": "1 2", "b": [3, 4]}}, "a=1+2&b=3&b=4", "application/x-www-form-urlencoded"),
        ({"content": "text"}, "text", None),
        ({"content": b"{}", "headers": {"Content-Type": "application/x"}}, "{}", "application/x"),
        ({"json": 0, "headers": [("content-type", "application/y")]}, "0", "application/y"),
        ({}, "", None),
    ],
)
def test_bodies(gateway: Gateway, options: dict[str, Any], body: str, kind: str | None) -> None:
    """JSON, a form or bytes; the endpoint's own Content-Type replaces the usual one; an empty body is said."""

    async def call(orders: Service) -> Any:
        return (await orders.post("/x", **options)).json()

    told = called(gateway, call)
    assert told["body"] == body
    assert told["headers"].get("content-type") == kind
    assert told["headers"]["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"json": 1, "content": b"x"}, "one body"),
        ({"headers": {"X-User-Id": "root"}}, "written by the gateway"),
        ({"headers": {"Host": "x"}}, "written by the gateway"),
        ({"headers": {"X": "a\r\nb"}}, "no header field"),
        ({"timeout": 0}, "above 0"),
        ({"method": "TRACE"}, "no method"),
        ({"method": "GET /x"}, "no method"),
    ],
)
def test_mistakes_of_the_endpoint(gateway: Gateway, options: dict[str, Any], said: str) -> None:
    """They raise ValueError before anything is sent."""

    async def call(orders: Service) -> Any:
        method = options.pop("method", "POST")
        with pytest.raises(ValueError, match=said):
            await orders.request(method, "/x", **options)

    assert called(gateway, call) is None


def test_the_answer(gateway: Gateway) -> None:
    """Status, headers, text in its charset, JSON that is decoded once, and what is none."""

    async def call(orders: Service) -> Any:
        latin, odd = await orders.get("/latin"), await orders.get("/strange")
        cookies, told = await orders.get("/cookies"), await orders.get("/x")
        assert isinstance(told, ServiceResponse)
        assert told.json() is told.json()
        assert told.raise_for_status() is told
        assert (told.is_success, told.is_error, told.reason_phrase) == (True, False, "OK")
        assert "orders" in repr(told)
        with pytest.raises(BadResponse, match="JSON"):
            latin.json()
        return [latin.text, odd.text, cookies.headers.getlist("Set-Cookie"), cookies.content == b""]

    texts = called(gateway, call)
    assert texts[:2] == ["début", "début"]
    assert [one.partition(";")[0] for one in texts[2]] == ["a=1", "b=2"]
    assert texts[3]


def test_an_error_status(gateway: Gateway) -> None:
    """It raises only when the endpoint asks, and the error has the answer."""

    async def call(orders: Service) -> Any:
        async with orders.stream("PROPFIND", "/pieces") as answer:
            with pytest.raises(UpstreamStatus) as raised:
                answer.raise_for_status()
            with pytest.raises(RuntimeError, match="aread"):
                answer.json()
        return [raised.value.response.status_code, raised.value.status]

    assert called(gateway, call) == [405, 502]


def test_streams(gateway: Gateway) -> None:
    """Bytes, text and lines; pieces that are cut anywhere."""

    async def call(orders: Service) -> Any:
        async with orders.stream("GET", "/pieces") as answer:
            lines = [line async for line in answer.aiter_lines()]
        async with orders.stream("GET", "/pieces") as answer:
            whole = await answer.aread()
            again = [piece async for piece in answer.aiter_bytes()]
        return [lines, whole.decode(), again == [whole], answer.text == whole.decode()]

    assert called(gateway, call) == [["one", "two", "début"], "one\r\ntwo\ndébut", True, True]


def test_an_answer_that_is_too_large(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not kept in memory: 502, and the rest is not read."""
    monkeypatch.setattr(calling, "_MAX_ANSWER", 8)

    async def call(orders: Service) -> Any:
        with pytest.raises(BadResponse, match="too large"):
            await orders.get("/pieces")
        async with orders.stream("GET", "/pieces") as answer:
            pieces = [piece async for piece in answer.aiter_bytes()]
            return pieces[0].decode()

    assert called(gateway, call) == "one\r\ntw"


def test_a_token_in_a_cookie(gateway: Gateway) -> None:
    """The service gets the caller's verified token as it expects it, wherever the client had put it."""

    async def call(orders: Service) -> Any:
        headers = (await orders.get("/x")).json()["headers"]
        return [headers.get("authorization"), headers.get("cookie")]

    found = called(gateway, call, headers={"Cookie": "session=abc.def.ghi; theme=dark"})
    assert found == ["Bearer abc.def.ghi", None]


# Parts


class Overview(BaseModel):
    """A page."""

    orders: Item | PartError
    users: Item | PartError | None
    partial: bool


def page(gateway: Gateway, **parts: Callable[[], Any]) -> httpx.Response:
    """The page of a gateway whose endpoint gathers these parts."""

    @gateway.api.get("/page", response_model=Overview)
    async def endpoint(orders: Orders) -> Any:
        return await gather_parts(**{name: make() for name, make in parts.items()}, status=207)

    with InProcess(gateway.asgi, gateway) as client:
        gateway.override_service("orders", app)
        gateway.override_principal(Principal(subject="ann"))
        return client.get("/page")


async def item() -> object:
    """A part that is there."""
    return {"number": 7, "internal": True}


async def nothing() -> object:
    """A part that is empty."""
    return None


def raising(error: BaseException) -> Callable[[], Any]:
    """A part that fails so."""

    async def fail() -> object:
        raise error

    return fail


def test_parts_are_typed(gateway: Gateway) -> None:
    """By the endpoint's model, which also says what is not shown."""
    answer = page(gateway, orders=item, users=nothing)
    assert answer.status_code == 200
    assert answer.json() == {"orders": {"number": 7}, "users": None, "partial": False}


def misfit() -> ValueError:
    """What pydantic raises."""
    with pytest.raises(ValueError, match="number") as raised:
        Item.model_validate({"number": "x-s3cret"})
    return raised.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HTTPException(404, "No such user"), "NOT_FOUND"),
        (TimeoutError(), "UPSTREAM_TIMEOUT"),
        (misfit(), "UPSTREAM_ERROR"),
    ],
)
def test_what_counts_as_a_part_that_failed(gateway: Gateway, error: Exception, code: str) -> None:
    """What a team's own part raises when the service is at fault; 207 where that was asked for."""
    answer = page(gateway, orders=item, users=raising(error))
    assert (answer.status_code, answer.json()["partial"]) == (207, True)
    assert answer.json()["users"]["error"]["code"] == code
    assert "s3cret" not in answer.text


def test_a_mistake_is_no_part(gateway: Gateway) -> None:
    """A bug in the endpoint is a 500, and the other parts are cancelled."""
    cancelled = []

    async def waiting() -> object:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return None

    answer = page(gateway, orders=raising(ZeroDivisionError("b")), users=waiting)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert cancelled


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({}, TypeError), ({"partial": item}, TypeError), ({"status": 404, "a": item}, ValueError)],
)
def test_what_cannot_be_gathered(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A part that would hide `partial`, or a status that says something else."""

    async def gather() -> None:
        with pytest.raises(error):
            await gather_parts(**arguments)

    asyncio.run(gather())


# Tests of teams, reloads


def test_an_override_of_fastapi(gateway: Gateway) -> None:
    """A test of the app alone puts something else in the place of a service, by its name."""

    @gateway.api.get("/alone")
    async def endpoint(orders: Orders) -> str:
        return str(orders)

    with InProcess(gateway.api) as alone:
        assert alone.get("/alone").status_code == 503
        gateway.api.dependency_overrides[service("orders")] = lambda: "another"
        assert alone.get("/alone").json() == "another"


def test_a_called_service_needs_no_route(gateway: Gateway) -> None:
    """It has work: `check` and the log have no doubt about it, and go on to doubt another."""

    @gateway.api.get("/users")
    async def endpoint(users: Users) -> None:
        """Call it."""

    idle = "services.users: no route leads to it"
    assert any(idle in str(warning) for warning in gateway.loaded.warnings)
    assert not any(idle in str(warning) for warning in gateway.settled.warnings)


def test_a_reload(gateway: Gateway, file: Path) -> None:
    """Endpoints call the services of the new configuration; one that it lacks keeps the old one in force."""
    addresses: list[object] = []

    @gateway.api.get("/reloaded")
    async def endpoint(orders: Orders) -> Any:
        answer = await orders.get("/x")
        addresses.append(answer.status_code)

    gateway.override_principal(Principal(subject="ann"))
    with InProcess(gateway.asgi, gateway) as client:
        assert client.get("/reloaded").status_code == 502
        file.write_text(
            CONFIG.replace("  orders:", "  others:").replace("service: orders", "service: others")
        )
        gateway.reload()
        assert "orders" in gateway.config.services
        text = CONFIG.replace('url: "http://127.0.0.1:9/base"', "instances: []")
        file.write_text(text)
        gateway.reload()
        answer = client.get("/reloaded")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.json()["error"]["details"]["service"] == "orders"


# Names of no service


def misspelt(gateway: Gateway, *, mounted: bool) -> None:
    """Add an endpoint that calls what is not there, perhaps deep in a mounted app."""
    there = FastAPI() if mounted else gateway.api

    async def nested(orders: Annotated[Service, service("oders")]) -> None:
        """Depend on it."""

    @there.get("/wrong", dependencies=[])
    async def endpoint(_: Annotated[None, calling.service("orders")], orders: Orders) -> None:
        """Call one that is there."""

    there.get("/deep")(nested)
    if mounted:
        gateway.api.mount("/sub", there)


@pytest.mark.parametrize("mounted", [False, True])
def test_an_unknown_service(gateway: Gateway, *, mounted: bool) -> None:
    """The gateway does not start, and says which endpoint calls what."""
    misspelt(gateway, mounted=mounted)
    path = "/sub/deep" if mounted else "/deep"
    said = f'services: no service "oders", and the endpoint {path} on gateway.api calls it; did you mean "orders"?'
    with pytest.raises(ConfigError) as raised:
        gateway.validate()
    assert said in str(raised.value)


@pytest.fixture
def team(file: Path) -> Path:
    """A team's module that calls a service that is not there."""
    (file.parent / "shop.py").write_text("""
from typing import Annotated
from propylon import Gateway, Service, service
gateway = Gateway.from_file("propylon.yaml")

@gateway.api.get("/x")
async def x(orders: Annotated[Service, service("oders")]) -> None: ...
""")
    return file.parent


@pytest.mark.parametrize("more", [[], ["--format", "json"]])
def test_check_of_an_unknown_service(team: Path, more: list[str]) -> None:
    """`check --app` finds it without a start."""
    args = [sys.executable, "-m", "propylon", "check", "--app", "shop:gateway", *more]
    done = ZYGOTE.run(args, cwd=team, env=environment())
    assert done.returncode == 2
    assert "and the endpoint /x on gateway.api calls it" in done.stdout + done.stderr


# The documented example

PAGE = (ROOT / "docs/howto/aggregation.md").read_text()
SHOP = FastAPI()


@SHOP.get("/orders/latest")
async def latest(limit: int) -> list[dict[str, object]]:
    """Orders, with more than the page shows."""
    return [{"id": 7, "total": "9.50", "margin": 3}][:limit]


@SHOP.get("/orders/{number}")
async def one(number: int) -> dict[str, object]:
    """An order."""
    return {"id": number, "items": [1, 2]}


@SHOP.post("/orders/")
async def make(body: dict[str, object]) -> dict[str, object]:
    """Another one."""
    return {"id": 8, **body}


@SHOP.get("/me")
async def me(request: Request) -> dict[str, object]:
    """Who asks."""
    return {"name": request.headers["x-user-id"]}


def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page shows is what happens."""
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)
    code = next(text for kind, text in blocks if kind == "python")
    text = next(text for kind, text in blocks if kind == "yaml")
    (tmp_path / "propylon.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    module = ModuleType("shop")
    exec(compile(code, "shop.py", "exec"), module.__dict__)
    gateway: Gateway = module.__dict__["gateway"]
    with InProcess(gateway.asgi, gateway) as client:
        gateway.override_principal(Principal(subject="Ann"))
        gateway.override_service("orders", SHOP)
        partial = client.get("/api/v1/overview")
        gateway.override_service("users", SHOP)
        whole = client.get("/api/v1/overview")
        again = client.post("/api/v1/reorders/7", content="", headers={})
    assert partial.json()["user"]["error"]["code"] == "UPSTREAM_ERROR"
    assert whole.text == re.search(r'^\{"orders":\[\{.*$', PAGE, re.MULTILINE)[0]  # type: ignore[index]
    assert again.json() == {"id": 8, "items": [1, 2]}
