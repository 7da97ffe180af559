"""The registry over HTTP: what is taken in, what is refused and why, and who may ask at all."""

import asyncio
import json
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from propylon.control import registration as models
from propylon.control import registry as endpoints
from propylon.control.app import create_app
from propylon.control.identity import current_principal
from propylon.control.registration import RegistrationRequest, Services
from propylon.control.schemas import Envelope
from propylon.proxy.principal import Principal
from propylon.services.instance import Ejection, Instance
from tests.proxy.doubles import Asked
from tests.services.registrar import ALLOW, Names, World
from tests.support.examples import examples

PATH = "/api/v1/services"
ADMIN = Principal("root", scopes=frozenset({"admin", "read"}))
SAID = {"service_name": "orders", "host": "10.0.0.1", "port": 8001}
ID = "10.0.0.1:8001"
MODELS = [getattr(models, name) for name in models.__all__]


class RegistryApi:
    """The registry's endpoints, and a client that calls them."""

    def __init__(self, world: World | None, principal: Principal | None = ADMIN) -> None:
        self.world = world
        registry = None if world is None else world.registry
        self.app: FastAPI = create_app("1", [endpoints.router("/api/v1", lambda: registry)])
        if principal is not None:
            self.app.dependency_overrides[current_principal] = lambda: principal

    def ask(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        """Send a request, and return the answer."""

        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                return await client.request(method, PATH + path, **options)

        return asyncio.run(main())

    def register(self, **changes: Any) -> httpx.Response:
        """Register; what is changed to None is left out."""
        said = {key: value for key, value in {**SAID, **changes}.items() if value is not None}
        return self.ask("POST", json=said)

    def listed(self, service: str = "orders") -> list[dict[str, Any]]:
        """The instances of a service."""
        answer = self.ask("GET")
        assert answer.status_code == 200
        Services.model_validate(answer.json())
        found = {one["name"]: one["instances"] for one in answer.json()["services"]}
        instances: list[dict[str, Any]] = found[service]
        return instances


@pytest.fixture
def world() -> World:
    """A registry with a lease of ten seconds."""
    return World(ttl=10.0)


@pytest.fixture
def api(world: World) -> RegistryApi:
    """Its endpoints."""
    return RegistryApi(world)


@pytest.fixture(scope="module")
def readonly() -> RegistryApi:
    """The endpoints of a registry that takes nothing in, for whatever is refused."""
    return RegistryApi(World())


def untouched(api: RegistryApi) -> bool:
    """Whether nothing was taken in."""
    assert api.world is not None
    return api.world.pools == [] and api.listed() == []


def error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, checked against the published model."""
    assert answer.status_code == status, answer.text
    Envelope.model_validate(answer.json())
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == code
    return found


def fields(answer: httpx.Response, status: int = 422) -> dict[str, str]:
    """What is wrong with which field."""
    found: dict[str, str] = error(answer, status, "INVALID_REQUEST")["details"]["fields"]
    return found


# Registering


def test_an_instance_registers(api: RegistryApi) -> None:
    """201 with its name; again: 200, and it is there once."""
    first = api.register()
    assert (first.status_code, first.json()) == (201, {"instance_id": ID, "status": "starting"})
    again = api.register(metadata={"zone": "b"}, check_interval=5)
    assert (again.status_code, again.json()) == (200, {"instance_id": ID, "status": "starting"})
    (entry,) = api.listed()
    assert entry == {
        "instance_id": ID,
        "status": "starting",
        "last_check": None,
        "latency_ms": None,
        "ejected_until": None,
        "failures": 0,
        "drained": False,
        "weight": 1,
        "priority": 0,
        "source": "registered",
        "metadata": {"zone": "b"},
        "lease": 10.0,
    }


def test_what_is_not_said_has_defaults(api: RegistryApi, world: World) -> None:
    """/health every thirty seconds."""
    api.register()
    (rules,) = world.watcher.watched.values()
    assert (rules.path, rules.interval) == (b"/health", 30.0)


def test_everything_that_can_be_said(api: RegistryApi, world: World) -> None:
    """A name, another path, another interval, a service that nobody wrote down."""
    answer = api.register(
        service_name="new.one_2-x",
        host="Orders.Internal",
        port=80,
        check_endpoint="/a/b%20c",
        check_interval=1,
        metadata={"a": [1, 2.5, None, True], "b": {"c": "ü"}},
    )
    assert (answer.status_code, answer.json()["instance_id"]) == (201, "orders.internal:80")
    (rules,) = world.watcher.watched.values()
    assert (rules.path, rules.interval) == (b"/a/b%20c", 1.0)
    (entry,) = api.listed("new.one_2-x")
    assert entry["metadata"] == {"a": [1, 2.5, None, True], "b": {"c": "ü"}}


WRONG: list[tuple[str, list[Any]]] = [
    ("service_name", [None, "", "a b", "-a", "a/b", "é", "a" * 129, 7, "propylon"]),
    ("host", [None, "", " ", "http://a", "a/b", "u@a", "a b", "a:80", "[::1]", "a" * 254, 7]),
    ("host", ["a\r\nb", "a\x00b", "fe80::1%eth0", "1::2::3", "bücher.example", "a..b", "a."]),
    ("port", [None, 0, -1, 65536, 70000, "x", "", 1.5, True, 10**30, [80], "8001x"]),
    ("check_endpoint", ["", "health", "http://a/", "//a/", "/a b", "/a\r\nb", "/a#b", "/a?b", 7]),
    ("check_endpoint", ["/../a", "/%2e%2e/a", "/a%zz", "/é", "/" + "a" * 512]),
    ("check_interval", [0, -1, 3601, "x", True, 10**30, 0.5]),
    ("metadata", ["x", [], 7, {str(key): 1 for key in range(33)}, {"a": "x" * 4096}]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG for value in values]
)
def test_fields_that_do_not_fit(readonly: RegistryApi, field: str, value: Any) -> None:
    """422 that names the field; nothing is taken in."""
    found = fields(readonly.register(**{field: value}))
    assert [name.split(".")[0] for name in found] == [field]
    assert untouched(readonly)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'"x"',
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": 1e999}}',
        b'{"metadata": {"a": "\\ud800"}}',
        b'{"metadata": {"\\udfff": 1}}',
        b'{"metadata": {"a": 18446744073709551616}}',
        b'{"metadata": {"a": -9223372036854775809}}',
        b'{"metadata": {"a": ' + b"[" * 254 + b"]" * 254 + b"}}",
        b'{"metadata": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"metadata": {"a": ' + b"[" * 20000 + b"]" * 20000 + b"}}",
        b'{"port": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
    ],
)
def test_bodies_that_do_not_fit(readonly: RegistryApi, body: bytes) -> None:
    """4xx in the envelope, never a 500; and what cannot be sent back is not taken in."""
    if body.startswith(b'{"metadata"'):
        body = json.dumps(SAID).encode()[:-1] + b", " + body[1:]
    answer = readonly.ask("POST", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    error(answer, answer.status_code, "INVALID_REQUEST")
    assert untouched(readonly)


def test_an_unknown_field_is_refused(readonly: RegistryApi) -> None:
    """A misspelt `check_endpoint` would leave the instance with the default check."""
    body = json.dumps({**SAID, "chek_endpoint": "/up"}).encode()
    answer = readonly.ask("POST", content=body, headers={"Content-Type": "application/json"})
    assert set(fields(answer)) == {"chek_endpoint"}
    assert untouched(readonly)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{", "application/json", "JSON decode error: "),
        (b'{"a": 1,}', "application/vnd.orders+json", "JSON decode error: "),
        (b"x", "text/plain", "must be JSON, sent with Content-Type: application/json"),
        (b"a=1", "application/x-www-form-urlencoded", "must be JSON, sent with Content-Type: "),
        (b"{}", "", "must be JSON, sent with Content-Type: application/json"),
        (b"", "application/json", "Field required"),
        (b"[]", "application/json", "Input should be a valid dictionary"),
    ],
)
def test_a_body_that_is_wrong_as_a_whole(
    readonly: RegistryApi, body: bytes, kind: str, said: str
) -> None:
    """It is called body, and what was wanted is said."""
    headers = {"Content-Type": kind} if kind else {}
    found = fields(readonly.ask("POST", content=body, headers=headers))
    assert list(found) == ["body"]
    assert found["body"].startswith(said)
    assert untouched(readonly)


FORBIDDEN = """169.254.169.254 fe80::1 0.0.0.0 ::ffff:169.254.169.254 2852039166 127.1 127.0.0.1
    11.0.0.1 metadata.google.internal nowhere.internal evil.example"""


@pytest.mark.parametrize("host", FORBIDDEN.split())
def test_hosts_that_may_not(readonly: RegistryApi, host: str) -> None:
    """400 that names the field; nothing is taken in."""
    found = fields(readonly.register(host=host), 400)
    assert list(found) == ["host"]
    assert untouched(readonly)


def test_which_key_to_set(api: RegistryApi, world: World) -> None:
    """An operator who reads the answer knows where to look."""
    assert fields(api.register(host="11.0.0.1"), 400)["host"].startswith("registry.allow")
    world.registry.apply([], world.admission(), None)
    assert fields(api.register(), 400)["host"].startswith("registry.allow is empty")


# Staying, and going


def test_a_heartbeat(api: RegistryApi, world: World) -> None:
    """The status, and when the next one is due."""
    api.register()
    world.now += 4.5
    assert api.listed()[0]["lease"] == 5.5
    answer = api.ask("PUT", f"/orders/{ID}/heartbeat")
    assert (answer.status_code, answer.json()) == (
        200,
        {"instance_id": ID, "status": "starting", "lease": 10.0},
    )
    world.find("orders").instances[0].state.status = "failed"
    assert api.ask("PUT", f"/orders/{ID}/heartbeat").json()["status"] == "failed"


def test_without_leases(api: RegistryApi, world: World) -> None:
    """A heartbeat does no harm, and says that none is due."""
    world.registry.apply([], world.admission(*ALLOW), None)
    api.register()
    assert api.ask("PUT", f"/orders/{ID}/heartbeat").json()["lease"] is None
    assert api.listed()[0]["lease"] is None


def test_an_instance_leaves(api: RegistryApi) -> None:
    """204 without a body; then it is unknown."""
    api.register()
    answer = api.ask("DELETE", f"/orders/{ID}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.listed() == []
    error(api.ask("DELETE", f"/orders/{ID}"), 404, "NOT_FOUND")
    error(api.ask("PUT", f"/orders/{ID}/heartbeat"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/orders/[fd00::1]:8001", "/orders/%5Bfd00::1%5D%3A8001"])
def test_an_address_in_brackets(path: str) -> None:
    """As it is written in URLs, escaped or not."""
    api = RegistryApi(World("fd00::/8"))
    assert api.register(host="FD00:0::1").json()["instance_id"] == "[fd00::1]:8001"
    assert api.ask("PUT", path + "/heartbeat").status_code == 200
    assert api.ask("DELETE", path).status_code == 204


@pytest.mark.parametrize(
    "path", [f"/nothing/{ID}", "/orders/10.0.0.1:8002", "/orders/x", "/or%00/x"]
)
def test_unknown_instances(api: RegistryApi, path: str) -> None:
    """404 in the envelope."""
    api.register()
    error(api.ask("PUT", path + "/heartbeat"), 404, "NOT_FOUND")
    error(api.ask("DELETE", path), 404, "NOT_FOUND")


def test_the_configurations_instances_stay(api: RegistryApi, world: World) -> None:
    """409 that says why; registering one is no mistake, and changes nothing."""
    written = Instance(ID, b"a", b"", Asked(), weight=3)
    world.registry.apply([world.service("orders", written)], world.admission(*ALLOW), 10.0)
    refusal = error(api.ask("DELETE", f"/orders/{ID}"), 409, "INVALID_REQUEST")
    assert "did not register" in refusal["message"]
    assert api.register(metadata={"a": 1}).status_code == 200
    assert api.ask("PUT", f"/orders/{ID}/heartbeat").json()["lease"] is None
    (entry,) = api.listed()
    assert (entry["source"], entry["weight"], entry["metadata"]) == ("configured", 3, {})


def test_the_list(api: RegistryApi, world: World) -> None:
    """Every service, with what is known of its instances; times are RFC 3339."""
    now = 1_750_000_000.0
    service = world.service(
        "orders",
        *(Instance(f"10.0.0.{number}:80", b"a", b"", Asked()) for number in (1, 2)),
        ejection=Ejection(failures=1, time=30.0),
        clock=lambda: 50.0,
        wall=lambda: now,
    )
    world.registry.apply([service], world.admission(*ALLOW), 10.0)
    api.register(service_name="new")
    first, second = service.instances
    service.fleet.failed(first)
    service.fleet.checked(second, ok=True, answered=True, at=now, latency=0.0015, reason="")
    answer = api.ask("GET")
    assert answer.headers["cache-control"] == "no-store"
    assert [one["name"] for one in answer.json()["services"]] == ["orders", "new"]
    left_out, well = api.listed()
    assert datetime.fromisoformat(left_out["ejected_until"]).timestamp() == now + 30
    assert (well["status"], well["latency_ms"]) == ("healthy", 1.5)
    assert well["last_check"].endswith("Z")
    assert datetime.fromisoformat(well["last_check"]).timestamp() == now


# Who may ask


ALL = [
    ("GET", ""),
    ("POST", ""),
    ("PUT", f"/orders/{ID}/heartbeat"),
    ("DELETE", f"/orders/{ID}"),
]


@pytest.mark.parametrize(("method", "path"), ALL)
@pytest.mark.parametrize(
    ("principal", "status"), [(None, 401), (Principal("ann", scopes=frozenset({"read"})), 403)]
)
def test_admin_only(
    world: World, method: str, path: str, principal: Principal | None, status: int
) -> None:
    """Nobody else registers, lists, renews or takes away."""
    RegistryApi(world).register()
    answer = RegistryApi(world, principal).ask(method, path, json={**SAID, "port": 9000})
    error(answer, status, "AUTH_ERROR")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert world.ids() == [ID]


@pytest.mark.parametrize(("method", "path"), ALL)
def test_no_registry(method: str, path: str) -> None:
    """404, as for anything that is not there."""
    error(RegistryApi(None).ask(method, path, json=SAID), 404, "NOT_FOUND")


# The model, and its documentation


def test_the_model_is_plain() -> None:
    """It is built by keyword, with its defaults; hosts in their one spelling."""
    request = RegistrationRequest(
        service_name="context",
        host="LOCALHOST",
        port=8001,
        check_endpoint="/health",
        check_interval=30,
    )
    assert request.model_dump() == {
        "service_name": "context",
        "host": "localhost",
        "port": 8001,
        "check_endpoint": "/health",
        "check_interval": 30,
        "metadata": {},
    }
    assert RegistrationRequest(service_name="a", host="b", port=1).check_interval == 30
    with pytest.raises(ValidationError):
        RegistrationRequest(service_name="a", host="b", port=0)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_described(model: type[BaseModel]) -> None:
    """A description and an example, of the model and of each field; and the examples are valid."""
    schema = model.model_json_schema()
    assert schema["description"]
    model.model_validate(schema["example"])
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert field["examples"], name
        for example in field["examples"]:
            model.model_validate({**schema["example"], name: example})


def test_the_document(api: RegistryApi) -> None:
    """Every operation says that it needs a token with `admin`, and what it answers."""
    paths = api.app.openapi()["paths"]
    operations = {
        (method, path.removeprefix(PATH)): operation
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    assert {key: sorted(operation["responses"]) for key, operation in operations.items()} == {
        ("get", ""): ["200", "304", "default"],
        ("get", "/{service}"): ["200", "304", "404", "default"],
        ("get", "/{service}/{instance_id}"): ["200", "304", "404", "default"],
        ("put", "/{service}/{instance_id}"): ["200", "404", "409", "412", "default"],
        ("post", ""): ["200", "201", "400", "default"],
        ("put", "/{service}/{instance_id}/heartbeat"): ["200", "404", "default"],
        ("delete", "/{service}/{instance_id}"): ["204", "404", "409", "412", "default"],
    }
    for operation in operations.values():
        assert operation["security"] == [{"bearer": ["admin"]}]
        assert operation["summary"]
        assert all(parameter["description"] for parameter in operation.get("parameters", ()))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda below: st.lists(below, max_size=4)
    | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def open_to_all() -> RegistryApi:
    """The endpoints of a registry that takes in whatever it may."""
    names = Names(**{name: ["10.0.0.1"] for name in "ab"})
    return RegistryApi(World("*", "0.0.0.0/0", "::/0", names=names))


@examples(50)
@given(
    changes=st.dictionaries(
        st.sampled_from([*SAID, "check_endpoint", "check_interval", "metadata", "more"]), JSON
    )
)
def test_any_json(open_to_all: RegistryApi, changes: dict[str, Any]) -> None:
    """It is taken in, or refused with a 4xx in the envelope; and the list can always be shown."""
    body = json.dumps({**SAID, **changes}).encode()
    answer = open_to_all.ask("POST", content=body, headers={"Content-Type": "application/json"})
    if answer.status_code not in (200, 201):
        error(answer, answer.status_code, "INVALID_REQUEST")
    assert open_to_all.ask("GET").status_code == 200
