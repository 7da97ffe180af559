"""Phase 2 of the roadmap: the log, the health of the services, one form of errors."""

import json

import httpx
import pytest
from fastapi.responses import PlainTextResponse

from gateway.main import app, gateway
from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio


async def test_each_request_is_a_line_of_the_log(
    echoes: dict[str, Echo], capsys: pytest.CaptureFixture[str]
) -> None:
    """With method, path, status, time and an id that no other request has."""
    transport = httpx.ASGITransport(app)
    async with (
        gateway.lifespan(),  # the log is written when it ends, at the latest
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        answers = [await client.get(f"/api/games/{n}", headers=token()) for n in range(50)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["path"] for line in requests] == [f"/api/games/{n}" for n in range(50)]
    assert {(line["method"], line["status"]) for line in requests} == {("GET", 200)}
    assert all(line["duration_ms"] >= 0 for line in requests)
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert [line["request_id"] for line in requests] == ids
    assert len(set(ids)) == 50
    assert [hit["headers"]["x-request-id"] for hit in echoes["game"].hits] == ids


async def test_health_pings_each_service(client: httpx.AsyncClient) -> None:
    """All at once, with a timeout of their own: two are away, and one does not answer."""
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert set(answer.json()["services"]) == {"auth", "game", "library"}
    assert {of["status"] for of in answer.json()["services"].values()} == {"unhealthy"}


@pytest.mark.parametrize("status", [400, 404, 422, 500])
async def test_what_a_service_answers_passes(
    client: httpx.AsyncClient, echoes: dict[str, Echo], status: int
) -> None:
    """Unchanged, and marked as the service's."""
    echoes["game"].answer = PlainTextResponse("sorry", status)
    answer = await client.get("/api/games/1", headers=token())
    assert (answer.status_code, answer.text) == (status, "sorry")
    assert answer.headers["X-Error-Source"] == "upstream"


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        ("/api/nowhere", True, 404, "NOT_FOUND"),
        ("/api/games", False, 401, "AUTH_ERROR"),
        ("/api/games", True, 502, "UPSTREAM_ERROR"),
        ("/api/library", True, 504, "UPSTREAM_TIMEOUT"),
        ("/api/games/%2e%2e/x", True, 400, "INVALID_REQUEST"),
    ],
)
async def test_errors_of_the_gateway_have_one_form(
    client: httpx.AsyncClient, path: str, sent: bool, status: int, code: str  # noqa: FBT001
) -> None:
    """With the id of the request, which is also in the header."""
    answer = await client.get(path, headers=token() if sent else {})
    assert answer.status_code == status
    assert answer.headers["X-Error-Source"] == "gateway"
    written = answer.json()
    assert set(written) == {"error", "request_id"}
    assert set(written["error"]) == {"code", "message", "details"}
    assert written["error"]["code"] == code
    assert written["request_id"] == answer.headers["X-Request-ID"]
