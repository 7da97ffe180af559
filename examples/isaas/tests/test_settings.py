"""The variables, and where they come from."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from propylon import Gateway
from src.config import Settings, settings
from src.main import gateway
from tests.conftest import KEY, token
from tests.echo import Echo

HERE = Path(__file__).parents[1]


def test_the_settings_are_those_of_the_gateway() -> None:
    """One reading of the variables for both."""
    config = gateway.config
    assert settings.SECRET_KEY == KEY
    assert config.prefix == settings.API_V1_PREFIX
    assert config.auth.tokens.expires == 60 * settings.ACCESS_TOKEN_EXPIRE_MINUTES
    assert config.services["context"].url == settings.CONTEXT_SERVICE_URL
    assert config.redis.url is None


def test_the_defaults_are_those_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So `propylon run`, which reads the file alone, runs the same gateway."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
    default = Settings()
    file = HERE / "propylon.yaml"
    alone, typed = (Gateway.from_file(file, {}), Gateway.from_file(file, {}, settings=default))
    assert alone.config == typed.config
    assert alone.config.redis.url is None


def test_redis_is_used_where_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By REDIS_HOST and REDIS_PORT."""
    monkeypatch.chdir(tmp_path)
    named = Settings(REDIS_HOST="redis", REDIS_PORT=6380)
    url = Gateway.from_file(HERE / "propylon.yaml", {}, settings=named).config.redis.url
    assert url is not None
    assert url.get_secret_value() == "redis://redis:6380"


def test_the_prefix_moves_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gateway's own endpoints, and the services."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROPYLON_AUTH__TOKENS__DATABASE", f"sqlite:///{tmp_path}/users.db")
    moved = Gateway.from_file(HERE / "propylon.yaml", settings=Settings(API_V1_PREFIX="/v9"))
    with TestClient(moved.asgi) as client, moved.override_service("context", Echo()):
        assert client.get("/v9/context", headers=token()).status_code == 200
        assert client.get("/api/v1/context", headers=token()).status_code == 404
        assert client.get("/v9/users/me", headers=token(scopes=["read"])).status_code == 200


def test_the_key_stands_in_no_traceback() -> None:
    """Which shows values as they describe themselves."""
    assert settings.SECRET_KEY not in repr(settings)
