"""Who is asking, and how the upstream is told."""

import pickle
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authorize import permitted
from propylon.proxy.principal import ANONYMOUS, Principal, identify, is_line, is_listable, is_scope
from tests.proxy.doubles import origin, request


def block(**fields: object) -> bytes:
    """The identity headers of somebody."""
    return identify(Principal(**fields)).block  # type: ignore[arg-type]


def test_headers() -> None:
    """Each thing that is known of somebody has its header; what is many is sorted and comma-joined."""
    assert block(
        subject="42",
        email="ann@example.com",
        roles=frozenset({"clerk", "admin"}),
        scopes=frozenset({"write", "read"}),
    ) == (
        b"\r\nX-User-Id: 42"
        b"\r\nX-User-Email: ann@example.com"
        b"\r\nX-User-Roles: admin,clerk"
        b"\r\nX-User-Scopes: read,write"
    )


def test_what_is_not_known_has_no_header() -> None:
    """A header without a value is left out; nobody has none at all."""
    assert block(subject="42") == b"\r\nX-User-Id: 42"
    assert (
        block(subject="42", scopes=frozenset({"read"}))
        == b"\r\nX-User-Id: 42\r\nX-User-Scopes: read"
    )
    assert identify(ANONYMOUS).block == b""


def test_headers_are_utf8() -> None:
    """Names from everywhere are sent as UTF-8."""
    assert block(subject="Zoë Ångström") == "\r\nX-User-Id: Zoë Ångström".encode()


def test_nothing_else_changes() -> None:
    """Rendering replaces the headers and nothing else, and leaves the principal as it was."""
    somebody = Principal("42", "a@b", frozenset({"s"}), frozenset({"r"}), {"sub": "42"}, b"old")
    rendered = identify(somebody)
    assert (rendered.subject, rendered.email, rendered.claims) == ("42", "a@b", {"sub": "42"})
    assert (rendered.scopes, rendered.roles) == ({"s"}, {"r"})
    assert rendered.block.startswith(b"\r\nX-User-Id")
    assert somebody.block == b"old"


BROKEN = [
    "a\r\nX-User-Roles: admin",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\x1bb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "a\u2029b",
    "\ud800",
    " a",
    "a ",
    "a\t",
    "\u00a0a",
    " ",
]


@pytest.mark.parametrize("value", BROKEN, ids=ascii)
def test_values_that_would_become_something_else(value: str) -> None:
    """A value that would end its line, or be trimmed on the way, raises, whoever made the principal."""
    assert not is_line(value)
    assert not is_listable(value)
    for fields in (
        {"subject": value},
        {"subject": "a", "email": value},
        {"subject": "a", "roles": frozenset({value})},
        {"subject": "a", "scopes": frozenset({"read", value})},
    ):
        with pytest.raises(ValueError, match="control characters, or with space|a role or scope"):
            block(**fields)


def test_lists_are_told_apart() -> None:
    """A role or scope with a comma would be two at the upstream, and an empty one none: both raise."""
    for value in ("clerk,admin", ",", "admin,", ""):
        assert not is_listable(value)
        for name in ("roles", "scopes"):
            with pytest.raises(ValueError, match="a role or scope"):
                block(subject="a", **{name: frozenset({value})})
    assert block(subject="Doe, Jane") == b"\r\nX-User-Id: Doe, Jane"


@given(st.text(), st.text(), st.frozensets(st.text()), st.frozensets(st.text()))
def test_any_principal(
    subject: str, email: str, roles: frozenset[str], scopes: frozenset[str]
) -> None:
    """Whoever it is, the headers say what the principal holds, each once, or it raises ValueError."""
    try:
        made = block(subject=subject, email=email, roles=roles, scopes=scopes)
    except ValueError:
        assert not all(
            [
                *(is_line(value) for value in (subject, email) if value),
                *map(is_listable, roles),
                *map(is_scope, scopes),
            ]
        )
        return
    lines = made.decode().splitlines()[1:]
    told = dict(line.split(": ", 1) for line in lines)
    assert len(told) == len(lines)
    assert told.get("X-User-Id", "") == subject
    assert told.get("X-User-Email", "") == email
    assert frozenset(filter(None, told.get("X-User-Roles", "").split(","))) == roles
    assert frozenset(filter(None, told.get("X-User-Scopes", "").split(","))) == scopes


def test_name_in_logs() -> None:
    """Somebody is named by their subject in a log, and nobody is anonymous."""
    assert str(Principal("42")) == "42"
    assert Principal("42").known
    assert str(ANONYMOUS) == "anonymous"
    assert not ANONYMOUS.known


@pytest.mark.parametrize(
    "given",
    [
        ["read", "list"],
        ("list", "read"),
        {"read", "list"},
        {"read": 1, "list": 2},
        iter(["list", "read"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_any_collection_of_names(given: Iterable[str]) -> None:
    """Scopes and roles are sets however they are given: rules compare them as such."""
    names = frozenset(given)
    assert Principal("42", scopes=names).scopes is names
    for somebody in (
        Principal("42", scopes=list(names)),
        identify(Principal("42", "", tuple(names))),
    ):
        assert (somebody.scopes, type(somebody.scopes)) == (names, frozenset)
        assert permitted(["read"], [])(somebody, request(), origin()) is None
    assert Principal("42", roles=["clerk"]).roles == {"clerk"}
    assert replace(Principal("42", roles=["clerk"]), subject="43").roles == {"clerk"}


@pytest.mark.parametrize("name", ["scopes", "roles"])
@pytest.mark.parametrize("given", ["read", "", b"read", [1], ["read", None], None, 7])
def test_what_is_no_collection_of_names(name: str, given: Any) -> None:
    """A text would be as many scopes as it has letters; it and all else is refused where it is written."""
    with pytest.raises(TypeError, match=f"{name} must be a collection of str|not iterable"):
        Principal("42", **{name: given})


def test_it_can_be_copied() -> None:
    """A team may return one from an endpoint, or keep it elsewhere."""
    somebody = Principal("42", scopes=["read"])
    for copied in (pickle.loads(pickle.dumps(somebody)), Principal(**asdict(somebody))):
        assert copied == somebody
    assert somebody.claims == {}


def test_a_text_is_told_apart() -> None:
    """Whoever forgets the brackets reads what to write."""
    text: Any = "read"
    with pytest.raises(TypeError) as caught:
        Principal("42", scopes=text)
    assert str(caught.value) == (
        'scopes must be a collection of str, such as scopes=["read"], and not one str'
    )
