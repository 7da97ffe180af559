"""Users that admins change, users that change their password, and sessions: listed and ended."""

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from propylon.stores.users import Change
from tests.control.token_api import TokenApi
from tests.stores.kept import NOON, PASSWORD

Start = Callable[[], TokenApi]


def settle(api: TokenApi) -> tuple[dict[str, Any], str]:
    """Add ann and an admin; return ann's login, and the token of the admin."""
    api.add("Ann", scopes="read write", roles="clerk", email="ann@a.test")
    api.add("root", scopes="admin")
    ann, root = api.login("Ann"), api.login("root")["access_token"]
    api.kept.wait(60)
    return ann, root


def patch(api: TokenApi, path: str, token: str, **body: Any) -> httpx.Response:
    """Send a PATCH."""
    return api.run(api.asking("PATCH", path, token, json=body))


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ({"scopes": ["more", "read", "write"]}, False),
        ({"email": "other@a.test", "full_name": "Ann A"}, False),
        ({"email": ""}, False),
        ({"scopes": ["read"]}, True),
        ({"roles": []}, True),
        ({"disabled": True}, True),
        ({"password": "another horse"}, True),
        ({}, False),
    ],
)
def test_what_a_change_ends(worker: Start, body: dict[str, Any], ends: bool) -> None:
    """What takes something away ends refresh tokens and older access tokens at once, in every worker."""
    api, other = worker(), worker()
    ann, root = settle(api)
    answer = patch(api, "/users/ANN", root, **body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    for key, value in body.items():
        if key != "password":
            assert shown[key] == (value or ([] if key == "roles" else None))
    other.run(other.kept.journal.catch_up())
    for one in (api, other):
        assert one.good(ann["access_token"]) != ends
    assert api.refresh(ann["refresh_token"]).status_code == (401 if ends else 200)


def test_a_login_after_the_change(api: TokenApi) -> None:
    """It gets what the user has from then on, in the very second of the change."""
    _, root = settle(api)
    patch(api, "/users/ann", root, scopes=["read"])
    again = api.login("ann")
    assert again["scope"] == "read"
    assert api.good(again["access_token"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scopes": ["a b"]}, 422),
        ({"email": "a b"}, 422),
        ({"password": "short"}, 422),
        ({"password": "x" * 1025}, 422),
        ({"username": "other"}, 422),
        ({"scopes": "read"}, 422),
    ],
)
def test_changes_that_will_not_do(api: TokenApi, body: dict[str, Any], status: int) -> None:
    """They are refused, and nothing has changed."""
    ann, root = settle(api)
    assert patch(api, "/users/ann", root, **body).status_code == status
    assert api.good(ann["access_token"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/users/{}"),
        ("GET", "/users/{}/sessions"),
        ("DELETE", "/users/{}/sessions"),
        ("DELETE", "/users/{}/sessions/0"),
    ],
)
def test_for_admins_only(api: TokenApi, method: str, path: str) -> None:
    """Others get 403, also for themselves; an admin gets 404 for a user who is not there."""
    ann, root = settle(api)
    body = {"json": {}} if method == "PATCH" else {}
    asked = [
        api.run(api.asking(method, path.format(name), token, **body)).status_code
        for name, token in (("ann", ""), ("ann", ann["access_token"]), ("nobody", root))
    ]
    assert asked == [401, 403, 404]


def test_ones_own_password(api: TokenApi) -> None:
    """It takes the one until now; then all logins have ended, and the new one opens."""
    ann, _ = settle(api)
    token = ann["access_token"]
    wrong = patch(api, "/users/me", token, current_password="wrong", password="battery staple")
    assert wrong.status_code == 401
    assert patch(api, "/users/me", token, password="battery staple").status_code == 422
    right = patch(api, "/users/me", token, current_password=PASSWORD, password="battery staple")
    assert (right.status_code, right.content) == (204, b"")
    assert not api.good(token)
    assert api.refresh(ann["refresh_token"]).status_code == 401
    forms = ({"username": "ann", "password": word} for word in (PASSWORD, "battery staple"))
    assert [api.post("/auth/token", **form).status_code for form in forms] == [401, 200]


def test_sessions(worker: Start) -> None:
    """Listed with their times and addresses; one is ended, and its tokens everywhere; then all are."""
    api, other = worker(), worker()
    first, root = settle(api)
    api.client = "198.51.100.7"
    second = api.login("ann", scope="read")
    third = api.login("ann")
    path = "/users/ANN/sessions"
    found = api.get(path, root).json()
    assert [(one["begun"], one["address"], one["scopes"]) for one in found] == [
        (NOON, "192.0.2.1", ["read", "write"]),
        (NOON + 60, "198.51.100.7", ["read"]),
        (NOON + 60, "198.51.100.7", ["read", "write"]),
    ]
    [chosen] = [one["id"] for one in found if one["scopes"] == ["read"]]
    assert api.run(api.asking("DELETE", f"{path}/{chosen}", root)).status_code == 204
    assert api.run(api.asking("DELETE", f"{path}/{chosen}", root)).status_code == 404
    other.run(other.kept.journal.catch_up())
    assert [other.good(one["access_token"]) for one in (first, second, third)] == [
        True, False, True,
    ]  # fmt: skip
    assert api.run(api.asking("DELETE", path, root)).status_code == 204
    assert api.get(path, root).json() == []
    assert [api.refresh(one["refresh_token"]).status_code for one in (first, third)] == [401, 401]


def test_a_session_of_another_user(api: TokenApi) -> None:
    """Its id ends nothing under another name."""
    ann, root = settle(api)
    [session] = api.get("/users/ann/sessions", root).json()
    path = f"/users/root/sessions/{session['id']}"
    assert api.run(api.asking("DELETE", path, root)).status_code == 404
    assert api.refresh(ann["refresh_token"]).status_code == 200


def test_a_change_during_a_login(api: TokenApi) -> None:
    """A login whose password was verified before the change does not outlive it."""
    settle(api)
    begin = api.kept.grants.begin

    async def late(*arguments: Any) -> str:
        api.kept.wait(1)
        await api.kept.users.change("ann", Change(disabled=True))
        api.kept.wait(1)
        return await begin(*arguments)

    api.kept.grants.begin = late  # type: ignore[method-assign]
    answer = api.post("/auth/token", username="ann", password=PASSWORD)
    assert answer.status_code == 401
    assert len(api.run(api.kept.grants.logins("Ann"))) == 0


def test_reuse_is_logged(api: TokenApi, caplog: pytest.LogCaptureFixture) -> None:
    """At warning, with whom and from where; within the grace it is no reuse."""
    caplog.set_level(logging.WARNING)
    api.kept.grants.grace = 10.0
    ann, _ = settle(api)
    assert [api.refresh(ann["refresh_token"]).status_code for _ in range(2)] == [200, 200]
    assert caplog.records == []
    api.kept.wait(10)
    api.client = "203.0.113.9"
    assert api.refresh(ann["refresh_token"]).status_code == 401
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "refresh token reuse")
    assert record.__dict__["fields"] == {"principal": "Ann", "client_ip": "203.0.113.9"}
    assert api.run(api.kept.grants.logins("Ann")) == []
