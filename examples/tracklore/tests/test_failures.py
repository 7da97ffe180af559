"""What becomes of a request when a service fails. Issues 3, 7 and 10."""

import httpx
import pytest
from fastapi.responses import PlainTextResponse

from app.main import gateway
from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio


async def test_a_service_that_is_away_is_502_and_then_503(
    client: httpx.AsyncClient,
) -> None:
    """After five failures the breaker answers at once; the other service is not concerned."""
    with gateway.override_service("user", Echo()):
        for _ in range(10):  # what went well before does not count
            assert (await client.get("/user/x", headers=token())).status_code == 200
    answers = [await client.get("/user/x", headers=token()) for _ in range(6)]
    codes = [answer.json()["error"]["code"] for answer in answers]
    assert codes == ["UPSTREAM_ERROR"] * 5 + ["CIRCUIT_OPEN"]
    assert [answer.status_code for answer in answers] == [502] * 5 + [503]
    assert int(answers[-1].headers["Retry-After"]) > 0
    with gateway.override_service("auth", Echo()):
        assert (await client.get("/auth/x", headers=token())).status_code == 200


async def test_a_service_that_is_slow_is_504(client: httpx.AsyncClient) -> None:
    """No request hangs longer than the timeout of the service."""
    answer = await client.get("/auth/x", headers=token())
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "UPSTREAM_TIMEOUT"


@pytest.mark.parametrize("status", [404, 422, 500])
async def test_what_a_service_answers_passes(
    client: httpx.AsyncClient, echo: Echo, status: int
) -> None:
    """Unchanged, and marked as the service's."""
    echo.answer = PlainTextResponse("sorry", status, {"X-Reason": "none"})
    answer = await client.get("/user/x", headers=token())
    assert (answer.status_code, answer.text) == (status, "sorry")
    assert answer.headers["X-Reason"] == "none"
    assert answer.headers["X-Error-Source"] == "upstream"
