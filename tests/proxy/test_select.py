"""The keys that requests are sent out by."""

import pytest

from propylon.compile.selection import compile_hash
from propylon.config.models.services import ServiceConfig
from propylon.proxy.principal import Principal
from propylon.proxy.select import ByKey
from propylon.wire.cookies import cookie
from tests.proxy.doubles import request

ANN = Principal("ann", issuer="here", claims={"org": {"id": 7}})
CLIENT = "192.0.2.1"


def key(of: str, target: bytes = b"/a", *lines: bytes, path: str = "/a/{id}/x/{name}") -> str:
    """The key of a request, as a service with that hash has it."""
    service = ServiceConfig.model_validate({"url": "http://a:1", "balance": {"hash": of}})
    selection = compile_hash(path, service)
    assert isinstance(selection, ByKey)
    return selection.read(request(target, *lines), ANN, CLIENT)


@pytest.mark.parametrize(
    ("of", "target", "lines", "expected"),
    [
        ("caller", b"/a", [], "ann\nhere"),
        ("ip", b"/a", [], CLIENT),
        ("header:X-Tenant", b"/a", [b"x-tenant: 7 "], "=7"),
        ("header:X-Tenant", b"/a", [], CLIENT),
        ("cookie:id", b"/a", [b"Cookie: sid=1; id=7 ; id=8"], "=7"),
        ("cookie:id", b"/a", [b"Cookie: a=1", b"cookie: id=7"], "=7"),
        ("cookie:id", b"/a", [b"Cookie: sid=1", b"X-Id: id=3"], CLIENT),
        ("cookie:id", b"/a", [b"Cookie: id="], CLIENT),
        ("query:id", b"/a?x=id=1&id=7&id=8", [], "=7"),
        ("query:id", b"/a?sid=7", [], CLIENT),
        ("query:a b", b"/a?a%20b=7", [], "=7"),
        ("path:id", b"/a/7/x/8/more", [], "=7"),
        ("path:name", b"/a/7/x/8/more", [], "=8"),
        ("path:name", b"/a/7/x/8", [], "=8"),
        ("path:id", b"/a//x/8", [], CLIENT),
        ("path:id", b"/a", [], CLIENT),
        ("path:other", b"/a/7/x/8", [], CLIENT),
        ("claim:org.id", b"/a", [], "=7"),
        ("claim:org.name", b"/a", [], CLIENT),
    ],
)
def test_key(of: str, target: bytes, lines: list[bytes], expected: str) -> None:
    """What is said of the request; the client's address where it is missing."""
    assert key(of, target, *lines) == expected


def test_a_long_value_is_a_short_key() -> None:
    """By its digest."""
    assert len(key("query:id", b"/a?id=" + b"7" * 4000)) == 49


def test_a_service_without_a_hash_selects_nothing() -> None:
    """And costs no request anything."""
    assert compile_hash("/a", ServiceConfig.model_validate({"url": "http://a:1"})) is None
    assert compile_hash("/a", None) is None


def test_cookie() -> None:
    """The first of the name, in whichever line."""
    block = b"\r\nHost: a\r\nCookie: a=1; b = 2=3\r\nX-C: c=5\r\nCOOKIE: c=4"
    found = [cookie(block, name) for name in (b"a", b"b", b"c", b"d", b"=")]
    assert found == [b"1", b"2=3", b"4", None, None]
