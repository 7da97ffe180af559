"""Who is asking: the user as we know them, or what their token says."""

import jwt
import pytest

from propylon.control import users
from propylon.control.app import create_app
from propylon.control.token_schemas import Me
from tests.control.desk import PREFIX, SECRET, Desk
from tests.stores.kept import NOON


def foreign(subject: str, **claims: object) -> str:
    """A token that somebody else issued with the same secret."""
    return jwt.encode({"sub": subject, "exp": int(NOON) + 600, **claims}, SECRET, "HS256")


def test_me(desk: Desk) -> None:
    """The user as we know them, all scopes included; never the hash."""
    desk.add("Ann", scopes="read write", roles="clerk", email="ann@a.test", full_name="Ann Smith")
    answer = desk.get("/users/me", desk.login("ann", scope="read")["access_token"])
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


def test_what_is_not_known(desk: Desk) -> None:
    """An email or a name that nobody wrote down is null."""
    desk.add("ann", scopes="read")
    said = desk.get("/users/me", desk.login()["access_token"]).json()
    assert (said["email"], said["full_name"], said["roles"]) == (None, None, [])


def test_it_needs_read(desk: Desk) -> None:
    """A token without that scope: 403, and the challenge names it."""
    desk.add("ann", scopes="read write")
    answer = desk.get("/users/me", desk.login(scope="write")["access_token"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AUTH_ERROR")
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="read"'


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_it_needs_somebody(desk: Desk, token: str) -> None:
    """Without a good token: 401."""
    answer = desk.get("/users/me", token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AUTH_ERROR")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_disabled_user(desk: Desk) -> None:
    """403, with a token from before."""
    desk.add("ann", scopes="read")
    token = desk.login()["access_token"]
    desk.run(desk.kept.users.disable("ann"))
    answer = desk.get("/users/me", token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AUTH_ERROR")
    desk.run(desk.kept.users.disable("ann", disabled=False))
    assert desk.get("/users/me", token).status_code == 200


@pytest.mark.parametrize("there", [True, False])
def test_a_subject_of_another_issuer(desk: Desk, there: bool) -> None:
    """Nobody we know: what the token says; no database is created for it."""
    if there:
        desk.add("ann", scopes="read", email="ann@a.test")
    token = foreign("eve", scope="read more", roles=["clerk"], email="eve@b.test")
    answer = desk.get("/users/me", token)
    assert answer.json() == {
        "username": "eve",
        "email": "eve@b.test",
        "full_name": None,
        "disabled": False,
        "scopes": ["more", "read"],
        "roles": ["clerk"],
    }
    assert desk.kept.file.exists() == there


def test_somebody_who_looks_alike(desk: Desk) -> None:
    """A subject that differs in capitals from a user of ours is somebody else."""
    desk.add("ann", scopes="read", email="ann@a.test", full_name="Ann Smith")
    said = desk.get("/users/me", foreign("ANN", scope="read")).json()
    assert (said["username"], said["email"], said["full_name"]) == ("ANN", None, None)


def test_without_accounts(desk: Desk) -> None:
    """A gateway that gives out no tokens says what the token says."""
    desk.app = create_app("1", [users.router(PREFIX, None)])
    said = desk.get("/users/me", foreign("ann", scope="read")).json()
    assert (said["username"], said["scopes"]) == ("ann", ["read"])


def test_the_database_is_away(desk: Desk) -> None:
    """503: a user who may be disabled is not taken for somebody else."""
    desk.kept.file.mkdir()
    answer = desk.get("/users/me", foreign("ann", scope="read"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
