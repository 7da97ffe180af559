"""Phase 1 of the roadmap: routing, authentication, CORS, configuration."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.config import Settings, settings
from gateway.main import gateway
from propylon import Gateway
from propylon.config.reading.problems import ConfigError
from tests.conftest import PAGE, token
from tests.echo import Echo

HERE = Path(__file__).parents[1]
BAD: dict[str, Callable[[], dict[str, str]]] = {
    "missing": dict,
    "garbage": lambda: {"Authorization": "Bearer garbage"},
    "expired": lambda: token(exp=time.time() - 120),
    "of another key": lambda: token(key="another-key-of-more-than-32-characters"),
    "unsigned": lambda: token(key="", algorithm="none"),
    "of nobody": lambda: token(sub=None),
}
ROUTES = [("/api/auth", "auth"), ("/api/games", "game"), ("/api/library", "library")]


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "service"), ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_each_path_leads_to_its_service(
    client: httpx.AsyncClient, echoes: dict[str, Echo], path: str, service: str, method: str
) -> None:
    """And to no other; the service gets the path behind the prefix."""
    answer = await client.request(method, f"{path}/a/b?x=1&x=2", headers=token())
    assert answer.status_code == 200
    hit = echoes[service].hits[0]
    assert (hit["method"], hit["path"], hit["query"]) == (method, "/a/b", "x=1&x=2")
    assert [name for name, echo in echoes.items() if echo.hits] == [service]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/api/gamesx", "/api/game", "/api", "/games"])
async def test_other_paths_lead_nowhere(client: httpx.AsyncClient, path: str) -> None:
    """A prefix is matched by whole segments."""
    assert (await client.get(path, headers=token())).status_code == 404


@pytest.mark.anyio
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("path", [path for path, _ in ROUTES])
async def test_a_missing_or_bad_token_is_401(
    client: httpx.AsyncClient, echoes: dict[str, Echo], kind: str, path: str
) -> None:
    """No service is asked."""
    answer = await client.get(path, headers=BAD[kind]())
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not any(echo.hits for echo in echoes.values())


@pytest.mark.anyio
async def test_expired_and_invalid_are_told_apart(client: httpx.AsyncClient) -> None:
    """So a page knows when to refresh its token."""
    expired = await client.get("/api/games", headers=BAD["expired"]())
    invalid = await client.get("/api/games", headers=BAD["garbage"]())
    assert "expired" in expired.json()["error"]["message"]
    assert "expired" not in invalid.json()["error"]["message"]


@pytest.mark.anyio
async def test_the_service_learns_who_asks(
    client: httpx.AsyncClient, echoes: dict[str, Echo]
) -> None:
    """From the token; what the client claims of itself is removed."""
    sent = token(email="ann@example.com", roles=["user", "critic"])
    forged = {"X-User-Id": "1", "X-User-Roles": "admin", "X_User_Email": "root@example.com"}
    await client.get("/api/library/", headers=sent | forged)
    got = echoes["library"].hits[0]["headers"]
    assert got["x-user-id"] == "42"
    assert got["x-user-email"] == "ann@example.com"
    assert set(got["x-user-roles"].split(",")) == {"user", "critic"}
    assert "x_user_email" not in got


@pytest.mark.anyio
async def test_login_is_open(client: httpx.AsyncClient, echoes: dict[str, Echo]) -> None:
    """So are signup and refresh: by POST, and nothing below them."""
    for path in ("login", "signup", "refresh"):
        assert (await client.post(f"/api/auth/{path}")).status_code == 200
        assert echoes["auth"].hits[-1]["path"] == f"/{path}"
        assert (await client.get(f"/api/auth/{path}")).status_code == 401
        assert (await client.post(f"/api/auth/{path}/x")).status_code == 401


@pytest.mark.anyio
async def test_cors_headers(client: httpx.AsyncClient, echoes: dict[str, Echo]) -> None:
    """On good answers and on errors, for the pages of CORS_ORIGINS only."""
    page, other = {"Origin": PAGE}, {"Origin": "https://evil.example"}
    good = await client.get("/api/games", headers=token() | page)
    refused = await client.get("/api/games", headers=page)
    nowhere = await client.get("/api/nowhere", headers=page)
    assert [good.status_code, refused.status_code, nowhere.status_code] == [200, 401, 404]
    for answer in (good, refused, nowhere):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    foreign = await client.get("/api/games", headers=token() | other)
    assert "Access-Control-Allow-Origin" not in foreign.headers
    hits = len(echoes["game"].hits)
    asked = page | {"Access-Control-Request-Method": "DELETE"}
    preflight = await client.options("/api/games/7", headers=asked)
    assert preflight.status_code == 204
    assert "DELETE" in preflight.headers["Access-Control-Allow-Methods"]
    assert len(echoes["game"].hits) == hits


def test_the_settings_are_those_of_the_gateway() -> None:
    """One reading of the variables for both."""
    config = gateway.config
    assert config.services["game"].url == settings.GAME_SERVICE_URL
    assert config.cors.origins == (settings.CORS_ORIGINS,)


def test_defaults_and_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The defaults are those of propylon.yaml; .env wins over them, and unknown names in it are ignored."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name)
    file = HERE / "propylon.yaml"
    typed = Gateway.from_file(file, {}, settings=Settings())
    assert Gateway.from_file(file, {}).config == typed.config
    (tmp_path / ".env").write_text("GAME_SERVICE_URL=http://a:1\nEDITOR=vi\n")
    assert Settings().GAME_SERVICE_URL == "http://a:1"


def test_a_malformed_url_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the message names the key."""
    monkeypatch.chdir(tmp_path)
    wrong = Settings(GAME_SERVICE_URL="game-service:8000")
    with pytest.raises(ConfigError, match=r"services\.game\.url.*GAME_SERVICE_URL"):
        Gateway.from_file(HERE / "propylon.yaml", {}, settings=wrong)


def test_the_key_stands_in_no_traceback() -> None:
    """Which shows values as they describe themselves."""
    assert settings.JWT_SECRET_KEY not in repr(settings)
