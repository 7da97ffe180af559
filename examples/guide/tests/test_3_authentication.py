"""Section 3, authentication middleware."""

import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from tests.conftest import token
from tests.echo import Echo

BAD: dict[str, Callable[[], dict[str, str]]] = {
    "none": dict,
    "another scheme": lambda: {"Authorization": "Basic YTpi"},
    "garbage": lambda: {"Authorization": "Bearer garbage"},
    "expired": lambda: token(exp=time.time() - 120),
    "another key": lambda: token(key="another-key" * 4),
    "no algorithm": lambda: token(key="", algorithm="none"),
    "no subject": lambda: token(sub=None),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("path", ["/orders", "/api/v1/orders", "/api/v1/overview"])
def test_a_bad_token_is_401(
    client: TestClient, echoes: dict[str, Echo], kind: str, path: str
) -> None:
    """On routes to services and on endpoints of our own. No service is asked."""
    answer = client.get(path, headers=BAD[kind]())
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not any(echo.hits for echo in echoes.values())


def test_the_service_learns_who_asks(client: TestClient, echoes: dict[str, Echo]) -> None:
    """From the token; what the client claims of itself is removed."""
    client.get(
        "/orders", headers=token(roles=["user"]) | {"X-User-Id": "1", "X_User_Roles": "admin"}
    )
    got = echoes["orders"].hits[0]["headers"]
    assert got["x-user-id"] == "42"
    assert got["x-user-roles"] == "user"
    assert "x_user_roles" not in got


def test_a_public_route_learns_nothing_forged(client: TestClient, echoes: dict[str, Echo]) -> None:
    """Who needs no token cannot claim to be somebody either."""
    client.get("/products", headers={"X-User-Id": "1", "x-user-roles": "admin"})
    got = echoes["products"].hits[0]["headers"]
    assert "x-user-id" not in got
    assert "x-user-roles" not in got


def test_no_token_is_logged(
    client: TestClient, echoes: dict[str, Echo], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even one in the query."""
    sent = token()
    client.get("/orders?token=hidden", headers=sent)
    client.__exit__()  # the log is written when the gateway stops, at the latest
    out = capsys.readouterr().out
    assert '"path":"/orders' in out
    assert sent["Authorization"].split()[1] not in out
    assert "hidden" not in out
    assert len(echoes["orders"].hits) == 1
    client.__enter__()
