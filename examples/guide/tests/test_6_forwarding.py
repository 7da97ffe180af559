"""Section 6, request routing to microservices."""

import hashlib
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from app.main import gateway
from tests.conftest import token
from tests.echo import Echo

digests = FastAPI()


@digests.post("/{path:path}")
async def digest(path: str, request: Request) -> str:
    """Say what arrived."""
    assert path == "orders"
    return hashlib.sha256(await request.body()).hexdigest()


def test_requests_are_forwarded(client: TestClient, echoes: dict[str, Echo]) -> None:
    """As they were sent: the method, the path in its own spelling, the query."""
    client.get("/orders/a%2Fb/c?x=1&x=2&y=", headers=token())
    hit = echoes["orders"].hits[0]
    assert (hit["method"], hit["path"], hit["query"]) == ("GET", "/orders/a%2Fb/c", "x=1&x=2&y=")
    client.get("/users/a", headers=token())
    assert echoes["users"].hits[0]["path"] == "/a"


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_arrive_whole(client: TestClient, chunked: bool) -> None:  # noqa: FBT001
    """Five megabytes, with a length or in chunks."""
    body = secrets.token_bytes(5_000_000)

    def pieces() -> Iterator[bytes]:
        yield body[:1_000_000]
        yield body[1_000_000:]

    sent: Any = pieces() if chunked else body
    with gateway.override_service("orders", digests):
        answer = client.post("/orders", content=sent, headers=token())
    assert answer.json() == hashlib.sha256(body).hexdigest()


def test_a_slow_service_is_504(client: TestClient) -> None:
    """On a route, and in an endpoint that calls the service."""
    for path in ("/orders", "/api/v1/orders"):
        answer = client.get(path, headers=token())
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "UPSTREAM_TIMEOUT"


def test_a_dead_service_is_502_and_then_503(client: TestClient) -> None:
    """Endpoints and routes share the breaker."""
    codes = [client.get("/products").json()["error"]["code"] for _ in range(5)]
    assert codes == ["UPSTREAM_ERROR"] * 5
    answer = client.get("/api/v1/products")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "CIRCUIT_OPEN"
