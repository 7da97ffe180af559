"""Settings that an application has read itself, as the variables of a configuration."""

from pathlib import Path

import pytest
from pydantic import AnyHttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from propylon import Gateway
from propylon.config.reading.problems import ConfigError
from propylon.config.reading.typed_settings import variables

FILE = """\
services:
  user: {url: "${USER_SERVICE_URL:-http://user:1}"}
routes:
  - {path: /user, service: user}
"""


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    USER_SERVICE_URL: str = "http://user:2"
    JWT_SECRET_KEY: SecretStr = SecretStr("")
    CORS_ORIGINS: list[str] = []
    debug: bool = False
    RATE_LIMIT_PER_SECOND: int | None = None


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "propylon.yaml"
    path.write_text(FILE)
    return path


def _url(gateway: Gateway) -> str | None:
    return gateway.config.services["user"].url


def test_defaults_of_the_class_win_over_those_of_the_file(file: Path) -> None:
    """So an application writes a default once, where its own code can read it."""
    assert _url(Gateway.from_file(file, {}, settings=_Settings())) == "http://user:2"
    assert _url(Gateway.from_file(file, {})) == "http://user:1"


def test_settings_win_over_the_environment(file: Path) -> None:
    """What a test gives to the class is what the gateway uses."""
    settings = _Settings(USER_SERVICE_URL="http://user:3")
    environ = {"USER_SERVICE_URL": "http://user:4", "LOG_LEVEL": "debug"}
    gateway = Gateway.from_file(file, environ, settings=settings)
    assert _url(gateway) == "http://user:3"
    assert gateway.config.log.level == "debug"  # the rest of the environment stays


def test_dotenv_reaches_the_gateway_through_the_class(file: Path) -> None:
    """The class reads `.env`, and the gateway gets the same values."""
    (file.parent / ".env").write_text("USER_SERVICE_URL=http://user:5\nOTHER=1\n")
    assert _url(Gateway.from_file(file, {}, settings=_Settings())) == "http://user:5"


def test_all_kinds_of_fields_become_variables() -> None:
    """Texts stay, secrets are told, None is not set, and the rest is JSON."""

    class Kinds(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="shop_")

        name: str = "a b"
        secret: SecretStr = SecretStr("hush")
        url: AnyHttpUrl = AnyHttpUrl("http://a:8000")
        port: int = 8000
        flag: bool = True
        origins: list[str] = ["https://a.example"]
        missing: str | None = None

    assert variables(Kinds()) == {
        "SHOP_NAME": "a b",
        "SHOP_SECRET": "hush",
        "SHOP_URL": "http://a:8000/",
        "SHOP_PORT": "8000",
        "SHOP_FLAG": "true",
        "SHOP_ORIGINS": '["https://a.example"]',
    }


def test_typed_values_are_read_as_variables_are(file: Path) -> None:
    """A list, a number, a boolean and a secret reach the keys that their variables set."""
    settings = _Settings(
        CORS_ORIGINS=["https://a.example", "https://b.example"],
        RATE_LIMIT_PER_SECOND=7,
        JWT_SECRET_KEY=SecretStr("0123456789abcdefghijklmnopqrstuvwxyz"),
        debug=True,
    )
    config = Gateway.from_file(file, {}, settings=settings).config
    assert config.cors.origins == ("https://a.example", "https://b.example")
    assert config.debug is True
    assert config.auth.issues
    limit = config.defaults.rate_limit
    assert limit is not None
    assert [(one.rate.amount, one.burst) for one in limit] == [(7, 14)]


def test_a_reload_takes_the_same_settings(file: Path) -> None:
    """A reload reads the file again, with the values that the application has."""
    gateway = Gateway.from_file(file, {}, settings=_Settings(USER_SERVICE_URL="http://user:6"))
    file.write_text(FILE.replace("/user,", "/users,"))
    again = gateway.read()
    assert again.config.routes[0].path == "/users"
    assert again.config.services["user"].url == "http://user:6"


def test_a_bad_value_is_reported_like_any_other(file: Path) -> None:
    """The message names the place in the file."""
    with pytest.raises(ConfigError, match="services.user.url"):
        Gateway.from_file(file, {}, settings=_Settings(USER_SERVICE_URL="user:8000"))
