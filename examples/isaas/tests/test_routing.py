"""Core services: prefixes, methods, authentication, privacy headers."""

import time

import pytest
from fastapi.testclient import TestClient

from tests.conftest import NAMES, token
from tests.echo import Echo

PATHS = dict(zip(NAMES, ("context", "intent", "predict", "realtime"), strict=True))


@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_prefix_leads_to_its_service(
    client: TestClient, echoes: dict[str, Echo], service: str, method: str
) -> None:
    """The service gets the path behind the prefix, and learns who asks."""
    answer = client.request(method, f"/api/v1/{PATHS[service]}/a/b?x=1", headers=token())
    assert answer.status_code == 200
    hit = echoes[service].hits[0]
    assert (hit["method"], hit["path"], hit["query"]) == (method, "/a/b", "x=1")
    assert hit["headers"]["x-user-id"] == "ann"
    assert [name for name, echo in echoes.items() if echo.hits] == [service]


@pytest.mark.parametrize("path", PATHS.values())
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(
    client: TestClient, echoes: dict[str, Echo], path: str, method: str
) -> None:
    """The answer says which are allowed."""
    answer = client.request(method, f"/api/v1/{path}/x", headers=token())
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert not any(echo.hits for echo in echoes.values())


@pytest.mark.parametrize("path", PATHS.values())
def test_every_service_needs_a_token(
    client: TestClient, echoes: dict[str, Echo], path: str
) -> None:
    """A bad one is as good as none."""
    for sent in ({}, token(exp=time.time() - 120), token(key="another-key" * 4)):
        answer = client.get(f"/api/v1/{path}", headers=sent)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert not any(echo.hits for echo in echoes.values())


def test_prefixes_match_whole_segments(client: TestClient, echoes: dict[str, Echo]) -> None:
    """With and without a final slash."""
    assert client.get("/api/v1/contextual", headers=token()).status_code == 404
    assert client.get("/api/v1/context", headers=token()).status_code == 200
    assert client.get("/api/v1/context/", headers=token()).status_code == 200
    assert len(echoes["context"].hits) == 2


def test_privacy_headers_are_checked(client: TestClient, echoes: dict[str, Echo]) -> None:
    """Valid ones reach the service; nobody has to send one."""
    good = client.get("/api/v1/context", headers=token() | {"X-Privacy-Level": "strict"})
    bad = client.get("/api/v1/context", headers=token() | {"X-Privacy-Level": "some"})
    assert good.status_code == 200
    assert echoes["context"].hits[0]["headers"]["x-privacy-level"] == "strict"
    assert bad.status_code == 400
    assert bad.json()["error"]["code"] == "INVALID_REQUEST"
    assert bad.json()["error"]["details"]["header"] == "X-Privacy-Level"
