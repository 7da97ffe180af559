"""Section 7, response handling: formats, statuses, aggregation, headers, errors."""

import asyncio
from typing import Any

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.testclient import TestClient

from app.main import gateway
from tests.conftest import token
from tests.echo import Echo

USER = {"id": 42, "email": "ann@example.com", "roles": ["user"]}
PRODUCT = {"id": 7, "name": "Teapot", "price": "24.50", "stock": 3}
ORDER = {"id": 1, "lines": [{"product": 7, "quantity": 2}]}


class Together(Echo):
    """An upstream that answers when three requests are there."""

    def __init__(self, together: asyncio.Barrier, answer: Any) -> None:
        super().__init__()
        self._together = together
        self.answer = JSONResponse(answer)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait, and answer."""
        await self._together.wait()
        await super().__call__(scope, receive, send)


def test_three_services_are_asked_at_the_same_time(client: TestClient) -> None:
    """One after the other, none would ever answer here."""
    together = asyncio.Barrier(3)
    with (
        gateway.override_service("users", Together(together, USER)),
        gateway.override_service("products", Together(together, [PRODUCT])),
        gateway.override_service("orders", Together(together, [ORDER])),
    ):
        answer = client.get("/api/v1/overview", headers=token())
    assert answer.status_code == 200
    assert answer.json() == {
        "user": USER,
        "products": [PRODUCT],
        "orders": [ORDER],
        "partial": False,
    }


def test_a_part_may_be_missing(client: TestClient, echoes: dict[str, Echo]) -> None:
    """The others are there, and the answer says so."""
    echoes["users"].answer = JSONResponse(USER)
    echoes["products"].answer = JSONResponse([PRODUCT])
    echoes["orders"].answer = PlainTextResponse("broken", 500)
    answer = client.get("/api/v1/overview", headers=token())
    assert answer.status_code == 200
    assert answer.json()["user"] == USER
    assert answer.json()["partial"] is True
    assert answer.json()["orders"]["error"]["code"] == "UPSTREAM_ERROR"


def test_no_part_is_502(client: TestClient) -> None:
    """Nothing answers behind the gateway."""
    answer = client.get("/api/v1/overview", headers=token())
    assert answer.status_code == 502
    assert set(answer.json()["error"]["details"]["parts"]) == {"user", "products", "orders"}


@pytest.mark.parametrize("status", [200, 201, 204, 404, 409, 500])
def test_statuses_pass(client: TestClient, echoes: dict[str, Echo], status: int) -> None:
    """With body and headers; errors are marked as the service's."""
    echoes["orders"].answer = Response(
        b"" if status == 204 else b"body", status, {"X-Reason": "none"}
    )
    answer = client.get("/orders/7", headers=token())
    assert answer.status_code == status
    assert answer.text == ("" if status == 204 else "body")
    assert answer.headers["X-Reason"] == "none"
    assert answer.headers.get("X-Error-Source") == ("upstream" if status >= 400 else None)


def test_headers_for_caches_pass(client: TestClient, echoes: dict[str, Echo]) -> None:
    """Those of the service, and our own on the first page."""
    headers = {"ETag": '"7"', "Cache-Control": "max-age=60", "Vary": "Accept-Language"}
    echoes["products"].answer = Response(b"body", 200, headers)
    answer = client.get("/products/7")
    assert {name: answer.headers[name] for name in ("ETag", "Cache-Control")} == {
        "ETag": '"7"',
        "Cache-Control": "max-age=60",
    }
    assert "Accept-Language" in answer.headers["Vary"]
    echoes["products"].answer = Response(b"", 304, {"ETag": '"7"'})
    unchanged = client.get("/products/7", headers={"If-None-Match": '"7"'})
    assert (unchanged.status_code, unchanged.headers["ETag"], unchanged.content) == (
        304,
        '"7"',
        b"",
    )
    echoes["users"].answer = JSONResponse(USER)
    page = client.get("/api/v1/overview", headers=token())
    assert page.headers["Cache-Control"] == "private, max-age=10"


def test_cors_headers(client: TestClient, echoes: dict[str, Echo]) -> None:
    """For the pages that propylon.yaml lists, on errors too."""
    origin = {"Origin": "http://localhost:3000"}
    for answer in (client.get("/products", headers=origin), client.get("/orders", headers=origin)):
        assert answer.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    asked = origin | {"Access-Control-Request-Method": "POST"}
    assert client.options("/api/v1/orders", headers=asked).status_code == 204
    foreign = client.get("/products", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers
    assert len(echoes["products"].hits) == 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/orders", 401),
        ("PATCH", "/api/v1/overview", 405),
        ("GET", "/api/v1/products/0", 422),
        ("GET", "/products", 502),
    ],
)
def test_errors_have_one_form(client: TestClient, method: str, path: str, status: int) -> None:
    """With the id of the request, which is also in the header."""
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request_id"}
    assert set(answer.json()["error"]) == {"code", "message", "details"}
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"
