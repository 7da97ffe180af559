"""The checks of answers: what fits, what is drift, and what is never said or unpacked."""

import gzip
import json
from typing import Any

import pytest

from propylon.documents.checks import compile_answers
from propylon.documents.document import Document
from propylon.loop.slices import at_once
from propylon.proxy.check import DRIFT, FITS, UNCHECKED, UNDOCUMENTED
from propylon.proxy.check.answer import AnswerCheck, Received, Verdict
from propylon.proxy.check.operation import LARGEST_BODY
from tests.documents.written import document, written

Json = dict[str, Any]
JSON = "application/json"
USER: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "password": {"type": "string", "writeOnly": True},
        "tags": {"type": "object", "additionalProperties": {"type": "integer"}},
        "friends": {"type": "array", "items": {"$ref": "#/components/schemas/User"}},
    },
    "required": ["name", "password"],
    "additionalProperties": False,
}


def answering(answers: Json, **components: Any) -> Document:
    """A document with one operation, which answers so."""
    return document(written({"/x": {"get": {"responses": answers}}}, components=components))


def compiled(made: Document) -> AnswerCheck:
    """The check of the only operation."""
    check = at_once(compile_answers(made, made.operations[0]))
    assert check is not None
    return check


def media(schema: Json, kind: str = JSON) -> Json:
    """An answer of a type."""
    return {"description": "it", "content": {kind: {"schema": schema}}}


CHECK = compiled(
    answering(
        {
            "200": media({"$ref": "#/components/schemas/User"}),
            "201": {"$ref": "#/components/responses/Made"},
            "204": {"description": "nothing"},
            "4XX": media({"type": "object", "required": ["detail"]}),
            "503": {"description": "text", "content": {"text/plain": {"schema": {}}}},
        },
        schemas={"User": USER},
        responses={"Made": media({"type": "integer"})},
    )
)


def judged(body: Any, status: int = 200, kind: str = JSON, coding: str = "") -> Verdict:
    """What is said of an answer."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CHECK.judge(Received(status, kind, coding, body))


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, JSON, {"name": "ann", "friends": [{"name": "bob"}]}),
        (200, "application/json; charset=utf-8", {"name": "ann"}),
        (200, JSON, b""),
        (201, JSON, 7),
        (204, "", b""),
        (404, JSON, {"detail": "no"}),
    ],
)
def test_what_fits(status: int, kind: str, body: Any) -> None:
    """A status, one of a range, answers by reference; what is write-only need not be there."""
    assert judged(body, status, kind) == (FITS, ())


@pytest.mark.parametrize(
    ("status", "kind", "body", "places"),
    [
        (200, JSON, {"name": 1}, ["body.name"]),
        (200, JSON, {}, ["body.name"]),
        (200, JSON, {"name": "ann", "friends": [{}, {"name": 2}]}, None),
        (200, JSON, b"{", ["body"]),
        (200, "text/html", b"<p>", ["header.content-type"]),
        (200, "application/json, text/html", b"{}", ["header.content-type"]),
        (201, JSON, "7", ["body"]),
        (206, JSON, b"{}", ["status"]),
        (422, JSON, {}, ["body.detail"]),
    ],
)
def test_what_does_not_fit(status: int, kind: str, body: Any, places: list[str] | None) -> None:
    """The place is named."""
    result, faults = judged(body, status, kind)
    assert result == DRIFT
    found = [fault.place for fault in faults]
    assert found == (places or ["body.friends.*.name", "body.friends.*.name"])


def test_nothing_of_the_answer_is_said() -> None:
    """Neither a value, nor a name that the document leaves open, nor one that it does not have."""
    said = repr(judged({"name": "ann", "tags": {"bob@example.com": "hunter2"}, "ssn": 5}))
    assert "body.tags.*" in said
    assert "additionalProperties" in said
    assert not any(one in said for one in ("bob", "hunter2", "ssn"))


def test_what_is_not_looked_at() -> None:
    """An error that the document does not have, another type, a body that was not kept or is too large, another coding."""
    assert judged({}, 500) == (UNDOCUMENTED, ())
    assert judged(b"down", 503, "text/plain") == (UNCHECKED, ())
    assert CHECK.judge(Received(200, JSON, "", None)) == (UNCHECKED, ())
    assert judged(b" " * LARGEST_BODY + b"{}") == (UNCHECKED, ())
    assert judged(b"\x1b", coding="br") == (UNCHECKED, ())


def test_gzip_is_unpacked_up_to_the_same_bound() -> None:
    """A bomb, what is cut off and what is no gzip are not looked at."""
    packed = gzip.compress(b'{"name":1}')
    assert [fault.place for fault in judged(packed, coding="gzip").faults] == ["body.name"]
    assert judged(gzip.compress(b'{"name":"ann"}'), coding="gzip") == (FITS, ())
    bomb = gzip.compress(b'{"name":"' + b"a" * 10_000_000 + b'"}')
    assert len(bomb) < LARGEST_BODY
    for body in (bomb, packed[:-3], b"{}"):
        assert judged(body, coding="gzip") == (UNCHECKED, ())


def test_a_large_answer_is_only_said_not_to_fit() -> None:
    """To find the places in it would take too long."""
    large = {"name": 1, "friends": [{"name": "ann"}] * 3000}
    assert judged(large) == (DRIFT, (("body", "is not what the document says"),))


def test_what_cannot_be_checked() -> None:
    """Schemas that multiply, and more of them than are compiled in one go."""
    twice = {"anyOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}]}
    inside = {"type": "object", "properties": {"c": twice}}
    large = {"enum": [*range(40_000)]}
    for name in ("A", "Large"):
        made = answering(
            {"200": media({"$ref": f"#/components/schemas/{name}"})},
            schemas={"A": inside, "B": inside, "Large": large},
        )
        assert at_once(compile_answers(made, made.operations[0])) is None
    made = answering({"200": media({"pattern": "(?=a)b"})})
    assert at_once(compile_answers(made, made.operations[0])) is None
