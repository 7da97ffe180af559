"""The services of this directory, through the gateway."""

import httpx
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("services")]


async def _log_in(client: httpx.AsyncClient, email: str) -> dict[str, str]:
    """Make an account and log in; return the header with the token."""
    who = {"email": email, "password": "correct horse"}
    assert (await client.post("/auth/signup", json=who)).status_code == 201
    tokens = (await client.post("/auth/login", json=who)).json()
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def test_a_password_is_checked(client: httpx.AsyncClient) -> None:
    """A wrong one and an unknown address get the same answer."""
    await _log_in(client, "ann@example.com")
    wrong = {"email": "ann@example.com", "password": "wrong horse"}
    unknown = {"email": "nobody@example.com", "password": "wrong horse"}
    answers = [await client.post("/auth/login", json=who) for who in (wrong, unknown)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].text == answers[1].text


async def test_an_address_has_one_account(client: httpx.AsyncClient) -> None:
    """In whatever capitals."""
    await _log_in(client, "bob@example.com")
    again = {"email": "BOB@example.com", "password": "correct horse"}
    assert (await client.post("/auth/signup", json=again)).status_code == 409


async def test_a_refresh_token_is_good_once(client: httpx.AsyncClient) -> None:
    """And not after the logout."""
    sent = await _log_in(client, "cid@example.com")
    who = {"email": "cid@example.com", "password": "correct horse"}
    first = (await client.post("/auth/login", json=who)).json()["refresh_token"]
    answer = await client.post("/auth/refresh", json={"refresh_token": first})
    assert answer.status_code == 200
    second = answer.json()["refresh_token"]
    assert (await client.post("/auth/refresh", json={"refresh_token": first})).status_code == 401
    assert (await client.post("/auth/logout", headers=sent)).status_code == 204
    assert (await client.post("/auth/refresh", json={"refresh_token": second})).status_code == 401


async def test_an_account_can_be_deleted(client: httpx.AsyncClient) -> None:
    """Then its password is good for nothing."""
    sent = await _log_in(client, "dan@example.com")
    assert (await client.get("/auth/me", headers=sent)).json()["email"] == "dan@example.com"
    assert (await client.delete("/auth/me", headers=sent)).status_code == 204
    who = {"email": "dan@example.com", "password": "correct horse"}
    assert (await client.post("/auth/login", json=who)).status_code == 401


async def test_a_profile_is_kept(client: httpx.AsyncClient) -> None:
    """For each user their own."""
    eve, fay = [await _log_in(client, f"{name}@example.com") for name in ("eve", "fay")]
    assert (await client.get("/user/profile", headers=eve)).status_code == 404
    profile = {"name": "Eve", "bio": "likes fugues"}
    await client.put("/user/profile", json=profile, headers=eve)
    assert (await client.get("/user/profile", headers=eve)).json() == profile
    assert (await client.get("/user/profile", headers=fay)).status_code == 404
    assert (await client.delete("/user/profile", headers=eve)).status_code == 204
    assert (await client.get("/user/profile", headers=eve)).status_code == 404


async def test_tracks_are_listed_added_and_removed(client: httpx.AsyncClient) -> None:
    """Nobody sees or removes those of another user."""
    gus, hal = [await _log_in(client, f"{name}@example.com") for name in ("gus", "hal")]
    track = {"artist": "Bach", "title": "Contrapunctus I"}
    added = (await client.post("/user/tracks", json=track, headers=gus)).json()
    assert (await client.post("/user/tracks", json=track, headers=gus)).status_code == 409
    assert (await client.get("/user/tracks?artist=Bach", headers=gus)).json() == [added]
    assert (await client.get("/user/tracks?artist=Abba", headers=gus)).json() == []
    assert (await client.get("/user/tracks", headers=hal)).json() == []
    path = f"/user/tracks/{added['id']}"
    assert (await client.delete(path, headers=hal)).status_code == 404
    assert (await client.delete(path, headers=gus)).status_code == 204
    assert (await client.get("/user/tracks", headers=gus)).json() == []
