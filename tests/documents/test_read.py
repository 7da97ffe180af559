"""Documents are read: checked, lifted, renamed; what cannot be used is refused with a reason, or left out with a note."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from propylon.documents import child
from propylon.documents.document import BrokenDocument, Document
from propylon.documents.exposure import Exposure
from propylon.documents.parts import from_lines, to_lines
from propylon.documents.read import LARGEST, Source, read
from propylon.loop.slices import at_once
from tests.documents.written import GOOD, ITEM, document, merged, operation, returning, written
from tests.support.examples import examples

ROUTE = Exposure("orders", "orders", ("orders",), replaced=())


def nested(depth: int) -> Any:
    """A schema so deep."""
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


DEEP = b'{"openapi": "3.1.0", "paths": ' + b"[" * 100_000
REFUSED: dict[str, tuple[Any, str]] = {
    "too large": (b" " * (LARGEST + 1), "is larger than 5242880 bytes"),
    "version 2": ({"swagger": "2.0", "paths": {}}, "is of version 2.0; the gateway reads"),
    "no version": ({"paths": {}}, "names no version"),
    "version 4": ({"openapi": "4.0.0", "paths": {}}, "names the version 4.0.0"),
    "not JSON": (b"openapi: 3.1.0", "is not JSON"),
    "empty": (b"", "is not JSON"),
    "HTML": (b"<!DOCTYPE html><html></html>", "is HTML, not JSON"),
    "a list": (b"[]", "the document: must be an object"),
    "brackets without end": (DEEP, "is not JSON"),
    "deep schema": (
        written({"/a": {"get": {"responses": returning(nested(70))}}}),
        "nested more than 64 deep",
    ),
    "deep example": (
        written(components={"schemas": {"A": {"example": nested(80)}}}),
        "nested more than 64 deep",
    ),
    "no path item": (written({"/a": []}), "paths./a: must be an object"),
    "no operation": (written({"/a": {"get": 7}}), "paths./a.get: must be an object"),
    "odd type": (written(components={"schemas": {"A": {"type": "strng"}}}), "must be a type"),
    "odd required": (written(components={"schemas": {"A": {"required": True}}}), "a list of names"),
    "odd number": (written(components={"schemas": {"A": {"minimum": "1"}}}), "must be a number"),
    "odd text": (written(components={"schemas": {"A": {"title": 1}}}), "must be text"),
    "odd components": (written(components={"schemas": []}), "components.schemas: must be"),
    "odd place": (
        written({"/a": {"get": {"parameters": [{"name": "x", "in": "body"}]}}}),
        "must be path, query, header or cookie",
    ),
    "nameless": (written({"/a": {"get": {"parameters": [{"in": "query"}]}}}), "has no name"),
    "odd security": (written({"/a": {"get": {"security": [{"x": "y"}]}}}), "a list of scopes"),
    "circle of parameters": (
        written(
            {"/a": {"get": {"parameters": [{"$ref": "#/components/parameters/A"}]}}},
            components={
                "parameters": {
                    "A": {"$ref": "#/components/parameters/B"},
                    "B": {"$ref": "#/components/parameters/A"},
                }
            },
        ),
        "goes round in a circle",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_broken_is_refused(kind: str) -> None:
    """With words that say what is wrong, whether it is read here or in a process of its own."""
    raw, words = REFUSED[kind]
    body = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(BrokenDocument, match=words):
        document(body)
    with pytest.raises(BrokenDocument, match=words):
        at_once(from_lines(child.answer(Source("orders"), body)))


FOREIGN = [
    "other.json#/A",
    "file:///etc/passwd",
    "http://127.0.0.1:1/a.json",
    "//x/y",
    "#/nowhere",
    "#/paths/~1a",
]


@pytest.mark.parametrize("target", FOREIGN)
def test_foreign_references_are_not_followed(target: str) -> None:
    """They stand for anything, and a note says so; nothing is opened or asked."""
    refers = {"$ref": target}
    raw = written(
        {
            "/a": {
                "$ref": target,
                "get": {"responses": GOOD},
            },
            "/b/{id}": {
                "parameters": [refers],
                "post": {
                    "requestBody": {"content": {"application/json": {"schema": refers}}},
                    "responses": {"200": refers, **returning(refers)},
                },
            },
        }
    )
    read_one = document(raw)
    assert any(target in note for note in read_one.notes)
    text = json.dumps(merged((read_one, ROUTE)))
    assert target not in text


def test_circles_of_schemas_cost_nothing() -> None:
    """A schema may refer to itself, as a tree does."""
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/components/schemas/Node"}},
        "required": ["next"],
    }
    raw = written(
        {"/a": {"get": {"responses": returning({"$ref": "#/components/schemas/Node"})}}},
        components={"schemas": {"Node": node}},
    )
    found = merged((document(raw), ROUTE))["components"]["schemas"]["orders.Node"]
    assert found["properties"]["next"] == {"$ref": "#/components/schemas/orders.Node"}


@pytest.mark.parametrize(
    "name", ["__proto__", "constructor", "<script>alert(1)</script>", "a b", "ä/~"]
)
def test_odd_names_stay_apart(name: str) -> None:
    """Names of components become valid ones, and those of properties and tags stay data."""
    pointer = name.replace("~", "~0").replace("/", "~1")
    raw = written(
        {
            f"/x/{{{'id'}}}": {
                "get": {
                    "operationId": name,
                    "summary": name,
                    "tags": [name],
                    "responses": returning({"$ref": f"#/components/schemas/{pointer}"}),
                }
            }
        },
        components={"schemas": {name: {"type": "object", "properties": {name: ITEM}}, "a_b": ITEM}},
    )
    found = merged((document(raw), ROUTE))
    (shown,) = (one for one in found["components"]["schemas"] if one.startswith("orders."))
    assert name in found["components"]["schemas"][shown]["properties"]
    assert found["paths"]["/orders/x/{id}"]["get"]["tags"] == ["orders"]


def test_names_of_two_services_stay_apart() -> None:
    """Both have an `Item`, and both an operation `read`."""

    def raw(field: str) -> dict[str, Any]:
        schema = {"title": "Item", "type": "object", "properties": {field: {"type": "string"}}}
        answers = returning({"$ref": "#/components/schemas/Item"})
        return written(
            {"/item": {"get": {"operationId": "read", "responses": answers}}},
            components={"schemas": {"Item": schema}},
        )

    found = merged(
        (document(raw("one"), "orders"), Exposure("o", "orders", ("orders",), replaced=())),
        (document(raw("two"), "users"), Exposure("u", "users", ("users",), replaced=())),
    )
    assert [*found["components"]["schemas"]["orders.Item"]["properties"]] == ["one"]
    assert [*found["components"]["schemas"]["users.Item"]["properties"]] == ["two"]
    titles = {one.get("title") for one in found["components"]["schemas"].values()}
    assert titles >= {"orders.Item", "users.Item"}
    assert "Item" not in titles
    ids = {item["get"]["operationId"] for item in found["paths"].values()}
    assert ids == {"orders_read", "users_read"}


LIFTED: list[tuple[Any, Any]] = [
    ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
    ({"type": "string", "nullable": False}, {"type": "string"}),
    (
        {"type": "string", "enum": ["a"], "nullable": True},
        {"type": ["string", "null"], "enum": ["a", None]},
    ),
    (
        {"allOf": [{"type": "string"}], "nullable": True},
        {"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]},
    ),
    ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
    ({"maximum": 1, "exclusiveMaximum": False}, {"maximum": 1}),
]


@pytest.mark.parametrize(("old", "new"), LIFTED)
def test_version_3_0_is_lifted(old: Any, new: Any) -> None:
    """What JSON Schema says otherwise since then."""
    raw = written(version="3.0.3", components={"schemas": {"A": old}})
    assert json.loads(document(raw).components["schemas/orders.A"]) == new


def test_beside_a_reference() -> None:
    """In 3.0 it counted for nothing; in 3.1 it does."""
    schemas = {"A": {"$ref": "#/components/schemas/B", "description": "x"}, "B": {}}
    for version, shown in (("3.0.0", {}), ("3.1.0", {"description": "x"})):
        raw = written(version=version, components={"schemas": schemas})
        found = json.loads(document(raw).components["schemas/orders.A"])
        assert found == {"$ref": "#/components/schemas/orders.B", **shown}


# Where the paths begin

BASES: dict[str, tuple[list[str], str, str, str, list[str]]] = {
    # servers, path of the document, base of the URL, path, what the service gets behind the base
    "nothing said": ([], "/openapi.json", "", "/a", ["/a"]),
    "a root path of FastAPI": (["/public"], "/openapi.json", "", "/a", ["/a"]),
    "an address of its own": (["https://x.test/v1"], "/openapi.json", "", "/a", ["/a"]),
    "a context path of Spring": (["http://h:1/ctx"], "/ctx/api-docs", "", "/a", ["/ctx/a"]),
    "a base, paths below it": ([], "/openapi.json", "/base", "/base/a", ["/a"]),
    "a base, paths without it": ([], "/openapi.json", "/base", "/a", ["/a"]),
    "a base that servers say": (["/base"], "/openapi.json", "/base", "/a", ["/a"]),
}


@pytest.mark.parametrize("kind", BASES)
def test_where_paths_begin(kind: str) -> None:
    """With the path of `servers`, with the base path of the URL, or without."""
    servers, path, base, one, expected = BASES[kind]
    raw = written({one: {"get": {"responses": GOOD}}}, servers=[{"url": url} for url in servers])
    found = document(raw, path=path, base=base)
    assert [operation.path for operation in found.operations] == expected


# What it says of a request

SCHEMES = {
    "oauth": {"type": "oauth2", "flows": {}},
    "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "web": {"type": "http", "scheme": "Bearer"},
    "reference": {"$ref": "#/components/securitySchemes/oauth"},
    "keys": {"$ref": "#/components/securitySchemes/key"},
    "circle": {"$ref": "#/components/securitySchemes/circle"},
    "odd": {"type": "OAuth2"},
}
SECURITY: list[tuple[Any, list[set[str]], bool]] = [
    (None, [], True),
    ([], [], True),
    ([{"oauth": ["a", "b"]}], [{"a", "b"}], False),
    ([{"oauth": ["a"]}, {"web": []}], [{"a"}, set()], False),
    ([{"oauth": ["a"], "web": ["b"]}], [{"a", "b"}], False),
    ([{"oauth": ["a"]}, {}], [{"a"}], True),
    ([{"key": []}], [], True),  # the service checks it
    ([{"oauth": ["a"]}, {"key": []}], [{"a"}], False),
    ([{"oauth": ["a"], "key": []}], [{"a"}], False),
    ([{"oauth": ["a"], "key": []}, {"web": []}], [set()], False),
    # A mistake in a document opens nothing.
    ([{"reference": ["a"]}], [{"a"}], False),
    ([{"keys": []}], [], True),
    ([{"misspelt": ["a"]}], [{"a"}], False),
    ([{"odd": ["a"]}], [{"a"}], False),
    ([{"circle": ["a"]}], [{"a"}], False),
]


@pytest.mark.parametrize(("security", "alternatives", "optional"), SECURITY)
def test_scopes_come_from_security(
    security: Any, alternatives: list[set[str]], optional: bool
) -> None:
    """All scopes of one alternative; what is no token is the service's to check."""
    said = {"responses": GOOD} if security is None else {"responses": GOOD, "security": security}
    raw = written({"/a": {"get": said}}, components={"securitySchemes": SCHEMES})
    found = operation(raw).security
    assert ([set(one) for one in found.alternatives], found.optional) == (alternatives, optional)


