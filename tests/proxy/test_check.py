"""Requests against a service's document: what is admitted, what is not and where, and documents that are made to break readers."""

from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI, Header, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from propylon.errors import InvalidRequest
from propylon.proxy.check.contract import Contract, Unusable
from propylon.proxy.check.operation import Fault, OperationCheck
from tests.support.examples import examples


class Line(BaseModel):
    """A line of an order."""

    sku: str = Field(pattern="^[A-Z]{3}-[0-9]+$")
    quantity: int = Field(ge=1)


class Order(BaseModel):
    """An order."""

    lines: list[Line]
    note: str | None = None


app = FastAPI()


@app.put("/orders/{number}")
def put(
    number: int,
    order: Order,
    x_shop: Annotated[str, Header(max_length=3)],
    tags: Annotated[list[int], Query()] = [],  # noqa: B006 — FastAPI copies it
    limit: int | None = None,
    *,
    fast: bool = False,
) -> None:
    """Everything at once."""


@app.post("/raw")
def raw(data: Annotated[bytes, Body(media_type="application/octet-stream")]) -> None:
    """A body that is no JSON."""


CONTRACT = Contract(app.openapi())


def made(path: str, method: str, contract: Contract = CONTRACT) -> OperationCheck:
    """The check of an operation that is there."""
    found = contract.operation(path, method)
    assert found is not None
    return found


PUT = made("/orders/{number}", "PUT")
GOOD = b'{"lines": [{"sku": "ABC-1", "quantity": 2}], "note": null}'


def test_operations() -> None:
    """Those of the document, and no other."""
    assert set(CONTRACT.operations()) == {("/orders/{number}", "PUT"), ("/raw", "POST")}
    assert CONTRACT.operation("/orders/{number}", "GET") is None
    assert CONTRACT.operation("/nothing", "GET") is None


@pytest.mark.parametrize(
    ("path", "query", "shop", "places"),
    [
        ("7", b"", "abc", []),
        ("-7", b"limit=5&tags=1&tags=2&fast=true&other=x", "7", []),
        ("7", b"fast=1", "", []),
        ("7", b"tags=1", "abc", []),
        ("seven", b"", "abc", ["path.number"]),
        ("7.5", b"", "abc", ["path.number"]),
        ("7", b"limit=x", "abc", ["query.limit"]),
        ("7", b"limit=1&limit=2", "abc", ["query.limit"]),
        ("7", b"tags=1&tags=x", "abc", ["query.tags"]),
        ("7", b"fast=perhaps", "abc", ["query.fast"]),
        ("7", b"", "abcd", ["header.x-shop"]),
        ("7", b"", None, ["header.x-shop"]),
        ("7" * 40, b"", "abc", ["path.number"]),
    ],
)
def test_heads(path: str, query: bytes, shop: str | None, places: list[str]) -> None:
    """Each parameter is read in every way that the document leaves open."""
    sent = {} if shop is None else {"x-shop": [shop]}
    faults = PUT.head({"number": path}, query, lambda name: sent.get(name, []))
    assert [fault.place for fault in faults] == places


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (GOOD, []),
        (b'{"lines": []}', []),
        (b"{}", ["body"]),
        (b"[]", ["body"]),
        (
            b'{"lines": [{"sku": "s3cret-value", "quantity": 0}]}',
            ["body.lines.0.quantity", "body.lines.0.sku"],
        ),
        (b"", ["body"]),
    ],
)
def test_bodies(body: bytes, places: list[str]) -> None:
    """The place of each fault, and never the value."""
    faults = PUT.body("application/json; charset=utf-8", body)
    assert sorted(fault.place for fault in faults) == places
    assert "s3cret" not in str(faults)


def test_bodies_that_are_no_json() -> None:
    """400; another type is a fault; a type that is no JSON passes as it is."""
    with pytest.raises(InvalidRequest):
        PUT.body("application/json", b"{")
    assert PUT.body("text/plain", b"x") == [
        Fault("header.content-type", "must be application/json")
    ]
    assert made("/raw", "POST").body("application/octet-stream", b"\x00") == ()


