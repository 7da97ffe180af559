"""Who is asking: the user as we know them, or what their token says."""

import jwt
import pytest

from propylon.control import users
from propylon.control.app import create_app
from propylon.control.token_schemas import Me
from tests.control.token_api import PREFIX, SECRET, TokenApi
from tests.stores.kept import NOON


def foreign(subject: str, **claims: object) -> str:
    """A token that somebody else issued with the same secret."""
    return jwt.encode({"sub": subject, "exp": int(NOON) + 600, **claims}, SECRET, "HS256")


def test_me(api: TokenApi) -> None:
    """The user as we know them, all scopes included; never the hash."""
    api.add("Ann", scopes="read write", roles="clerk", email="ann@a.test", full_name="Ann Smith")
    answer = api.get("/users/me", api.login("ann", scope="read")["access_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "username": "Ann",
        "email": "ann@a.test",
        "full_name": "Ann Smith",
        "disabled": False,
        "scopes": ["read", "write"],
        "roles": ["clerk"],
    }
    Me.model_validate(answer.json())
    assert "argon2" not in answer.text


def test_what_is_not_known(api: TokenApi) -> None:
    """An email or a name that nobody wrote down is null."""
    api.add("ann", scopes="read")
    said = api.get("/users/me", api.login()["access_token"]).json()
    assert (said["email"], said["full_name"], said["roles"]) == (None, None, [])


def test_it_needs_read(api: TokenApi) -> None:
    """A token without that scope: 403, and the challenge names it."""
    api.add("ann", scopes="read write")
    answer = api.get("/users/me", api.login(scope="write")["access_token"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AUTH_ERROR")
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="read"'


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_it_needs_somebody(api: TokenApi, token: str) -> None:
    """Without a good token: 401."""
    answer = api.get("/users/me", token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AUTH_ERROR")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_namesake_of_another_issuer(api: TokenApi) -> None:
    """A token of another issuer gets what it says itself, and not the record of our user of that name."""
    api.add("ann", scopes="read write", email="ann@a.test")
    said = api.get("/users/me", foreign("ann", scope="read", iss="https://b.test")).json()
    assert (said["username"], said["email"], said["scopes"]) == ("ann", None, ["read"])


def test_a_disabled_user(api: TokenApi) -> None:
    """403, with a token from before."""
    api.add("ann", scopes="read")
    token = api.login()["access_token"]
    api.run(api.kept.users.disable("ann"))
    answer = api.get("/users/me", token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AUTH_ERROR")
    api.run(api.kept.users.disable("ann", disabled=False))
    assert api.get("/users/me", token).status_code == 200


@pytest.mark.parametrize("there", [True, False])
def test_a_subject_of_another_issuer(api: TokenApi, there: bool) -> None:
    """Nobody we know: what the token says; no database is created for it."""
    if there:
        api.add("ann", scopes="read", email="ann@a.test")
    token = foreign("eve", scope="read more", roles=["clerk"], email="eve@b.test")
    answer = api.get("/users/me", token)
    assert answer.json() == {
        "username": "eve",
        "email": "eve@b.test",
        "full_name": None,
        "disabled": False,
        "scopes": ["more", "read"],
        "roles": ["clerk"],
    }
    assert api.kept.file.exists() == there


def test_somebody_who_looks_alike(api: TokenApi) -> None:
    """A subject that differs in capitals from a user of ours is somebody else."""
    api.add("ann", scopes="read", email="ann@a.test", full_name="Ann Smith")
    said = api.get("/users/me", foreign("ANN", scope="read")).json()
    assert (said["username"], said["email"], said["full_name"]) == ("ANN", None, None)


def test_without_accounts(api: TokenApi) -> None:
    """A gateway that gives out no tokens says what the token says."""
    api.app = create_app("1", [users.router(PREFIX, None)])
    said = api.get("/users/me", foreign("ann", scope="read")).json()
    assert (said["username"], said["scopes"]) == ("ann", ["read"])


def test_the_database_is_away(api: TokenApi) -> None:
    """503: a user who may be disabled is not taken for somebody else."""
    api.kept.file.mkdir()
    answer = api.get("/users/me", foreign("ann", scope="read"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
