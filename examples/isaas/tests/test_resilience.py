"""Limits, circuit breakers, health, and one form of errors."""

import json

import pytest
from fastapi.testclient import TestClient

from propylon import CircuitConfig
from src.main import app, gateway
from tests.conftest import NAMES, token
from tests.echo import Echo


def test_the_circuit_of_the_documentation() -> None:
    """Its numbers are those of the gateway, and of its configuration."""
    documented = CircuitConfig(
        failure_threshold=5,
        recovery_timeout=60,
        half_open_timeout=30,
        failure_window=120,
        min_throughput=5,
    )
    assert CircuitConfig() == documented
    for name in ("context", "intent", "prediction"):
        assert gateway.config.services[name].circuit == documented


def test_a_service_that_is_away_opens_its_breaker(client: TestClient) -> None:
    """After five failures; the others are not concerned."""
    answers = [client.get("/api/v1/context", headers=token()) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [502] * 5 + [503]
    error = answers[-1].json()["error"]
    assert error["code"] == "CIRCUIT_OPEN"
    assert error["details"]["service"] == "context"
    assert int(answers[-1].headers["Retry-After"]) > 0
    with gateway.override_service("intent", Echo()):
        assert client.get("/api/v1/intent", headers=token()).status_code == 200


def test_realtime_has_no_breaker(client: TestClient) -> None:
    """It is tried again each time."""
    answers = [client.get("/api/v1/realtime", headers=token()) for _ in range(11)]
    assert {answer.status_code for answer in answers} == {502}


def test_twenty_at_once_and_then_429(client: TestClient, echoes: dict[str, Echo]) -> None:
    """Each user has a budget, for all services together. Ten come back in a second."""
    paths = ("context", "intent", "predict", "realtime") * 6
    answers = [client.get(f"/api/v1/{path}", headers=token()) for path in paths]
    statuses = [answer.status_code for answer in answers]
    passed = statuses.index(429)
    assert 20 <= passed <= 22  # some came back meanwhile
    refused = answers[passed]
    assert refused.json()["error"]["code"] == "RATE_LIMIT"
    assert int(refused.headers["Retry-After"]) >= 1
    for name in ("Limit", "Remaining", "Reset"):
        assert f"X-RateLimit-{name}" in answers[0].headers
    assert client.get("/api/v1/context", headers=token(sub="bob")).status_code == 200
    assert sum(len(echo.hits) for echo in echoes.values()) == statuses.count(200) + 1


def test_health(client: TestClient) -> None:
    """With the version, the time and each service."""
    answer = client.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert health["status"] == "degraded"
    assert health["version"]
    assert health["timestamp"].endswith("Z")
    assert set(health["services"]) == set(NAMES)


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/api/v1/context", "/api/v1/users/me"])
def test_errors_have_one_form(client: TestClient, path: str) -> None:
    """With the id of the request, which is also in the header."""
    answer = client.get(path)
    assert set(answer.json()) == {"error", "request_id"}
    assert set(answer.json()["error"]) == {"code", "message", "details"}
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_start_without_redis_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Limits are counted on this machine then."""
    with TestClient(app):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "edis" in line["event"]] == []
