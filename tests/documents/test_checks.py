"""The checks that are made of a document: what is compiled, what is too much, and what a service may not do to the loop."""

import json
from typing import Any

import pytest

from propylon.documents.checks import compile_checks
from propylon.documents.document import Document
from propylon.documents.in_force import InForce
from propylon.documents.weight import MOST, Weights
from propylon.errors import InvalidRequest
from propylon.loop.slices import at_once
from propylon.proxy.check.operation import OperationCheck
from propylon.proxy.rewrite import Rewrite
from tests.documents.written import GOOD, document, written

Json = dict[str, Any]


def ref(name: str) -> Json:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def thing(**properties: Any) -> Json:
    """A schema of an object."""
    return {"type": "object", "properties": properties}


def taking(schema: Json, **schemas: Any) -> Document:
    """A document with one operation, which takes a body."""
    media = {"application/json": {"schema": schema}}
    post = {"post": {"requestBody": {"content": media}, "responses": GOOD}}
    return document(written({"/x": post}, components={"schemas": schemas}))


def compiled(made: Document) -> tuple[OperationCheck | None, str]:
    """The check of the only operation, and what is noted."""
    checks, notes = at_once(compile_checks(made))
    (one,) = checks.values()
    return one, " ".join(notes)


def chain(length: int) -> Json:
    """Schemas that name the next one twice, each a level deeper: 2 to the power of `length` in all."""
    made = {
        f"A{at}": thing(c={"anyOf": [ref(f"A{at + 1}"), ref(f"A{at + 1}")]}) for at in range(length)
    }
    return {**made, f"A{length}": {"type": "object"}}


MULTIPLYING: dict[str, Json] = {
    "a circle without a step": {"A0": {"allOf": [ref("A0")]}},
    "two that contain one another": {
        "A0": thing(c={"anyOf": [ref("A0"), ref("B")]}),
        "B": thing(c={"anyOf": [ref("A0"), ref("B")]}),
    },
    "a chain": chain(12),
    "one after the other": {
        **{f"A{at}": {"allOf": [ref(f"A{at + 1}")]} for at in range(60)},
        "A60": {"type": "object"},
    },
    "many alternatives": {"A0": {"oneOf": [thing(n={"const": at}) for at in range(500)]}},
    "an enum without end": {"A0": {"enum": [*range(10_000)]}},
}


@pytest.mark.parametrize("name", MULTIPLYING)
def test_what_multiplies_is_not_checked(name: str) -> None:
    """It is noted, with the operation."""
    check, notes = compiled(taking(ref("A0"), **MULTIPLYING[name]))
    assert check is None
    assert notes.startswith("POST /x: its schemas are too large, or go round in circles")


REAL: dict[str, Json] = {
    "a tree": {"A0": thing(children={"type": "array", "items": ref("A0")})},
    "an optional": {"A0": thing(next={"anyOf": [ref("A0"), {"type": "null"}]})},
    "a union": {
        "A0": thing(of={"type": "array", "items": {"oneOf": [ref(f"B{at}") for at in range(20)]}}),
        **{f"B{at}": thing(kind={"const": str(at)}) for at in range(20)},
    },
    "all at once": {
        "A0": {
            "type": "object",
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": {"type": "array", "prefixItems": [ref("B")], "contains": {}},
            "dependentSchemas": {"a": {"required": ["b"]}},
            "not": {"required": ["c"]},
        },
        "B": {"enum": [1, 2]},
    },
}


@pytest.mark.parametrize("name", REAL)
def test_what_real_services_write_is_checked(name: str) -> None:
    """Also a model that contains itself."""
    check, notes = compiled(taking(ref("A0"), **REAL[name]))
    assert notes == ""
    assert check is not None
    assert check.largest == 64 * 1024
    assert check.body("application/json", b"[]") != ()
    assert check.body("application/json", b"{}") == ()


def test_weights_add_up() -> None:
    """Of schemas about one value; of different values the heaviest counts."""
    weights = Weights({"A": {"anyOf": [{}, {}]}, "B": thing(x=ref("A"), y={})})
    at_once(weights.settle())
    assert weights.of({}) == 1
    assert weights.of(ref("A")) == 4
    assert weights.of({"allOf": [ref("B"), ref("B")]}) == 8
    assert weights.of(ref("gone")) > MOST


