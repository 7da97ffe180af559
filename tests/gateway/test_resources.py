"""The gateway's own resources on both edges: users and instances, from the first request to the audit log."""

import json
from typing import Any

import pytest

from tests.gateway.test_auth import check_refused
from tests.support.client import Answer, ask
from tests.support.gateway import Gateway
from tests.support.secrecy import SECRECY
from tests.support.tokens import authorized

USERS, SERVICES = "/api/v1/users", "/api/v1/services"
PASSWORD = SECRECY.note("new-Hq5v-passphrase-38")
ADMIN = authorized("root", scope="admin")


def send(gateway: Gateway, method: str, target: str, body: object = None, **headers: str) -> Answer:
    """Send a request as an admin; underscores in the names of headers stand for hyphens."""
    named = [*ADMIN, *((name.replace("_", "-"), value) for name, value in headers.items())]
    if body is None:
        return ask(gateway.port, method, target, named)
    named.append(("Content-Type", "application/json"))
    return ask(gateway.port, method, target, named, json.dumps(body).encode())


def audited(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The audit record of an answer."""
    identity = str(answer.get("x-request-id"))
    gateway.record(answer)
    (found,) = [line for line in gateway.lines(identity) if line.get("event") == "audit"]
    return found


def test_the_life_of_a_user(guarded: Gateway) -> None:
    """Added, read, found, changed, logged in, removed; every step is in the audit log, the password is not."""
    name = f"new-{guarded.edge}"
    body = {"username": name, "password": PASSWORD, "scopes": ["read"]}
    added = send(guarded, "POST", USERS, body)
    assert added.status == 201, added.body
    path = added.get("location")
    assert path == f"{USERS}/{name}"
    assert send(guarded, "POST", USERS, body).status == 409
    assert [audited(guarded, added)[key] for key in ("action", "outcome", "target")] == [
        "add_user", "success", f"user:{name}",
    ]  # fmt: skip
    read = send(guarded, "GET", path)
    tag = str(read.get("etag"))
    assert read.json() == added.json()
    assert tag == added.get("etag")
    known = send(guarded, "GET", path, if_none_match=tag)
    assert (known.status, known.body, known.get("etag")) == (304, b"", tag)
    found = send(guarded, "GET", f"{USERS}?username=new-&limit=1").json()
    assert len(found["users"]) == 1
    form = f"username={name}&password={PASSWORD}".encode()
    kind = [("Content-Type", "application/x-www-form-urlencoded")]
    token = ask(guarded.port, "POST", "/api/v1/auth/token", kind, form).json()["access_token"]
    bearer = [("Authorization", f"Bearer {token}")]
    assert ask(guarded.port, target=f"{USERS}/me", headers=bearer).json()["username"] == name
    check_refused(ask(guarded.port, target=USERS, headers=bearer), 403)
    changed = send(guarded, "PATCH", path, {"email": "n@a.test"}, if_match=tag)
    assert changed.status == 200
    refused = send(guarded, "DELETE", path, if_match=tag)
    assert (refused.status, refused.json()["error"]["code"]) == (412, "INVALID_REQUEST")
    assert audited(guarded, refused)["outcome"] == "failure"
    assert send(guarded, "DELETE", path, if_match=str(changed.get("etag"))).status == 204
    assert send(guarded, "GET", path).status == 404
    assert ask(guarded.port, target="/read", headers=bearer).status == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_users_are_for_admins(guarded: Gateway, method: str) -> None:
    """Nobody else is even heard."""
    check_refused(ask(guarded.port, method, USERS))
    check_refused(ask(guarded.port, method, USERS, authorized(scope="read write")), 403)
    assert ask(guarded.port, "PUT", USERS, ADMIN).get("allow") == "GET, HEAD, POST"


def test_services_are_there(guarded: Gateway) -> None:
    """Each by its name, in pages; an instance by its id."""
    first = send(guarded, "GET", f"{SERVICES}?limit=1")
    (service,) = first.json()["services"]
    assert first.json()["next"] == service["name"]
    assert "after=" in str(first.get("link"))
    one = send(guarded, "GET", f"{SERVICES}/{service['name']}")
    assert one.json()["name"] == service["name"]
    assert send(guarded, "GET", f"{SERVICES}/nothing").status == 404
    for instance in service["instances"]:
        path = f"{SERVICES}/{service['name']}/{instance['instance_id']}"
        answer = send(guarded, "GET", path)
        assert answer.json()["source"] == "configured"
        tag = str(answer.get("etag"))
        assert send(guarded, "PUT", path, {}, if_match=tag).status == 409
