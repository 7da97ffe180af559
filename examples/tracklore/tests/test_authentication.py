"""Which requests the gateway lets pass. Issues 2 and 10."""

import time
from collections.abc import Callable

import httpx
import pytest

from app.dependencies.auth import CurrentUser, current_user
from app.main import gateway
from propylon import Principal
from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio

BAD: dict[str, Callable[[], dict[str, str]]] = {
    "no token": dict,
    "another scheme": lambda: {"Authorization": "Basic YTpi"},
    "no value": lambda: {"Authorization": "Bearer"},
    "garbage": lambda: {"Authorization": "Bearer garbage"},
    "expired": lambda: token(exp=time.time() - 120),
    "never expires": lambda: token(exp=None),
    "another key": lambda: token(key="another-key-of-more-than-32-characters"),
    "another algorithm": lambda: token(algorithm="HS512"),
    "no algorithm": lambda: token(key="", algorithm="none"),
    "no subject": lambda: token(sub=None),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_token_is_401(client: httpx.AsyncClient, echo: Echo, kind: str) -> None:
    """The service is not asked, and the answer says what is wanted."""
    answer = await client.get("/user/profile", headers=BAD[kind]())
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert echo.hits == []


async def test_a_good_token_reaches_the_service(client: httpx.AsyncClient, echo: Echo) -> None:
    """The service learns who asks, whatever the client says."""
    answer = await client.get("/user/profile", headers=token() | {"X-User-Id": "1"})
    assert answer.status_code == 200
    assert echo.hits[0]["headers"]["x-user-id"] == "42"


@pytest.mark.parametrize("path", ["/auth/login", "/auth/signup", "/auth/refresh"])
async def test_who_logs_in_needs_no_token(client: httpx.AsyncClient, echo: Echo, path: str) -> None:
    """POST only: everything else of the service needs one."""
    assert (await client.post(path)).status_code == 200
    assert echo.hits[0]["path"] == path.removeprefix("/auth")
    assert (await client.get(path)).status_code == 401
    assert (await client.post(f"{path}/more")).status_code == 401
    assert (await client.get(path, headers=token())).status_code == 200


async def test_a_test_can_say_who_asks(client: httpx.AsyncClient, echo: Echo) -> None:
    """No token is needed then."""
    with gateway.override_principal(Principal(subject="7")):
        await client.get("/user/profile")
    assert echo.hits[0]["headers"]["x-user-id"] == "7"


async def test_endpoints_depend_on_the_caller() -> None:
    """`app.dependencies.auth` gives it to them, and a test replaces it as FastAPI's users do."""

    @gateway.api.get("/whoami")
    async def whoami(me: CurrentUser) -> str:
        return me.subject

    transport = httpx.ASGITransport(gateway.asgi)
    async with (
        gateway.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        assert (await client.get("/whoami")).status_code == 401
        assert (await client.get("/whoami", headers=token())).json() == "42"
        gateway.api.dependency_overrides[current_user] = lambda: Principal(subject="7")
        try:
            assert (await client.get("/whoami", headers=token())).json() == "7"
        finally:
            gateway.api.dependency_overrides.clear()
