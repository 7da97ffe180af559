"""Phase 3 of the roadmap: limits, retries, timeouts."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.responses import PlainTextResponse, Response

from gateway.config import settings
from gateway.main import gateway
from propylon import Gateway, Principal
from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parents[1]


class Shaky(Echo):
    """An upstream whose answers have these statuses, one after the other."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = [*statuses]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        status = self.statuses.pop(0)
        self.answer = PlainTextResponse("", status) if status != 200 else None
        await super().__call__(scope, receive, send)


async def test_more_requests_than_allowed_are_429() -> None:
    """Each user has a budget of their own."""
    # Two at once, and a rate at which nothing comes back while the test runs.
    environ = os.environ | {
        "RATE_LIMIT_PER_SECOND": "1",
        "PROPYLON_DEFAULTS__RATE_LIMIT__RATE": "1/h",
    }
    limited = Gateway.from_file(HERE / "propylon.yaml", environ, settings=settings)
    transport = httpx.ASGITransport(limited.asgi)
    async with (
        limited.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        with limited.override_service("game", Echo()):
            answers = [await client.get("/api/games", headers=token()) for _ in range(3)]
            other = await client.get("/api/games", headers=token(sub="43"))
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert other.status_code == 200
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "RATE_LIMIT"
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["X-RateLimit-Remaining"] == "0"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_failed_request_is_sent_again(client: httpx.AsyncClient, status: int) -> None:
    """Twice at most."""
    shaky = Shaky(status, status, 200)
    with gateway.override_service("game", shaky):
        answer = await client.get("/api/games", headers=token())
    assert answer.status_code == 200
    assert len(shaky.hits) == 3


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 500), ("GET", 404), ("GET", 429), ("POST", 502), ("PATCH", 504)]
)
async def test_others_are_not_sent_again(
    client: httpx.AsyncClient, method: str, status: int
) -> None:
    """The service may have acted on a POST already, and would say the same of a request that is wrong."""
    shaky = Shaky(status, 200)
    with gateway.override_service("game", shaky):
        answer = await client.request(method, "/api/games", headers=token())
    assert answer.status_code == status
    assert len(shaky.hits) == 1


async def test_retries_end(client: httpx.AsyncClient) -> None:
    """The client gets the last answer of the service."""
    shaky = Shaky(502, 502, 504, 200)
    with gateway.override_service("game", shaky):
        answer = await client.get("/api/games", headers=token())
    assert answer.status_code == 504
    assert len(shaky.hits) == 3


async def test_a_service_that_does_not_answer_is_504(client: httpx.AsyncClient) -> None:
    """After the timeout of the service."""
    answer = await client.get("/api/library/", headers=token())
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "UPSTREAM_TIMEOUT"


async def test_a_principal_of_the_tests_own(client: httpx.AsyncClient) -> None:
    """Needs no token; limits and routes count as always."""

    class Plain(Echo):
        """Says only who asks."""

    plain = Plain()
    plain.answer = Response("ok")
    with (
        gateway.override_service("game", plain),
        gateway.override_principal(Principal(subject="7")),
    ):
        assert (await client.get("/api/games")).text == "ok"
    assert plain.hits[0]["headers"]["x-user-id"] == "7"
