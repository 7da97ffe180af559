"""Users over HTTP: listed in pages, found, added, changed and removed, by admins who say what they have seen."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from propylon.stores.users import Change
from tests.control.token_api import PREFIX, TokenApi
from tests.stores.kept import PASSWORD

Start = Callable[[], TokenApi]
ANN = {
    "username": "Ann",
    "email": "ann@a.test",
    "full_name": None,
    "disabled": False,
    "scopes": ["read", "write"],
    "roles": ["clerk"],
}


@pytest.fixture
def root(api: TokenApi) -> str:
    """The token of an admin; ann is there, too."""
    api.add("Ann", scopes="read write", roles="clerk", email="ann@a.test")
    api.add("root", scopes="admin")
    token: str = api.login("root")["access_token"]
    return token


def send(
    api: TokenApi, method: str, path: str, token: str, body: object = None, **headers: str
) -> httpx.Response:
    """Send a request; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    # As ASCII: a body may hold half a surrogate pair.
    more: dict[str, Any] = {} if body is None else {"content": json.dumps(body)}
    if more:
        named["content-type"] = "application/json"
    return api.run(api.asking(method, path, token, headers=named, **more))


def names(api: TokenApi, token: str, query: str) -> list[str]:
    """Who is listed."""
    answer = api.get(f"/users?{query}", token)
    assert answer.status_code == 200, answer.text
    return [user["username"] for user in answer.json()["users"]]


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """What is wrong."""
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == ("NOT_FOUND" if status == 404 else "INVALID_REQUEST")
    return found


# Reading


def test_pages(api: TokenApi, root: str) -> None:
    """Each user stands on one page, in the order of their names; the links lead from page to page."""
    for name in ("bob", "Carl", "öd", "zoe"):
        api.add(name)
    pages = []
    path = "/users?limit=2&disabled=false"
    while path:
        answer = api.get(path, root)
        assert answer.status_code == 200, answer.text
        pages.append([user["username"] for user in answer.json()["users"]])
        link = answer.headers.get("link", "")
        assert ("after" in link) == (answer.json()["next"] is not None)
        path = link.partition(">")[0].removeprefix(f"<{PREFIX}")
    assert pages == [["Ann", "bob"], ["Carl", "root"], ["zoe", "öd"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["Ann", "bob", "B_b", "root"]),
        ("username=AN", ["Ann"]),
        ("username=b_", ["B_b"]),
        ("username=%25", []),
        ("username=a%20b", []),
        ("disabled=true", ["bob"]),
        ("disabled=false&scope=read", ["Ann"]),
        ("scope=read", ["Ann", "bob"]),
        ("scope=Read", []),
        ("scope=rea", []),
        ("role=clerk", ["Ann"]),
        ("scope=read&limit=1", ["Ann"]),
        ("scope=read&after=ann", ["bob"]),
        ("after=zzz", []),
    ],
)
def test_filters(api: TokenApi, root: str, query: str, found: list[str]) -> None:
    """By the beginning of the name, in any capitals; by scope and role, exactly; by whether they are disabled."""
    api.add("bob", scopes="read")
    api.add("B_b")
    api.run(api.kept.users.change("bob", Change(disabled=True)))
    assert sorted(names(api, root, query)) == sorted(found)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "disabled=perhaps"])
def test_what_cannot_be_listed(api: TokenApi, root: str, query: str) -> None:
    """A parameter that is none is named."""
    fields = error(api.get(f"/users?{query}", root), 422)["details"]["fields"]
    assert set(fields) == {query.partition("=")[0]}


def test_one_user(api: TokenApi, root: str) -> None:
    """In any capitals; what has not changed is not sent again."""
    answer = api.get("/users/ANN", root)
    assert (answer.status_code, answer.json()) == (200, ANN)
    assert answer.headers["cache-control"] == "no-store"
    tag = answer.headers["etag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = send(api, "GET", "/users/ann", root, if_none_match=sent)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for sent in ('"other"', tag.strip('"'), ""):
        assert send(api, "GET", "/users/ann", root, if_none_match=sent).status_code == 200
    send(api, "PATCH", "/users/ann", root, {"email": ""})
    assert send(api, "GET", "/users/ann", root, if_none_match=tag).status_code == 200
    error(api.get("/users/nobody", root), 404)


def test_a_list_that_has_not_changed(api: TokenApi, root: str) -> None:
    """Another page has another tag."""
    tag = api.get("/users", root).headers["etag"]
    assert send(api, "GET", "/users", root, if_none_match=tag).status_code == 304
    assert send(api, "GET", "/users?limit=1", root, if_none_match=tag).status_code == 200


# Adding


def test_a_user_is_added(worker: Start) -> None:
    """201 with the path; the user can log in at every worker, and the password stands nowhere."""
    api, other = worker(), worker()
    api.add("root", scopes="admin")
    token = api.login("root")["access_token"]
    body = {"username": "Zoë", "password": PASSWORD, "scopes": ["write", "read"], "roles": ["clerk"],
            "email": "z@a.test", "full_name": "Zoë Z"}  # fmt: skip
    answer = send(api, "POST", "/users", token, body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{PREFIX}/users/Zo%C3%AB"
    assert answer.json() == {
        "username": "Zoë", "email": "z@a.test", "full_name": "Zoë Z", "disabled": False,
        "scopes": ["read", "write"], "roles": ["clerk"],
    }  # fmt: skip
    assert PASSWORD not in answer.text
    read = api.get(answer.headers["location"].removeprefix(PREFIX), token)
    assert read.headers["etag"] == answer.headers["etag"]
    assert other.login("zoë")["scope"] == "read write"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"username": "ANN"}, 409),
        ({"username": "ａｎｎ"}, 409),
        ({"username": "me"}, 422),
        ({"username": "Me"}, 422),
        *(
            ({"username": name}, 422)
            for name in ("me.", "me;x", "me.json", ".", "..", "a/b", "a\\b")
        ),
        ({"username": "\ud800"}, 422),
        ({"scopes": ["\ud800"]}, 422),
        ({"roles": ["\ud800"]}, 422),
        ({"username": ""}, 422),
        ({"username": "a b"}, 422),
        ({"username": "a\nb"}, 422),
        ({"username": "x" * 129}, 422),
        ({"username": None}, 422),
        ({"password": "short"}, 422),
        ({"password": "x" * 1025}, 422),
        ({"password": None}, 422),
        ({"scopes": ["a,b"]}, 422),
        ({"scopes": "read"}, 422),
        ({"roles": ["a b"]}, 422),
        ({"email": "a b"}, 422),
        ({"full_name": "a\x00"}, 422),
        ({"admin": True}, 422),
    ],
)
def test_users_that_are_not_added(
    api: TokenApi, root: str, change: dict[str, object], status: int
) -> None:
    """A name that is taken, in any spelling; whatever `propylon user add` refuses; and what is no field."""
    body = {"username": "new", "password": PASSWORD, **change}
    body = {key: value for key, value in body.items() if value is not None}
    error(send(api, "POST", "/users", root, body), status)
    assert len(names(api, root, "")) == 2


