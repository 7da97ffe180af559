"""Section 1, FastAPI application setup."""

from importlib.metadata import requires
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.core.settings import Settings, settings
from app.main import app, gateway
from propylon import Gateway

HERE = Path(__file__).parents[1]


def test_the_structure_is_a_fastapi_project() -> None:
    """`app.main:app` is what a server starts; the endpoints stand on a FastAPI application."""
    assert callable(app)
    assert isinstance(gateway.api, FastAPI)


def test_the_settings_are_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the environment, from `.env`, and with the defaults of propylon.yaml."""
    assert gateway.config.services["users"].url == settings.USERS_SERVICE_URL
    assert settings.JWT_SECRET_KEY not in repr(settings)
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name)
    file = HERE / "propylon.yaml"
    typed = Gateway.from_file(file, {}, settings=Settings())
    assert Gateway.from_file(file, {}).config == typed.config
    (tmp_path / ".env").write_text("ORDERS_SERVICE_URL=http://a:1\nEDITOR=vi\n")
    assert Settings().ORDERS_SERVICE_URL == "http://a:1"


def test_health(client: TestClient) -> None:
    """Without a token: the gateway, and each service behind it."""
    answer = client.get("/health")
    assert answer.status_code == 200
    assert set(answer.json()["services"]) == {"users", "products", "orders"}
    assert answer.json()["version"]


def test_dependencies_are_pinned() -> None:
    """All but Propylon itself, which comes from the checkout."""
    lines = (HERE / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in wanted if "==" not in line] == ["../.."]
    assert requires("propylon")
