"""Where the settings come from. Issues 1 and 4."""

from pathlib import Path

import pytest

from app.main import gateway
from propylon import Gateway
from shared_libs.core.settings import Settings, settings

HERE = Path(__file__).parents[1]


def test_the_variables_of_this_process_are_read() -> None:
    """By the settings, and by the gateway that is made of them."""
    assert Settings.model_config["env_file"] == ".env"
    assert gateway.config.services["user"].url == settings.USER_SERVICE_URL
    assert gateway.config.services["auth"].url == settings.AUTH_SERVICE_URL


def test_without_variables_there_are_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same ones as in propylon.yaml, which `propylon run` reads alone. No secret is among them."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name)
    default = Settings()
    assert default.JWT_SECRET_KEY == ""
    file = HERE / "propylon.yaml"
    alone, typed = (Gateway.from_file(file, {}), Gateway.from_file(file, {}, settings=default))
    assert alone.config == typed.config
    assert default.USER_SERVICE_URL == "http://user-service:8000"
    assert default.AUTH_SERVICE_URL == "http://auth-service:8000"


def test_dotenv_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables of other programs in the file are ignored."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "USER_SERVICE_URL=http://a:1\nAUTH_SERVICE_URL=http://b:2\nX=y\n"
    )
    monkeypatch.delenv("USER_SERVICE_URL")
    read = Settings()
    assert read.USER_SERVICE_URL == "http://a:1"
    assert read.AUTH_SERVICE_URL == settings.AUTH_SERVICE_URL


def test_the_key_stands_in_no_traceback() -> None:
    """Which shows values as they describe themselves."""
    assert settings.JWT_SECRET_KEY not in repr(settings)
