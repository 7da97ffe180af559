"""Rules for headers and cookies do what they say, also to headers of the gateway's own and to 1xx answers."""

from collections.abc import Iterator

import pytest

from tests.conftest import Start
from tests.support.answers import plain, raw
from tests.support.client import ask
from tests.support.excused import excused
from tests.support.gateway import Config
from tests.support.upstream import Upstream

OWN = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Request-ID", "traceparent", "X-User-Id", "DNT")


@pytest.fixture
def service() -> Iterator[Upstream]:
    """What stands behind the gateway."""
    with Upstream() as upstream:
        yield upstream
        assert upstream.faults == []


def ruled(service: Upstream, **headers: Config) -> Config:
    """Everything to that upstream, under these rules."""
    return {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "services": {"app": {"url": f"http://127.0.0.1:{service.port}"}},
        "routes": [{"path": "/x", "service": "app", "auth": "none", "headers": headers}],
    }


def test_a_request_loses_what_the_gateway_adds(start: Start, service: Upstream) -> None:
    """`remove: [X-Forwarded-For]` removes the header that the gateway itself writes, and no other."""
    gateway = start(ruled(service, request={"remove": [*OWN, "X-Real-IP"]}))
    ask(gateway.port, target="/x", headers=[("DNT", "1"), ("X-Real-IP", "10.0.0.1"), ("A", "b")])
    names = service.last.names
    assert not names & {name.lower() for name in (*OWN, "X-Real-IP")}
    assert names >= {"host", "x-forwarded-host", "a"}


def test_what_is_removed_and_set_is_set(start: Start, service: Upstream) -> None:
    """A name in both lists has the operator's value alone."""
    rules = {"set": {"X-Forwarded-For": "gw", "Host": "inner:81"}, "remove": ["X-Forwarded-For"]}
    gateway = start(ruled(service, request=rules))
    ask(gateway.port, target="/x")
    assert service.last.all("x-forwarded-for") == [b"gw"]
    assert service.last.all("host") == [b"inner:81"]


def test_an_answer_loses_what_the_gateway_adds(start: Start, service: Upstream) -> None:
    """The gateway's own headers of an answer can be removed as well."""
    service.on("/x", plain("404 Not Found", ["X-Error-Source: theirs", "A: b"]))
    gateway = start(ruled(service, response={"remove": ["X-Request-ID", "x-error-source"]}))
    answer = ask(gateway.port, target="/x")
    assert (answer.all("x-request-id"), answer.all("x-error-source")) == ([], [])
    assert answer.all("a") == [b"b"]


def test_a_removed_header_is_in_no_interim_answer(start: Start, service: Upstream) -> None:
    """`response.remove` covers 103 and every other 1xx answer."""
    hints = b"HTTP/1.1 103 Early Hints\r\nX-Secret: s\r\nLink: </a>\r\n\r\n"
    service.on(
        "/x", raw(hints + hints + b"HTTP/1.1 200 OK\r\nX-Secret: s\r\nContent-Length: 0\r\n\r\n")
    )
    gateway = start(ruled(service, response={"remove": ["X-Secret"]}))
    answer = ask(gateway.port, target="/x")
    assert b"X-Secret" not in answer.head
    if not excused(gateway.edge, "interim"):
        assert [one.all("link") for one in answer.interim] == [[b"</a>"]] * 2
        assert all(b"X-Secret" not in one.head for one in answer.interim)


def test_one_cookie_is_removed_by_name(start: Start, service: Upstream) -> None:
    """Others of the same line stay as they were, and so do cookies with a similar name."""
    service.on("/x", plain(headers=["Set-Cookie: session=new; Path=/", "Set-Cookie: theme=dark"]))
    rules = {"remove_cookies": ["session"]}
    gateway = start(ruled(service, request=rules, response=rules))
    sent = 'a=1; session=secret; Session=2; xsession=3; b="4"'
    answer = ask(gateway.port, target="/x", headers=[("Cookie", sent), ("Cookie", "session=x")])
    assert service.last.all("cookie") == [b'a=1; Session=2; xsession=3; b="4"']
    assert answer.all("set-cookie") == [b"theme=dark"]
