"""Phase 4 of the roadmap: revoked tokens and roles."""

import time

import httpx
import pytest

from tests.conftest import token
from tests.echo import Echo

pytestmark = pytest.mark.anyio


async def test_a_revoked_token_is_401_at_once(
    client: httpx.AsyncClient, echoes: dict[str, Echo]
) -> None:
    """Another token of the same user is not concerned."""
    first, second = token(jti="one"), token(jti="two")
    assert (await client.get("/api/library/", headers=first)).status_code == 200
    revoked = {"token": first["Authorization"].removeprefix("Bearer ")}
    answer = await client.post("/api/v1/auth/revoke", data=revoked, headers=first)
    assert answer.status_code == 200
    assert (await client.get("/api/library/", headers=first)).status_code == 401
    assert (await client.get("/api/library/", headers=second)).status_code == 200
    assert len(echoes["library"].hits) == 2


async def test_a_token_expires(client: httpx.AsyncClient, echoes: dict[str, Echo]) -> None:
    """Its time is checked on every request, also where the token was verified before."""
    sent = token(exp=time.time() - 61)  # a minute of skew between clocks is allowed for
    assert (await client.get("/api/library/", headers=sent)).status_code == 401
    assert echoes["library"].hits == []


@pytest.mark.parametrize("roles", [None, [], ["user"], "user", {"admin": True}, 7])
async def test_who_lacks_the_role_is_403(
    client: httpx.AsyncClient, echoes: dict[str, Echo], roles: object
) -> None:
    """Whatever stands in the claim: it never counts as the role by mistake."""
    answer = await client.post("/api/games/admin", json={}, headers=token(roles=roles))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert echoes["game"].hits == []


@pytest.mark.parametrize("roles", [["admin"], ["user", "admin"], "admin"])
async def test_who_has_the_role_passes(
    client: httpx.AsyncClient, echoes: dict[str, Echo], roles: object
) -> None:
    """The rest of the catalogue is open to every user."""
    answer = await client.post("/api/games/admin", json={}, headers=token(roles=roles))
    assert answer.status_code == 200
    assert echoes["game"].hits[0]["path"] == "/admin"
    assert (await client.get("/api/games/1", headers=token())).status_code == 200
