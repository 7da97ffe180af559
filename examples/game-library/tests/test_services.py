"""The services of this directory, through the gateway."""

import httpx
import pytest

from services import auth

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("services")]

WHO = {"email": "ann@example.com", "password": "correct horse"}


async def _log_in(client: httpx.AsyncClient, email: str) -> dict[str, str]:
    """Make an account, if there is none yet, and log in; return the header with the token."""
    who = WHO | {"email": email}
    assert (await client.post("/api/auth/signup", json=who)).status_code in (201, 409)
    tokens = (await client.post("/api/auth/login", json=who)).json()
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def test_a_password_is_checked(client: httpx.AsyncClient) -> None:
    """And kept as a hash: it stands nowhere in the database."""
    await _log_in(client, WHO["email"])
    wrong = WHO | {"password": "wrong horse"}
    assert (await client.post("/api/auth/login", json=wrong)).status_code == 401
    with auth.store.open() as database:
        row = database.execute("SELECT * FROM accounts").fetchone()
    assert WHO["password"].encode() not in row["password"]
    assert len(row["password"]) == 64


async def test_administrators_keep_the_catalogue(client: httpx.AsyncClient) -> None:
    """Who is no administrator may only read it."""
    user = await _log_in(client, "user@example.com")
    new = {"title": "Nethack", "year": 1987}
    assert (await client.post("/api/games/admin", json=new, headers=user)).status_code == 403
    assert auth.give_roles("user@example.com", "user", "admin")
    assert not auth.give_roles("nobody@example.com", "admin")
    admin = await _log_in(client, "user@example.com")  # the new role stands in a new token
    game = (await client.post("/api/games/admin", json=new, headers=admin)).json()
    assert (await client.post("/api/games/admin", json=new, headers=admin)).status_code == 409
    assert (await client.get("/api/games?title=HACK", headers=user)).json() == [game]
    assert (await client.get("/api/games?title=chess", headers=user)).json() == []
    assert (await client.get(f"/api/games/{game['id']}", headers=user)).json() == game
    path = f"/api/games/admin/{game['id']}"
    assert (await client.delete(path, headers=user)).status_code == 403
    assert (await client.delete(path, headers=admin)).status_code == 204
    assert (await client.get(f"/api/games/{game['id']}", headers=user)).status_code == 404


async def test_a_library_is_listed_filled_and_emptied(client: httpx.AsyncClient) -> None:
    """Each user has one."""
    ann, bob = [await _log_in(client, f"{name}@example.com") for name in ("ann", "bob")]
    entry = {"game": 7, "state": "owned"}
    assert (await client.post("/api/library", json=entry, headers=ann)).status_code == 201
    assert (await client.post("/api/library", json=entry, headers=ann)).status_code == 409
    assert (await client.get("/api/library", headers=bob)).json() == []
    change = {"state": "finished"}
    assert (await client.patch("/api/library/7", json=change, headers=bob)).status_code == 404
    assert (await client.patch("/api/library/7", json=change, headers=ann)).status_code == 200
    assert (await client.get("/api/library?state=owned", headers=ann)).json() == []
    assert (await client.get("/api/library", headers=ann)).json() == [entry | change]
    assert (await client.delete("/api/library/7", headers=bob)).status_code == 404
    assert (await client.delete("/api/library/7", headers=ann)).status_code == 204
    assert (await client.get("/api/library", headers=ann)).json() == []