# Changing and removing


def test_only_what_was_seen_is_changed(api: TokenApi, root: str) -> None:
    """The tag of an older state changes and removes nothing."""
    old = api.get("/users/ann", root).headers["etag"]
    done = send(api, "PATCH", "/users/ann", root, {"roles": []}, if_match=f'"x", {old}')
    assert (done.status_code, done.json()["roles"]) == (200, [])
    new = done.headers["etag"]
    assert new == api.get("/users/ann", root).headers["etag"] != old
    for sent in (old, f"W/{new}", new.strip('"'), ""):
        error(send(api, "PATCH", "/users/ann", root, {"email": ""}, if_match=sent), 412)
        error(send(api, "DELETE", "/users/ann", root, if_match=sent), 412)
    assert api.get("/users/ann", root).headers["etag"] == new
    assert send(api, "DELETE", "/users/ann", root, if_match=new).status_code == 204
    for method, body in (("PATCH", {"email": ""}), ("DELETE", None), ("GET", None)):
        error(send(api, method, "/users/ann", root, body, if_match="*"), 404)


def test_a_user_is_removed(worker: Start) -> None:
    """Logins and tokens end in every worker; the name is free again, and the new user has none of them."""
    api, other = worker(), worker()
    api.add("ann", scopes="read")
    api.add("root", scopes="admin")
    ann, token = api.login("ann"), api.login("root")["access_token"]
    api.kept.wait(60)
    assert send(api, "DELETE", "/users/ANN", token).status_code == 204
    other.run(other.kept.journal.catch_up())
    assert not api.good(ann["access_token"])
    assert not other.good(ann["access_token"])
    assert send(api, "POST", "/users", token, {"username": "ann", "password": PASSWORD}).is_success
    assert api.refresh(ann["refresh_token"]).status_code == 401
    assert not api.good(ann["access_token"])


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("DELETE", None),
        ("PATCH", {"disabled": True}),
        ("PATCH", {"scopes": ["read"]}),
        ("PATCH", {"scopes": []}),
    ],
)
def test_the_last_admin_stays(
    api: TokenApi, root: str, method: str, body: dict[str, object] | None
) -> None:
    """Nobody could undo it over HTTP. A disabled admin is none; with another one it is done."""
    api.add("retired", scopes="admin")
    api.run(api.kept.users.disable("retired"))
    assert "last" in error(send(api, method, "/users/root", root, body), 409)["message"]
    assert api.good(root)
    assert send(api, "PATCH", "/users/root", root, {"email": "r@a.test"}).status_code == 200
    assert send(api, "PATCH", "/users/ann", root, {"scopes": ["admin"]}).status_code == 200
    assert send(api, method, "/users/root", root, body).is_success


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/users"), ("POST", "/users"), ("GET", "/users/ann"), ("DELETE", "/users/ann")],
)
def test_for_admins_only(api: TokenApi, root: str, method: str, path: str) -> None:
    """Others get 403, whoever they are, and learn nothing."""
    ann = api.login("ann")["access_token"]
    body = {"username": "new", "password": PASSWORD} if method == "POST" else None
    assert send(api, method, path, "", body).status_code == 401
    assert send(api, method, path, ann, body).status_code == 403
    assert sorted(names(api, root, "")) == ["Ann", "root"]


def test_the_document(api: TokenApi) -> None:
    """Each operation has a summary, each parameter a description; limits are JSON Schema's."""
    document = api.app.openapi()
    for path in ("/users", "/users/{name}"):
        for method, operation in document["paths"][PREFIX + path].items():
            assert operation["summary"], method
            for parameter in operation.get("parameters", []):
                assert parameter["description"], (method, parameter["name"])
    listed = document["paths"][f"{PREFIX}/users"]["get"]
    assert {one["name"] for one in listed["parameters"]} == {
        "limit", "after", "username", "disabled", "scope", "role", "If-None-Match",
    }  # fmt: skip
    limit = next(one["schema"] for one in listed["parameters"] if one["name"] == "limit")
    assert (limit["minimum"], limit["maximum"]) == (1, 200)
    assert set(document["paths"][f"{PREFIX}/users/{{name}}"]) == {"get", "patch", "delete"}
