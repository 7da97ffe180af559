"""Two versions of a document are compared: what has changed, and what of it breaks clients."""

from typing import Any

import pytest

from propylon.documents.difference import Change, differences
from tests.documents.written import GOOD, document, returning, written

OAUTH = {"securitySchemes": {"oauth": {"type": "oauth2", "flows": {}}}}
ID = {"type": "object", "required": ["id"]}
TREE = {
    "type": "object",
    "required": ["id", "parts"],
    "properties": {"parts": {"type": "array", "items": {"type": "object", "required": ["price"]}}},
}


def posting(body: Any = None, **more: Any) -> dict[str, Any]:
    """An operation."""
    content = {"content": {"application/json": {"schema": body}}}
    return {"responses": GOOD, **({} if body is None else {"requestBody": content}), **more}


def query(*, required: bool) -> dict[str, Any]:
    """A parameter."""
    return {"name": "q", "in": "query", "required": required, "schema": {}}


def secured(*scopes: str) -> dict[str, Any]:
    """An operation for tokens with these scopes."""
    return {"responses": GOOD, "security": [{"oauth": [*scopes]}]}


CASES: dict[str, tuple[Any, Any, list[tuple[str, str]]]] = {
    "nothing": (posting(), posting(), []),
    "gone": (posting(), None, [("operation_removed", "")]),
    "new": (None, posting(), [("operation_added", "")]),
    "a parameter must be sent": (
        posting(parameters=[query(required=False)]),
        posting(parameters=[query(required=True)]),
        [("required_added", "query q")],
    ),
    "a parameter need not be sent": (
        posting(parameters=[query(required=True)]),
        posting(),
        [("required_removed", "query q")],
    ),
    "a field must be sent": (
        posting({"type": "object"}),
        posting(ID),
        [("required_added", "body id")],
    ),
    "a field is not returned": (
        {"responses": returning(TREE)},
        {"responses": returning(ID)},
        [("field_removed", "200 parts"), ("field_removed", "200 parts[].price")],
    ),
    "a status is gone": (
        {"responses": {**GOOD, "201": {"description": ""}}},
        {"responses": GOOD},
        [("field_removed", "201")],
    ),
    "more scopes": (secured("a"), secured("a", "b"), [("scopes_tightened", "a -> a b")]),
    "fewer scopes": (secured("a", "b"), secured("a"), [("scopes_widened", "a b -> a")]),
    "other scopes": (
        secured("a"),
        secured("b"),
        [("scopes_tightened", "a -> b"), ("scopes_widened", "a -> b")],
    ),
    "open": (secured("a"), posting(), [("scopes_widened", "a -> no token")]),
    "closed": (posting(), secured(), [("scopes_tightened", "no token -> any token")]),
}
HARMLESS = {"operation_added", "required_removed"}


@pytest.mark.parametrize("kind", CASES)
def test_what_has_changed(kind: str) -> None:
    """Each difference by its kind, and whether clients may fail by it."""
    before, after, expected = CASES[kind]

    def version(operation: Any) -> Any:
        item = {} if operation is None else {"post": operation}
        return document(written({"/a": item}, components=OAUTH))

    found = [one for one in differences(version(before), version(after)) if one is not None]
    assert [(one.kind, one.detail) for one in found] == expected
    assert all(one.breaking is (one.kind not in HARMLESS) for one in found)


def test_names_of_parameters_do_not_matter() -> None:
    """Clients cannot tell them apart."""
    old, new = (document(written({f"/a/{{{name}}}": {"get": posting()}})) for name in "xy")
    assert [one for one in differences(old, new) if one is not None] == []


def test_in_words() -> None:
    """As the log has it."""
    assert (
        str(Change("required_added", "POST", "/a", "body id")) == "POST /a: required added: body id"
    )
    assert str(Change("operation_removed", "GET", "/a")) == "GET /a: operation removed"
