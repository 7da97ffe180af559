"""What routes show of documents: public paths, only what they let through, who may call it; and the routes themselves."""

import json
from dataclasses import replace
from typing import Any

import pytest

from propylon.documents.exposure import Exposure
from propylon.documents.merge import Collected, Merged
from propylon.documents.publish import Mismatch, publish_route
from propylon.documents.published import Callers, Published
from propylon.documents.unique import Unique
from propylon.loop.slices import at_once
from tests.documents.written import GOOD, anywhere, document, merged, published, returning, written

OAUTH = {"securitySchemes": {"oauth": {"type": "oauth2", "flows": {}}}}


def split(path: str) -> tuple[str, ...]:
    """Return its segments."""
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def route(path: str, **more: Any) -> Exposure:
    """A route to the service `orders`."""
    replaced = more.pop("replaced", None)
    return Exposure(
        more.pop("name", path),
        "orders",
        split(path),
        replaced=None if replaced is None else split(replaced),
        **more,
    )


PATHS: dict[str, tuple[str, dict[str, Any], str, list[str]]] = {
    # path of the route, its rules, path of the service, public paths
    "as it is": ("/orders", {}, "/orders/{id}", ["/orders/{id}"]),
    "elsewhere": ("/orders", {}, "/users", []),
    "the root": ("/", {}, "/users/{id}", ["/users/{id}"]),
    "stripped": ("/api/orders", {"replaced": ""}, "/items/{id}", ["/api/orders/items/{id}"]),
    "stripped, the root": ("/api/orders", {"replaced": ""}, "/", ["/api/orders"]),
    "rewritten": ("/o", {"replaced": "/v2/orders"}, "/v2/orders/{id}", ["/o/{id}"]),
    "rewritten, beside": ("/o", {"replaced": "/v2/orders"}, "/v1/orders", []),
    "exact": ("/orders", {"exact": True}, "/orders", ["/orders"]),
    "exact, below": ("/orders", {"exact": True}, "/orders/{id}", []),
    "a name": ("/{tenant}/orders", {}, "/{t}/orders/{id}", ["/{t}/orders/{id}"]),
    "a name for a literal": ("/{tenant}/orders", {}, "/main/orders", ["/main/orders"]),
    "a literal for a name": ("/main/orders", {}, "/{t}/orders", ["/main/orders"]),
    "a name that is stripped": (
        "/{id}/o",
        {"replaced": ""},
        "/items/{id}",
        ["/{id_2}/o/items/{id}"],
    ),
    "a name that moves": ("/shop/{t}", {"replaced": "/v2/{t}"}, "/v2/{x}/a", ["/shop/{x}/a"]),
    "another method": ("/orders", {"methods": frozenset({"POST"})}, "/orders", []),
    "mixed segments": ("/orders", {}, "/orders/{id}.json", ["/orders/{id}.json"]),
}


@pytest.mark.parametrize("kind", PATHS)
def test_public_paths(kind: str) -> None:
    """The service's path with the route's in front of it; each parameter is described."""
    path, rules, theirs, expected = PATHS[kind]
    found = merged(
        (document(written({theirs: {"get": {"responses": GOOD}}})), route(path, **rules))
    )
    assert [*found["paths"]] == expected
    for item in found["paths"].values():
        for parameter in item["get"].get("parameters", ()):
            assert parameter["description"]
            assert parameter["schema"]["pattern"]


def test_a_more_specific_route_takes_its_part() -> None:
    """What another route gets is not shown under this one."""
    one = {"get": {"responses": GOOD}}
    found = document(written({"/orders/{id}": one, "/orders/admin": one}))
    shown = published(
        found,
        route("/orders", name="all"),
        route("/orders/admin", name="admin", scopes=frozenset({"admin"})),
    )
    by_path: dict[str, list[Callers]] = {}
    for operation in shown:
        assert isinstance(operation, Published)
        by_path.setdefault(operation.path, []).append(operation.callers)
    assert by_path["/orders/{id}"] == [Callers()]
    # `/orders/{id}` is reached as `/orders/admin` by the second route, too.
    assert {one.alternatives for one in by_path["/orders/admin"]} == {(frozenset({"admin"}),)}


