"""`respond` and `redirect`: answers without a service, and that no client decides where a redirect leads."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.compile.fixed import compile_fixed
from propylon.config.models.route import RouteConfig
from propylon.errors import GatewayError
from propylon.proxy.fixed import Redirected
from tests.compile.compiled import KEY, TOKEN, World
from tests.proxy.doubles import request
from tests.support.examples import examples


def redirected(path: str, to: str) -> Redirected:
    """The redirect of a route."""
    made = compile_fixed(RouteConfig.model_validate({"path": path, "redirect": {"to": to}}))
    assert isinstance(made, Redirected)
    return made


@pytest.mark.parametrize(
    ("path", "to", "sent", "query", "target"),
    [
        ("/old", "https://new.example", "/old/7", "?a=b", "https://new.example"),
        ("/old", "https://new.example/{rest}{query}", "/old/7/x", "?a=b", "https://new.example/7/x?a=b"),
        ("/old", "https://new.example/v2/{rest}", "/old", "", "https://new.example/v2/"),
        ("/o/{id}", "/n/{id}/{rest}", "/o/a%2Fb/c/", "", "/n/a%2Fb/c/"),
        ("/o/{id}", "/login?next={id}&x={rest}", "/o/a&b%20c/d/e", "", "/login?next=a%26b%20c&x=d%2Fe"),
        ("/", "/{rest}", "//evil.example/x", "", "/evil.example/x"),
        ("/old", "/{rest}", "/old//evil.example", "", "/evil.example"),
        ("/{a}", "/{a}", "/\\evil.example", "", "/%5Cevil.example"),
        ("/a", "/b#{rest}", "/a/x#y", "", "/b#x%23y"),
    ],
)  # fmt: skip
def test_where_it_leads(path: str, to: str, sent: str, query: str, target: str) -> None:
    """Names, the rest and the query stand where the operator put them, escaped for that place."""
    assert redirected(path, to).target(sent.encode(), query.encode()).decode() == target


_sent = st.lists(
    st.sampled_from(["a", "/", "//", "\\", "@", ":", "?", "#", "&", "=", "%2F", "%5C", "%0d%0a",
                     "evil.example", "https:", ".", ";", " ", "é", "\x7f"]), max_size=8
).map("".join)  # fmt: skip


@given(_sent, _sent, st.sampled_from(["https://new.example/{rest}", "/x/{id}/{rest}", "/{rest}{query}",
       "/{id}", "https://new.example/{id}?next={rest}", "/{rest}?next={id}"]))  # fmt: skip
@examples(300)
def test_no_client_chooses_host_or_scheme(path: str, query: str, to: str) -> None:
    """A browser that resolves it ends at the operator's host; no line ends, and no parameter is added."""
    sent = ("/o/" + path).encode()
    made = redirected("/o/{id}", to)
    target = made.target(sent, b"?" + query.encode() if query else b"").decode("ascii")
    assert not {*target} & {*'\r\n\t \\"<>'}
    assert all(" " < letter < "\x7f" for letter in target)
    base = "https://gateway.example/o/"
    ended = urlsplit(urljoin(base, target))
    host = "new.example" if to.startswith("https") else "gateway.example"
    assert (ended.scheme, ended.netloc) == ("https", host)
    assert not target.startswith(("//", "/\\"))
    if "?next=" in to:
        values = parse_qsl(ended.query, keep_blank_values=True, separator="&")
        assert [name for name, _ in values] == ["next"]


@pytest.mark.parametrize("to", [
    "new.example/a", "//new.example", "javascript:alert(1)", "https://{id}/a", "https://{id}.example/",
    "https://new.example{rest}", "ftp://a/b", "", "/a/{query}/b", "/a?x={query}", "/a/../b", "/a b", "/{nope}",
])  # fmt: skip
def test_targets_that_are_refused(to: str) -> None:
    """No scheme or host of the client's choice, and nothing that is no URL."""
    with pytest.raises(ValueError, match=r"to"):
        RouteConfig.model_validate({"path": "/a/{id}", "redirect": {"to": to}})


def world(**rules: Any) -> World:
    """One route without a service, behind a token."""
    return World({"routes": [{"path": "/a", **rules}], **KEY}, verified=True)


def test_the_other_stages_hold() -> None:
    """A token is asked for, limits count, headers of answers are set."""
    asked = world(
        respond={"status": 503, "headers": {"Retry-After": 120}, "body": "Zurück um 8"},
        headers={"response": {"set": {"X-More": "1"}}},
    )
    assert asked.handle("/a")[0] == 401
    status, block = asked.handle("/a/b", TOKEN, method="POST")
    assert status == 503
    for line in (b"Retry-After: 120", b"Content-Type: text/plain; charset=utf-8", b"X-More: 1",
                 b"Content-Length: 12", b"X-Error-Source: gateway"):  # fmt: skip
        assert b"\r\n" + line in block
    assert not asked.up.got


@pytest.mark.parametrize(
    ("status", "length"), [(200, True), (204, False), (205, True), (304, False)]
)
def test_lengths_of_fixed_answers(status: int, length: bool) -> None:
    """204 and 304 have no Content-Length (RFC 9110, 8.6)."""
    asked = world(auth="none", respond={"status": status})
    found, block = asked.handle("/a")
    assert found == status
    assert (b"\r\nContent-Length: 0" in block) is length


def test_a_handshake_gets_the_answer_as_any_request() -> None:
    """Nothing is tunnelled."""
    lines = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    assert world(auth="none", respond={"status": 503}).handle("/a", *lines)[0] == 503


def test_defaults_about_services_do_not_reach_such_routes() -> None:
    """They would be refused on the route itself."""
    asked = World({
        "defaults": {"auth": "none", "strip_prefix": True, "cache": {"ttl": "5s"}},
        "routes": [{"path": "/a", "redirect": {"to": "/b"}}, {"path": "/c", "service": "orders"}],
    })  # fmt: skip
    status, block = asked.handle("/a")
    assert status == 307
    assert b"\r\nLocation: /b" in block


def test_the_path_is_still_checked() -> None:
    """A dot segment is refused before a redirect is made of it."""
    asked = world(auth="none", redirect={"to": "/b/{rest}"})
    with pytest.raises(GatewayError):
        asked.table.match(request(b"/a/../x"))
    assert unquote("%2e") == "."
    assert asked.handle("/a/%2e%2e/x")[0] == 400
