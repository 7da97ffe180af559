"""An ASGI app in this process stands in for a service, for a team's tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from propylon import Gateway, Principal
from tests.gateway.test_policies import InProcess
from tests.support.tokens import SECRET

CONFIG = f"""
auth: {{jwt: {{secret: {SECRET}}}, tokens: {{enabled: false}}}}
services:
  orders: {{url: "http://127.0.0.1:9/base", circuit: {{failure_threshold: 1, min_throughput: 1}}}}
  users: {{url: "http://127.0.0.1:9"}}
routes:
  - {{path: /orders, service: orders, strip_prefix: true}}
  - {{path: /users, service: users, auth: none, strip_prefix: true}}
"""

app = FastAPI()


@app.get("/stream")
async def stream() -> Response:
    """An answer in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(3):
            yield b"%d" % at

    return StreamingResponse(pieces())


@app.get("/broken")
async def broken() -> Response:
    """A service that fails."""
    return Response(status_code=500)


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def echo(path: str, request: Request) -> dict[str, object]:
    """What the service sees."""
    return {
        "path": path,
        "user": request.headers.get("x-user-id"),
        "body": (await request.body()).decode(),
        "forged": request.headers.get("x-user-roles"),
    }


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Two services that nothing listens for."""
    (tmp_path / "propylon.yaml").write_text(CONFIG)
    return Gateway.from_file(tmp_path / "propylon.yaml", {})


@pytest.fixture
def client(gateway: Gateway) -> Iterator[InProcess]:
    """As a team's tests have it."""
    with InProcess(gateway.asgi, gateway) as client:
        yield client


def test_it_sees_what_the_service_would_see(gateway: Gateway, client: InProcess) -> None:
    """Paths, bodies and identity; the route's rules hold all the same."""
    with gateway.override_service("orders", app):
        assert client.get("/orders/7").status_code == 401
        with gateway.override_principal(Principal(subject="ann")):
            answer = client.post("/orders/7", content="x", headers={"X-User-Roles": "boss"})
    assert answer.json() == {"path": "base/7", "user": "ann", "body": "x", "forged": None}


def test_it_ends_with_its_block(gateway: Gateway, client: InProcess) -> None:
    """Blocks may stand in each other; other services are asked as before."""
    other = FastAPI()
    with gateway.override_service("users", app):
        assert client.get("/users/stream").text == "012"
        with gateway.override_service("users", other):
            assert client.get("/users/stream").status_code == 404
        assert client.get("/users/stream").text == "012"
        with gateway.override_principal(Principal(subject="ann")):
            assert client.get("/orders/7").status_code == 502
    assert client.get("/users/stream").status_code == 502


def test_before_the_start(gateway: Gateway) -> None:
    """A fixture may say it first."""
    gateway.override_service("users", app)
    with InProcess(gateway.asgi, gateway) as client:
        assert client.get("/users/stream").text == "012"
        gateway.override_service("users", None)
        assert client.get("/users/stream").status_code == 502


def test_errors_close_nothing(gateway: Gateway, client: InProcess) -> None:
    """A test of an error must not fail the next test."""
    with gateway.override_service("users", app):
        for _ in range(10):
            assert client.get("/users/broken").status_code == 500
        assert client.get("/users/stream").text == "012"


def test_a_service_that_is_not_there(gateway: Gateway) -> None:
    """A misspelt name is said."""
    with pytest.raises(ValueError, match='no service "oders"; did you mean "orders"?'):
        gateway.override_service("oders", app)
