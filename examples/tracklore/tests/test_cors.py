"""Which pages of other origins may read the answers. Issue 9."""

import httpx
import pytest

from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio

PAGE = "http://localhost:3000"


async def test_a_page_of_the_frontend_may_read(client: httpx.AsyncClient, echo: Echo) -> None:
    """Good answers, and errors too: else it could not tell what is wrong."""
    good = await client.get("/user/x", headers=token() | {"Origin": PAGE})
    refused = await client.get("/user/x", headers={"Origin": PAGE})
    assert (good.status_code, refused.status_code) == (200, 401)
    for answer in (good, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Origin" in answer.headers["Vary"]
    assert len(echo.hits) == 1


async def test_another_page_may_not(client: httpx.AsyncClient, echo: Echo) -> None:
    """Its browser keeps the answer from it."""
    answer = await client.get("/user/x", headers=token() | {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert len(echo.hits) == 1


async def test_a_preflight_needs_no_token(client: httpx.AsyncClient, echo: Echo) -> None:
    """The gateway answers it; the service is not asked."""
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = await client.options("/user/profile", headers=asked)
    assert answer.status_code == 204
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
    assert echo.hits == []
