"""The registry as a resource: pages, filters, single services and instances, changes, tags."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from propylon.control import registry as endpoints
from propylon.control.app import create_app
from propylon.control.identity import current_principal
from propylon.services.instance import Instance
from tests.control.test_registry import ADMIN, ID, PATH, RegistryApi, error
from tests.proxy.doubles import Asked
from tests.services.registrar import ALLOW, World

ONE = f"/orders/{ID}"
CHANGED = {"check_endpoint": "/live", "check_interval": 5, "metadata": {"zone": "b"}}


@pytest.fixture
def world() -> World:
    """A registry with a lease of ten seconds."""
    return World(ttl=10.0)


@pytest.fixture
def api(world: World) -> RegistryApi:
    """Its endpoints; an instance has registered."""
    api = RegistryApi(world)
    assert api.register(metadata={"zone": "a"}).headers["location"] == f"{PATH}{ONE}"
    return api


def put(
    api: RegistryApi, path: str = ONE, body: object = CHANGED, **headers: str
) -> httpx.Response:
    """Change an instance; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.ask("PUT", path, json=body, headers=named)


def tag(api: RegistryApi, path: str = ONE) -> str:
    """The tag of what is there."""
    found: str = api.ask("GET", path).headers["etag"]
    return found


# Reading


def test_an_instance(api: RegistryApi) -> None:
    """What the list says of it, and what it said of its checks; in any capitals."""
    answer = api.ask("GET", ONE)
    assert answer.json() == {**api.listed()[0], "check_endpoint": "/health", "check_interval": 30}
    assert answer.headers["cache-control"] == "no-store"
    for path in ("/orders/10.0.0.9:80", f"/nothing/{ID}"):
        assert error(api.ask("GET", path), 404, "NOT_FOUND")["message"]


def test_one_that_did_not_register(world: World) -> None:
    """It is shown without what it did not say, and cannot be changed: the file says what it is."""
    configured = Instance(id="10.0.0.5:80", host=b"a", base=b"", upstream=Asked())
    world.registry.apply([world.service("orders", configured)], world.admission(*ALLOW), None)
    api = RegistryApi(world)
    shown = api.ask("GET", "/orders/10.0.0.5:80").json()
    assert (shown["source"], shown["check_endpoint"], shown["check_interval"]) == (
        "configured",
        None,
        None,
    )
    said = error(put(api, "/orders/10.0.0.5:80"), 409, "INVALID_REQUEST")
    assert "configured" in said["message"]


def test_a_service(api: RegistryApi) -> None:
    """As the list has it."""
    answer = api.ask("GET", "/orders")
    assert answer.json() == {"name": "orders", "instances": api.listed()}
    error(api.ask("GET", "/nothing"), 404, "NOT_FOUND")


def pages(api: RegistryApi, query: str) -> list[list[str]]:
    """The names of services, page by page."""
    found = []
    path = f"?{query}"
    while path:
        answer = api.ask("GET", path)
        assert answer.status_code == 200, answer.text
        found.append([service["name"] for service in answer.json()["services"]])
        assert (answer.json()["next"] is None) == ("link" not in answer.headers)
        path = answer.headers.get("link", "").partition(">")[0].removeprefix(f"<{PATH}")
    return found


def test_pages(api: RegistryApi) -> None:
    """Each service stands on one page; a page behind a service that is gone is refused."""
    for number in range(4):
        api.register(service_name=f"made-{number}", host=f"10.0.1.{number}")
    everything = [name for page in pages(api, "") for name in page]
    assert [name for page in pages(api, "limit=2") for name in page] == everything
    assert all(len(page) <= 2 for page in pages(api, "limit=2"))
    assert pages(api, "limit=3&name=made") == [["made-0", "made-1", "made-2"], ["made-3"]]
    said = error(api.ask("GET", "?after=gone"), 422, "INVALID_REQUEST")["details"]["fields"]
    assert "begin anew" in said["after"]
    for query in ("limit=0", "limit=1001", "status=well"):
        error(api.ask("GET", f"?{query}"), 422, "INVALID_REQUEST")


