"""The token endpoint, its users and their scopes."""

import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from fastapi.testclient import TestClient

from src.config import settings
from tests.conftest import KEY, token

HERE = Path(__file__).parents[1]
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def added() -> list[str]:
    """The users who were added already."""
    return []


@pytest.fixture
def ann(client: TestClient, added: list[str]) -> None:
    """A user who is added while the gateway runs."""
    assert client.get("/livez").status_code == 200
    if not added:
        command = [f"{Path(sys.executable).parent}/propylon", "user", "add", "ann"]
        command += ["--password-stdin", "--scopes", "read write", "--email", "ann@example.com"]
        subprocess.run(command, cwd=HERE, input=PASSWORD.encode(), check=True)
        added.append("ann")


def _log_in(client: TestClient, **form: str) -> dict[str, str]:
    answer = client.post("/api/v1/auth/token", data={"username": "ann", **form})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.usefixtures("ann")
def test_a_password_gets_a_token(client: TestClient) -> None:
    """It is signed with SECRET_KEY, for ACCESS_TOKEN_EXPIRE_MINUTES."""
    given = _log_in(client, password=PASSWORD, scope="read write")
    assert given["token_type"] == "bearer"
    claims = jwt.decode(given["access_token"], KEY, ["HS256"])
    assert claims["sub"] == "ann"
    assert sorted(claims["scopes"]) == ["read", "write"]
    life = settings.ACCESS_TOKEN_EXPIRE_MINUTES * 60
    assert life <= claims["exp"] - claims["iat"] <= life + 1  # whole seconds, rounded up


@pytest.mark.usefixtures("ann")
def test_no_scope_is_granted_that_the_user_lacks(client: TestClient) -> None:
    """Without a wish, the user gets all that they have."""
    wished = _log_in(client, password=PASSWORD, scope="read admin")
    usual = _log_in(client, password=PASSWORD)
    assert wished["scope"] == "read"
    assert sorted(usual["scope"].split()) == ["read", "write"]


@pytest.mark.usefixtures("ann")
def test_a_wrong_password_is_401(client: TestClient) -> None:
    """So is an unknown name, with the same answer."""
    errors = []
    for name in ("ann", "nobody"):
        form = {"username": name, "password": "wrong horse battery"}
        answer = client.post("/api/v1/auth/token", data=form)
        assert answer.status_code == 401
        errors.append(answer.json()["error"])
    assert errors[0] == errors[1]
    assert errors[0]["code"] == "AUTH_ERROR"


@pytest.mark.parametrize("sent", [{"data": {"username": "ann"}}, {"json": {"username": "ann"}}])
def test_what_is_no_form_is_refused(client: TestClient, sent: dict[str, dict[str, str]]) -> None:
    """The answer says what is missing."""
    answer = client.request("POST", "/api/v1/auth/token", **sent)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"


@pytest.mark.usefixtures("ann")
def test_who_am_i(client: TestClient) -> None:
    """The token needs the scope read; there is no password in the answer."""
    reader, writer = token(scopes=["read"]), token(scopes=["write"])
    answer = client.get("/api/v1/users/me", headers=reader)
    assert answer.status_code == 200
    assert answer.json() == {
        "username": "ann",
        "email": "ann@example.com",
        "full_name": None,
        "disabled": False,
        "scopes": ["read", "write"],
        "roles": [],
    }
    assert client.get("/api/v1/users/me", headers=writer).status_code == 403
