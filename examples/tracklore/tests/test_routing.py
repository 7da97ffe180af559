"""Which service gets a request, and what it gets. Issues 5 and 10."""

import httpx
import pytest

from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("service", ["user", "auth"])
async def test_every_method_passes(
    client: httpx.AsyncClient, echo: Echo, method: str, service: str
) -> None:
    """As the same method, with the path behind the prefix and the query as it was sent."""
    url = f"/{service}/a%2Fb/c;v=1?x=1&x=2&y="
    answer = await client.request(method, url, headers=token())
    assert answer.status_code == 200
    assert echo.hits[0]["method"] == method
    assert echo.hits[0]["path"] == "/a%2Fb/c;v=1"
    assert echo.hits[0]["query"] == "x=1&x=2&y="


@pytest.mark.parametrize("path", ["/nosuch/x", "/users/x", "/", "/userx"])
async def test_an_unknown_service_is_404(client: httpx.AsyncClient, echo: Echo, path: str) -> None:
    """No service is asked."""
    answer = await client.get(path, headers=token())
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NOT_FOUND"
    assert echo.hits == []


@pytest.mark.parametrize("path", ["/user/%2e%2e/auth/me", "/user/a/..;/auth/me"])
async def test_no_path_leads_to_another_service(
    client: httpx.AsyncClient, echo: Echo, path: str
) -> None:
    """A path that an upstream might resolve is refused."""
    answer = await client.get(path, headers=token())
    assert answer.status_code == 400
    assert echo.hits == []