def test_paths_that_differ_in_names_only_are_one() -> None:
    """OpenAPI forbids two of them: the parameters are called as the first one calls them."""
    both = [
        (
            document(written({"/items/{id}": {"get": {"responses": GOOD}}})),
            route("/x", replaced="", methods=frozenset({"GET"})),
        ),
        (
            document(written({"/items/{number}": {"delete": {"responses": GOOD}}})),
            route("/x", replaced="", methods=frozenset({"DELETE"})),
        ),
    ]
    found = merged(*both)
    assert [*found["paths"]] == ["/x/items/{id}"]
    names = {item["parameters"][0]["name"] for item in found["paths"]["/x/items/{id}"].values()}
    assert names == {"id"}


CALLERS: list[tuple[dict[str, Any], Any, Any]] = [
    ({"auth": "none"}, None, []),
    ({"auth": "optional"}, None, [{"bearer": []}, {}]),
    ({}, None, [{"bearer": []}]),
    ({"scopes": frozenset({"read"})}, None, [{"bearer": ["read"]}]),
    ({"scopes": frozenset({"read"})}, [{"oauth": ["write"]}], [{"bearer": ["read", "write"]}]),
    ({}, [{"oauth": ["a"]}, {"oauth": ["b"]}], [{"bearer": ["a"]}, {"bearer": ["b"]}]),
    ({"auth": "optional"}, [{"oauth": ["a"]}], [{"bearer": ["a"]}]),
    ({"auth": "optional"}, [{"oauth": ["a"]}, {}], [{"bearer": []}, {}]),
]


@pytest.mark.parametrize(("rules", "security", "expected"), CALLERS)
def test_who_may_call(rules: dict[str, Any], security: Any, expected: Any) -> None:
    """The route's scopes and the service's behind them."""
    said = {"responses": GOOD} if security is None else {"responses": GOOD, "security": security}
    found = merged(
        (document(written({"/orders": {"get": said}}, components=OAUTH)), route("/orders", **rules))
    )
    assert found["paths"]["/orders"]["get"]["security"] == expected


def test_rules_are_told() -> None:
    """Roles, limits and hosts, in words; and the answers that come of them, by one schema."""
    rules = {"roles": ("clerk",), "limits": ("10/s",), "hosts": ("a.test",)}
    raw = written(
        {
            "/orders": {
                "post": {
                    "description": "Order it.",
                    "requestBody": {"content": {}},
                    "responses": GOOD,
                }
            }
        }
    )
    operation = merged((document(raw), route("/orders", **rules)))["paths"]["/orders"]["post"]
    assert (
        operation["description"]
        == "Order it.\n\nRoles, one of: clerk. Limits: 10/s. On a.test only."
    )
    assert operation["summary"] == "POST /orders"
    assert operation["x-roles"] == ["clerk"]
    statuses = {"400", "401", "403", "413", "429", "502", "503", "504", "default"}
    assert operation["responses"].keys() == {"200"} | statuses
    assert all(
        operation["responses"][status] == {"$ref": f"#/components/responses/propylon.{status}"}
        for status in statuses
    )


MISMATCHES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"scopes": frozenset({"read"})}, ("write",)),
    ({"scopes": frozenset({"read", "write"})}, ()),
    ({"auth": "optional"}, ("write",)),
    ({"enforced": True}, ()),
]


@pytest.mark.parametrize(("rules", "missing"), MISMATCHES)
def test_scopes_are_compared(rules: dict[str, Any], missing: tuple[str, ...]) -> None:
    """What the document asks for and the route does not is reported, unless the route enforces the document."""
    raw = written(
        {"/orders": {"post": {"security": [{"oauth": ["write"]}], "responses": GOOD}}},
        components=OAUTH,
    )
    found = [
        one
        for one in published(document(raw), route("/orders", name="o", **rules))
        if isinstance(one, Mismatch)
    ]
    assert found == ([Mismatch("orders", "o", "POST", "/orders", missing)] if missing else [])


def test_a_route_without_a_document() -> None:
    """Its own path, and what is below; by all its methods; a WebSocket as the GET that it begins with."""
    exposure = route("/a/{rest}", name="a", methods=frozenset({"GET", "POST"}))
    shown = [*publish_route(exposure, anywhere((exposure,)))]
    assert {(one.method, one.path) for one in shown} == {
        (method, path) for method in ("GET", "POST") for path in ("/a/{rest}", "/a/{rest}/{rest_2}")
    }
    socket = route("/ws", name="ws", exact=True, methods=frozenset({"WEBSOCKET"}), auth="none")
    (one,) = publish_route(socket, anywhere((socket,)))
    assert (one.method, one.path) == ("GET", "/ws")
    assert "101" in json.loads("{" + one.members + "}")["responses"]
    exposure = route("/any", name="any", exact=True)
    assert len([*publish_route(exposure, anywhere((exposure,)))]) == 5