def test_a_heavy_schema_takes_smaller_bodies() -> None:
    """The work for one body is bounded, and so is that for saying what is wrong with it."""
    check, _ = compiled(taking({"oneOf": [thing(n={"const": at}) for at in range(100)]}))
    assert check is not None
    assert check.largest < 64 * 1024
    body = json.dumps({"n": -1, "note": "x" * 500}).encode()
    assert [fault.place for fault in check.body("application/json", body)] == ["body"]


def test_more_schemas_than_can_be_compiled_at_once() -> None:
    """The operation that leads to them is not checked, and others are."""
    large = {
        f"A{at}": thing(**{f"p{n}": {"type": "string"} for n in range(100)}) for at in range(60)
    }
    get = {"parameters": [{"name": "n", "in": "query", "schema": {"type": "integer"}}]}
    media = {"application/json": {"schema": thing(**{name: ref(name) for name in large})}}
    raw = written(
        {
            "/x": {"post": {"requestBody": {"content": media}, "responses": GOOD}},
            "/y": {"get": {**get, "responses": GOOD}},
        },
        components={"schemas": large},
    )
    checks, notes = at_once(compile_checks(document(raw)))
    assert [one is not None for one in checks.values()] == [False, True]
    assert "leads to schemas of more than" in notes[0]


def test_few_notes_of_many() -> None:
    """An operator reads five, and how many more there are."""
    media = {"application/json": {"schema": ref("A")}}
    post = {"post": {"requestBody": {"content": media}, "responses": GOOD}}
    raw = written(
        {f"/{at}": post for at in range(9)}, components={"schemas": {"A": {"not": ref("A")}}}
    )
    _, notes = at_once(compile_checks(document(raw)))
    assert (len(notes), notes[-1]) == (6, "and 4 more")


@pytest.mark.parametrize(
    ("pattern", "checked"),
    [
        (r"^\p{L}{1,50}$", True),
        (r"^\w{1,4000}$", True),
        (r"\P{L}{200}", False),
        (r"^(\p{L}\p{N}){1,1000}$", False),
        (r"^((\p{L}{9}){9}){1,}$", False),
        (r"(a{1000}){1000}", False),
        (r"(?=a)b", False),
    ],
)
def test_patterns_that_take_long(pattern: str, checked: bool) -> None:
    """They would hold the loop while they are compiled, or while they are matched."""
    for made in (
        taking({"type": "string", "pattern": pattern}),
        taking(ref("A"), A={"type": "string", "pattern": pattern}),
    ):
        check, notes = compiled(made)
        assert ((check is not None), notes == "") == (checked, checked)


def test_a_body_by_reference_and_a_pattern_of_our_own() -> None:
    """`requestBodies` are followed; what the gateway adds to a path's parameter for readers is not asked for."""
    body = {"content": {"application/json": {"schema": thing(n={"type": "integer"})}}}
    put = {"requestBody": {"$ref": "#/components/requestBodies/B"}, "responses": GOOD}
    made = document(
        written({"/x/{name}.{kind}/{id}": {"put": put}}, components={"requestBodies": {"B": body}})
    )
    made.checks, _ = at_once(compile_checks(made))
    in_force = InForce({"orders": made})
    rewrite = Rewrite(1)
    found = in_force.checks("orders", rewrite, "PUT", b"/shop/x/a.b/%2Ehidden")
    assert found
    check, path = found[0]
    assert check is not None
    assert check.head(path) == []
    assert path["id"] in {".hidden", "%2Ehidden"}
    assert "name" not in path
    assert [fault.place for fault in check.body("application/json", b'{"n":"x"}')] == ["body.n"]


def test_until_it_was_compiled_nothing_is_known() -> None:
    """A document without checks is as none; a path without a safe reading is refused."""
    made = taking({})
    in_force = InForce({"orders": made})
    assert in_force.checks("orders", None, "POST", b"/x") is None
    assert in_force.checks("users", None, "POST", b"/x") is None
    made.checks, _ = at_once(compile_checks(made))
    assert in_force.checks("orders", None, "POST", b"/y") == ()
    with pytest.raises(InvalidRequest):
        in_force.checks("orders", None, "POST", b"/x%2F..%2Fy")