def paths_of(found: Document, method: str, path: str) -> list[str]:
    """The paths of the operations that a request may reach."""
    return [one.path for one in found.find(method, path)]


def test_which_operations_a_request_may_reach() -> None:
    """Literals first; both where they overlap; HEAD is answered by GET."""
    one = {"get": {"responses": GOOD}, "delete": {"responses": GOOD}}
    found = document(
        written({"/users/{id}": one, "/users/me": {"get": {"responses": GOOD}}, "/": one})
    )
    assert paths_of(found, "GET", "/users/me") == ["/users/me", "/users/{id}"]
    assert paths_of(found, "HEAD", "/users/7") == ["/users/{id}"]
    assert paths_of(found, "DELETE", "/users/me") == ["/users/{id}"]
    assert paths_of(found, "GET", "/") == ["/"]
    for path in ("/users", "/users/7/8", "/users/", "/users//me"):
        assert paths_of(found, "GET", path) == []


def test_no_spelling_goes_round_the_scopes_of_an_operation() -> None:
    """Upstreams without regard to case reach the literal, and a segment may have more in it than its parameter."""
    one = {"get": {"responses": GOOD}}
    paths = ("/jobs/{id}", "/jobs/{id}:stop", "/jobs/exportAll", "/jobs/v{major}.{minor}-x")
    found = document(written(dict.fromkeys(paths, one)))
    assert found.notes == ()
    for path in ("/jobs/exportAll", "/jobs/EXPORTALL", "/JOBS/exportall"):
        assert paths_of(found, "GET", path) == ["/jobs/exportAll", "/jobs/{id}"]
    assert paths_of(found, "GET", "/jobs/7:Stop") == ["/jobs/{id}:stop", "/jobs/{id}"]
    assert paths_of(found, "GET", "/jobs/v1.2.3-x")[0] == "/jobs/v{major}.{minor}-x"
    for path in ("/jobs/7", "/jobs/:stop", "/jobs/v.2-x", "/jobs/v1.-x", "/jobs/v1-x"):
        assert paths_of(found, "GET", path) == ["/jobs/{id}"]


