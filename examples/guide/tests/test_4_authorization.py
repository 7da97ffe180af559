"""Section 4, authorization: who may do what."""

import pytest
from fastapi.testclient import TestClient

from tests.conftest import token
from tests.echo import Echo

# The access levels: the path, the method, and the status of nobody, of a user, of an administrator.
LEVELS = [
    ("POST", "/users/login", 200, 200, 200),
    ("GET", "/products", 200, 200, 200),
    ("POST", "/products", 401, 403, 200),
    ("DELETE", "/products/7", 401, 403, 200),
    ("GET", "/users/me", 401, 200, 200),
    ("GET", "/users/all", 401, 403, 200),
    ("GET", "/orders", 401, 200, 200),
    ("POST", "/orders", 401, 200, 200),
    ("DELETE", "/api/v1/products/7", 401, 403, 204),
    ("DELETE", "/api/v1/orders/7", 401, 204, 204),
    ("GET", "/nowhere", 404, 404, 404),
]


@pytest.mark.parametrize(("method", "path", "nobody", "user", "admin"), LEVELS)
def test_access_levels(
    client: TestClient,
    echoes: dict[str, Echo],
    method: str,
    path: str,
    nobody: int,
    user: int,
    admin: int,
) -> None:
    """What a caller may not do reaches no service."""
    callers = [{}, token(roles=["user"]), token(roles=["user", "admin"])]
    statuses = [client.request(method, path, headers=sent).status_code for sent in callers]
    assert statuses == [nobody, user, admin]
    good = sum(status < 300 for status in statuses)
    assert sum(len(echo.hits) for echo in echoes.values()) == good


@pytest.mark.parametrize("roles", [None, 7, [None], {"admin": True}, "administrator"])
def test_strange_claims_give_no_role(
    client: TestClient, echoes: dict[str, Echo], roles: object
) -> None:
    """They are refused, and nothing breaks."""
    for path in ("/users/all", "/api/v1/products/7"):
        method = "GET" if path == "/users/all" else "DELETE"
        answer = client.request(method, path, headers=token(roles=roles))
        assert answer.status_code in (401, 403)
        assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert not any(echo.hits for echo in echoes.values())


@pytest.mark.usefixtures("services")
def test_roles_come_from_the_users_service(client: TestClient) -> None:
    """They stand in the token that it gives for a password."""
    who = {"email": "ann@example.com", "password": "correct horse"}
    client.post("/users/signup", json=who)
    given = client.post("/users/login", json=who).json()["access_token"]
    sent = {"Authorization": f"Bearer {given}"}
    assert client.get("/users/me", headers=sent).json()["roles"] == ["user"]
    assert client.get("/users/all", headers=sent).status_code == 403