def test_what_a_caller_may_call() -> None:
    """Only that, and only the components that it needs."""
    one = document(written({"/orders": {"get": {"responses": GOOD}}}))
    parts = [
        (one, route("/orders", name="open", auth="none")),
        (one, route("/orders", name="closed")),
    ]
    assert [*merged(parts[1], permits=lambda found: found.callers.anonymous)["paths"]] == []
    whole = merged(parts[0], permits=lambda found: found.callers.anonymous)
    assert [*whole["paths"]] == ["/orders"]
    assert whole["components"]["schemas"].keys() == {"propylon.Error", "Envelope"}


PERMITTED: list[tuple[Callers, set[str], set[str], bool, bool]] = [
    (Callers(), set(), set(), True, True),
    (Callers(), set(), set(), False, False),
    (Callers(anonymous=True), set(), set(), False, True),
    (Callers((frozenset({"a"}), frozenset({"b"}))), {"b"}, set(), True, True),
    (Callers((frozenset({"a", "b"}),)), {"b"}, set(), True, False),
    (Callers(roles=frozenset({"x", "y"})), set(), {"y"}, True, True),
    (Callers(roles=frozenset({"x"})), set(), {"y"}, True, False),
]


@pytest.mark.parametrize(("callers", "scopes", "roles", "known", "expected"), PERMITTED)
def test_whom_an_operation_is_for(
    callers: Callers, scopes: set[str], roles: set[str], known: bool, expected: bool
) -> None:
    """All scopes of an alternative, and one of the roles."""
    assert callers.permit(frozenset(scopes), frozenset(roles), known=known) is expected


def test_nothing_is_a_document_too() -> None:
    """A gateway without anything to show."""
    text = b"".join(at_once(Merged({"title": "G", "version": "1"}, (), ()).text(None, "/gateway")))
    assert json.loads(text)["servers"] == [{"url": "/gateway"}]


def test_names_of_two_services_never_meet() -> None:
    """`C` of the service `a.b` and `b.C` of the service `a`, and operations whose names differ in the cut only."""
    parts = []
    for service, name, path in (("a.b", "C", "/1"), ("a", "b.C", "/2"), ("a", "b_C", "/3")):
        returns = returning({"$ref": f"#/components/schemas/{name}"})
        raw = written(
            {path: {"get": {"operationId": "x", "responses": returns}}},
            components={"schemas": {name: {"type": "object", "title": f"of {path}"}}},
        )
        parts.append((document(raw, service), replace(route(path, name=path), service=service)))
    first, second, third = ({*made.components} for made, _ in parts)
    assert first == {"schemas/a.b.C"}
    assert second == third == {"schemas/a.b_C"}
    assert len(merged(*parts[:2])["components"]["schemas"]) == len(
        {"a.b.C", "a.b_C", "propylon.Error", "Envelope"}
    )


def test_one_name_of_many_is_numbered() -> None:
    """Ten thousand operations of one name take no longer than others; each name is given once."""
    names = Unique()
    given = [names.free(one) for one in ("x", "x_2", "x", "x", "y", "x_2")]
    assert given == ["x", "x_2", "x_3", "x_4", "y", "x_2_2"]
    assert len({names.free("z") for _ in range(20_000)}) == 20_000


def test_what_is_hidden_is_known() -> None:
    """Two hosts, one path but for the names of its parameters: the first is shown, the other one is told of."""
    collected = Collected()
    for name in ("id", "number"):
        raw = written({f"/items/{{{name}}}": {"get": {"operationId": "x", "responses": GOOD}}})
        for found in published(document(raw), route("/", name=name)):
            assert isinstance(found, Published)
            collected.add(found)
    assert [one.id for one in collected.operations] == ["orders_x", "orders_x_2"]
    assert [(first.path, one.path) for first, one in collected.hidden] == [
        ("/items/{id}", "/items/{number}")
    ]


def test_a_large_document_comes_in_pieces() -> None:
    """Joined, they are the document."""
    raw = written(
        {f"/{at}": {"get": {"description": "x" * 9000, "responses": GOOD}} for at in range(40)}
    )
    shown = [one for one in published(document(raw), route("/")) if isinstance(one, Published)]
    collected = Collected()
    for one in shown:
        collected.add(one)
    whole = Merged({"title": "G", "version": "1"}, (), tuple(collected.operations))
    pieces = at_once(whole.text(None, ""))
    assert len(pieces) == 3
    assert len(json.loads(b"".join(pieces))["paths"]) == 40