def test_lines_hold_all_of_a_document() -> None:
    """A document that was read in a process of its own is the same."""
    app = FastAPI()

    @app.get("/items/{item_id}", summary="Read")
    async def item(item_id: int, q: str | None = None) -> dict[str, int]:
        """Return it."""
        return {}

    body = json.dumps(app.openapi()).encode()
    here = document(body)
    there = at_once(from_lines(child.answer(Source("orders"), body)))
    assert [*to_lines(there)] == [*to_lines(here)]
    assert there.operations == here.operations
    assert paths_of(there, "GET", "/items/7") == ["/items/{item_id}"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["$ref", "type", "properties", "items", "schema", "content", "in", "name", "get", "x"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


@examples(150)
@given(JSON, JSON, JSON)
def test_any_json_is_read_or_refused(paths: Any, schema: Any, operation: Any) -> None:
    """Nothing else comes of it, and what was read is valid in the merged document."""
    raw = written(
        {"/a/{id}": {"get": operation, "put": {"responses": returning(schema)}}, "/b": paths},
        components={"schemas": {"A": schema}},
    )
    try:
        found = document(raw)
    except BrokenDocument:
        return
    merged((found, ROUTE))


def test_reading_gives_way() -> None:
    """Between two operations and two components, so that the loop is never held for long."""
    raw = written(
        {f"/a{n}": {"get": {"responses": GOOD}} for n in range(50)},
        components={"schemas": {f"S{n}": {} for n in range(50)}},
    )
    assert sum(1 for _ in read(Source("orders"), json.dumps(raw).encode())) >= 100


def test_a_path_that_names_a_parameter_twice_is_left_out() -> None:
    """It could not be shown: a parameter stands in one place."""
    made = document(written({"/a/{x}/{x}": {"get": {"responses": GOOD}}}))
    assert made.operations == []
    assert made.notes == ("paths./a/{x}/{x}: names a parameter twice",)


def test_what_is_too_large_for_one_piece_is_left_out() -> None:
    """An operation is not shown; a schema allows anything, so that what refers to it stays right."""
    large = {"enum": [*range(100_000)]}
    made = document(
        written(
            {
                "/large": {
                    "post": {
                        "requestBody": {"content": {"application/json": {"schema": large}}},
                        "responses": GOOD,
                    }
                },
                "/named": {
                    "post": {
                        "requestBody": {
                            "content": {
                                "application/json": {
                                    "schema": {"$ref": "#/components/schemas/Large"}
                                }
                            }
                        },
                        "responses": GOOD,
                    }
                },
            },
            components={"schemas": {"Large": large}},
        )
    )
    assert [one.path for one in made.operations] == ["/named"]
    assert made.components["schemas/orders.Large"] == "{}"
    assert [note.partition(":")[0] for note in made.notes] == [
        "components.schemas.Large",
        "paths./large.post",
    ]
