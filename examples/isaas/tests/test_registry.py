"""Service discovery: instances register, are checked and leave."""

import pytest
from fastapi.testclient import TestClient

from propylon import RegistrationRequest
from tests.conftest import token

ADMIN = token(scopes=["admin"])
SERVICES = "/api/v1/services"


def test_the_request_of_the_documentation() -> None:
    """Builds as it is written there; what is left out has defaults."""
    registration = RegistrationRequest(
        service_name="context_service",
        host="context-service",
        port=8001,
        check_endpoint="/health",
        check_interval=30,
    )
    short = RegistrationRequest(service_name="context_service", host="context-service", port=8001)
    assert short == registration
    assert short.metadata == {}


def test_an_instance_registers_and_leaves(client: TestClient) -> None:
    """Once: the same one again changes nothing."""
    sent = RegistrationRequest(service_name="context", host="127.0.0.1", port=9).model_dump()
    first = client.post(SERVICES, json=sent, headers=ADMIN)
    assert first.status_code == 201
    assert first.json() == {"instance_id": "127.0.0.1:9", "status": "starting"}
    assert client.post(SERVICES, json=sent, headers=ADMIN).status_code == 200
    listed = client.get(SERVICES, headers=ADMIN).json()["services"]
    context = next(entry for entry in listed if entry["name"] == "context")
    ids = [instance["instance_id"] for instance in context["instances"]]
    assert ids == ["127.0.0.1:1", "127.0.0.1:9"]
    path = f"{SERVICES}/context/127.0.0.1:9"
    assert client.delete(path, headers=ADMIN).status_code == 204
    assert client.delete(path, headers=ADMIN).status_code == 404


@pytest.mark.parametrize("scopes", [None, ["read", "write"]])
def test_only_administrators_register(client: TestClient, scopes: list[str] | None) -> None:
    """Without a token 401, without the scope 403."""
    sent = {"service_name": "context", "host": "127.0.0.1", "port": 9}
    headers = {} if scopes is None else token(scopes=scopes)
    answer = client.post(SERVICES, json=sent, headers=headers)
    assert answer.status_code == (401 if scopes is None else 403)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"port": 70000},
        {"host": ""},
        {"check_interval": 0},
        {"host": "169.254.169.254"},
    ],
)
def test_what_cannot_be_is_refused(client: TestClient, wrong: dict[str, object]) -> None:
    """So is the cloud's metadata service, which no instance can be."""
    sent = {"service_name": "context", "host": "127.0.0.1", "port": 9, **wrong}
    answer = client.post(SERVICES, json=sent, headers=ADMIN)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"


def test_state_is_for_administrators(client: TestClient) -> None:
    """Breakers and limits, besides the services."""
    for path in ("services", "circuits", "rate-limits"):
        assert client.get(f"/api/v1/{path}", headers=ADMIN).status_code == 200
        assert client.get(f"/api/v1/{path}", headers=token(scopes=["read"])).status_code == 403
