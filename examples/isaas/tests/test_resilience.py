"""Limits, circuit breakers, health, and one form of errors."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from propylon import CircuitConfig, Gateway
from src.config import settings
from src.main import app, gateway
from tests.conftest import NAMES, token
from tests.echo import Echo

HERE = Path(__file__).parents[1]


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
    # The document knows no share of the requests that must fail.
    own = documented.model_copy(update={"failure_rate": 0.01})
    for name in ("context", "intent", "prediction"):
        assert gateway.config.services[name].circuit == own


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


def test_twenty_at_once_and_then_429() -> None:
    """Each user has a budget, for all services together."""
    limit = gateway.config.defaults.rate_limit
    assert limit is not None
    assert [(str(one.rate), one.burst) for one in limit] == [("10/s", 20)]
    # The same burst, and a rate at which nothing comes back while the test runs.
    environ = {**os.environ, "PROPYLON_DEFAULTS__RATE_LIMIT__RATE": "10/h"}
    slow = Gateway.from_file(HERE / "propylon.yaml", environ, settings=settings)
    paths = [f"/api/v1/{path}" for path in ("context", "intent", "predict")] * 7
    with TestClient(slow.asgi) as client, ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(slow.override_service(name, Echo()))
        answers = [client.get(path, headers=token()) for path in paths]
        other = client.get("/api/v1/context", headers=token(sub="bob"))
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert other.status_code == 200
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "RATE_LIMIT"
    assert int(refused.headers["Retry-After"]) >= 1
    for name in ("Limit", "Remaining", "Reset"):
        assert f"X-RateLimit-{name}" in answers[0].headers


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