def test_many_faults_are_few() -> None:
    """A client learns enough from twenty."""
    line = '{"sku": 1, "quantity": 0}'
    body = f'{{"lines": [{",".join([line] * 200)}]}}'.encode()
    assert len(PUT.body("application/json", body)) == 20


def document(schema: Any, **parts: Any) -> dict[str, Any]:
    """A document with one operation, whose body has this schema."""
    media = {"application/json": {"schema": schema}}
    return {
        "openapi": "3.1.0",
        "paths": {"/a": {"post": {"requestBody": {"content": media}}}},
        "components": {"schemas": parts},
    }


def test_read_only_properties_may_be_missing() -> None:
    """`required` is about the answer there."""
    schema = {"type": "object", "required": ["id", "name"],
              "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string"}}}  # fmt: skip
    check = made("/a", "POST", Contract(document({"$ref": "#/components/schemas/A"}, A=schema)))
    assert check.body("application/json", b'{"name": "x"}') == ()
    assert check.body("application/json", b'{"id": 1}') != ()


def test_references_within_the_document() -> None:
    """Those that lead to others, and a tree that holds itself."""
    tree = {"type": "object", "properties": {"below": {"$ref": "#/components/schemas/Tree"}}}
    check = made("/a", "POST", Contract(document({"$ref": "#/components/schemas/Tree"}, Tree=tree)))
    assert check.body("application/json", b'{"below": {"below": {}}}') == ()
    assert check.body("application/json", b'{"below": {"below": 1}}') != ()


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://evil.test/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json#/a"},
        {"$ref": "#/components/schemas/Nothing"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": 7},
        {"type": "string", "minLength": "x"},
    ],
)
def test_schemas_that_cannot_be_checked(schema: Any) -> None:
    """Nothing outside of the document is read; the operator hears of it."""
    contract = Contract(document(schema))
    with pytest.raises(Unusable):
        contract.operation("/a", "POST")


def test_parameters_that_lead_round_in_a_circle() -> None:
    """They are found out."""
    parameters = {
        "A": {"$ref": "#/components/parameters/B"},
        "B": {"$ref": "#/components/parameters/A"},
    }
    text = {**document({}), "components": {"parameters": parameters}}
    text["paths"]["/a"]["post"]["parameters"] = [{"$ref": "#/components/parameters/A"}]
    with pytest.raises(Unusable, match="circle"):
        Contract(text).operation("/a", "POST")


def test_a_document_without_a_bottom() -> None:
    """It is refused before it is read to the end."""
    deep: Any = {}
    for _ in range(500):
        deep = {"not": deep}
    with pytest.raises(Unusable, match="deep"):
        Contract(document(deep))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)
ORDERS = st.builds(
    Order,
    lines=st.lists(
        st.builds(
            Line, sku=st.from_regex(r"[A-Z]{3}-[0-9]+", fullmatch=True), quantity=st.integers(1)
        ),
        max_size=3,
    ),
    note=st.none() | st.text(),
)


@examples(100)
@given(ORDERS, st.integers(-(10**18), 10**18), st.lists(st.integers(0, 99)), st.booleans())
def test_nothing_that_is_valid_is_refused(
    order: Order, number: int, tags: list[int], fast: bool
) -> None:
    """Whatever the service's own models admit and write."""
    query = "&".join([*(f"tags={tag}" for tag in tags), f"fast={str(fast).lower()}"]).encode()
    assert PUT.head({"number": str(number)}, query, lambda _: ["a"]) == []
    assert PUT.body("application/json", order.model_dump_json().encode()) == ()


@examples(200)
@given(st.text(), st.binary(max_size=40), st.binary(max_size=60), st.text(max_size=20))
def test_nothing_breaks_it(path: str, query: bytes, body: bytes, kind: str) -> None:
    """Whatever a client sends: faults, or 400."""
    PUT.head({"number": path}, query, lambda _: [kind])
    try:
        PUT.body("application/json", body)
    except InvalidRequest:
        return