def test_by_status(api: RegistryApi, world: World) -> None:
    """Only instances with that status, and services that have one."""
    api.register(host="10.0.0.2")
    api.register(service_name="others", host="10.0.0.3")
    (instance,) = [one for one in world.watcher.watched if one.id == "10.0.0.2:8001"]
    instance.state.status = "failed"
    found = api.ask("GET", "?status=failed").json()["services"]
    assert [(one["name"], [i["instance_id"] for i in one["instances"]]) for one in found] == [
        ("orders", ["10.0.0.2:8001"])
    ]


@pytest.mark.parametrize("path", ["", "/orders", ONE])
def test_what_has_not_changed(api: RegistryApi, world: World, path: str) -> None:
    """It is not sent again, also when it was probed meanwhile; it is when its status is another."""
    known = {"If-None-Match": tag(api, path)}
    (instance,) = world.watcher.watched
    instance.state.last_check, instance.state.latency = 1.0, 0.5
    world.now += 1
    answer = api.ask("GET", path, headers=known)
    assert (answer.status_code, answer.content) == (304, b"")
    instance.state.status = "healthy"
    assert api.ask("GET", path, headers=known).status_code == 200


# Changing


def test_a_change(api: RegistryApi, world: World) -> None:
    """Checks and labels are replaced, and the lease is renewed; probes follow."""
    world.now += 4
    answer = put(api)
    assert (answer.status_code, answer.json()["lease"]) == (200, 10.0)
    assert {key: answer.json()[key] for key in CHANGED} == CHANGED
    assert answer.headers["etag"] == tag(api)
    (rules,) = [rules for one, rules in world.watcher.watched.items() if one.id == ID]
    assert (rules.path, rules.interval) == (b"/live", 5.0)
    assert api.listed()[0]["metadata"] == {"zone": "b"}
    put(api, body={})
    assert api.ask("GET", ONE).json()["check_endpoint"] == "/health"


@pytest.mark.parametrize(
    "body",
    [
        {"check_endpoint": "health"},
        {"check_interval": 0},
        {"metadata": {"a": "x" * 5000}},
        {"host": "10.0.0.9"},
        {"service_name": "users"},
    ],
)
def test_changes_that_will_not_do(api: RegistryApi, body: dict[str, object]) -> None:
    """What registering refuses, and a change of its name."""
    before = tag(api)
    error(put(api, body=body), 422, "INVALID_REQUEST")
    assert tag(api) == before


def test_what_is_not_there(api: RegistryApi) -> None:
    """404; nobody registers by a change."""
    for path in ("/orders/10.0.0.9:80", f"/nothing/{ID}"):
        error(put(api, path), 404, "NOT_FOUND")
    assert len(api.listed()) == 1


def test_only_what_was_seen_is_changed(api: RegistryApi) -> None:
    """An older tag changes and removes nothing."""
    old = tag(api)
    assert put(api, if_match=old).status_code == 200
    for sent in (old, f"W/{tag(api)}"):
        error(put(api, if_match=sent), 412, "INVALID_REQUEST")
        error(api.ask("DELETE", ONE, headers={"If-Match": sent}), 412, "INVALID_REQUEST")
    assert api.ask("DELETE", ONE, headers={"If-Match": f'"x", {tag(api)}'}).status_code == 204
    error(api.ask("DELETE", ONE, headers={"If-Match": "*"}), 404, "NOT_FOUND")


def test_what_all_workers_know(world: World) -> None:
    """A tag is of the newest that any worker knows."""
    said: list[dict[str, Any]] = []

    async def everywhere() -> Sequence[dict[str, Any]]:
        return said

    api = RegistryApi(world)
    registry = world.registry
    api.app = create_app(
        "1", [endpoints.router("/api/v1", lambda: registry, None, None, everywhere)]
    )
    api.app.dependency_overrides[current_principal] = lambda: ADMIN
    api.register()
    before = tag(api)
    said.append(
        {"service": "orders", "id": ID, "status": "failed", "last_check": 1.0, "latency_ms": None,
         "ejected_until": None, "failures": 2}
    )  # fmt: skip
    assert api.ask("GET", ONE).json()["status"] == "failed"
    assert tag(api) != before
    error(put(api, if_match=before), 412, "INVALID_REQUEST")
    assert put(api, if_match=tag(api)).json()["status"] == "failed"
