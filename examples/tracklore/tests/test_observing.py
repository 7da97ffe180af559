"""What the gateway tells of itself: the log, the health of the services, the documentation. Issues 8 and 11."""

import json

import httpx
import pytest

from app.main import app, gateway
from tests.conftest import token
from tests.echo import Echo


@pytest.mark.anyio
async def test_each_request_is_a_line_of_the_log(
    echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the id that the client and the service got, and without the token."""
    sent = token()
    transport = httpx.ASGITransport(app)
    async with (
        gateway.lifespan(),  # the log is written when it ends, at the latest
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        good = await client.get("/user/x?token=hidden", headers=sent)
        with gateway.override_service("user", None):
            bad = await client.get("/user/x", headers=sent | {"X-Request-ID": "abc-123"})
    out = capsys.readouterr().out
    lines = [json.loads(line) for line in out.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["request_id"] for line in requests] == [
        good.headers["X-Request-ID"],
        "abc-123",
    ]
    assert echo.hits[0]["headers"]["x-request-id"] == good.headers["X-Request-ID"]
    assert bad.headers["X-Request-ID"] == "abc-123"
    assert [line["status"] for line in requests] == [200, 502]
    assert [line["service"] for line in requests] == ["user", "user"]
    assert [line["level"] for line in requests] == ["info", "error"]
    assert requests[0].keys() >= {"method", "path", "duration_ms", "principal"}
    assert sent["Authorization"].split()[1] not in out
    assert "hidden" not in out


@pytest.mark.anyio
async def test_health_tells_of_each_service(client: httpx.AsyncClient) -> None:
    """From probes that really ask: nothing answers where these services should be."""
    answer = await client.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert health["status"] == "degraded"
    assert health["version"]
    assert health["timestamp"].endswith("Z")
    assert {name: of["status"] for name, of in health["services"].items()} == {
        "user": "unhealthy",
        "auth": "unhealthy",
    }


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
async def test_the_documentation_is_there(client: httpx.AsyncClient, path: str) -> None:
    """For everybody."""
    assert (await client.get(path)).status_code == 200
