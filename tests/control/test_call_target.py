"""The path and parameters of an endpoint's call: what is sent, and what is refused."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from propylon.control.call_target import Params, target_of
from propylon.errors import InvalidRequest
from tests.support.examples import examples


@pytest.mark.parametrize(
    ("path", "params", "sent"),
    [
        ("/part", None, b"/part"),
        ("part", None, b"/part"),
        ("", None, b"/"),
        ("/a b/ö", None, b"/a%20b/%C3%B6"),
        ("/a%2Fb/%zz/100%", None, b"/a%2Fb/%25zz/100%25"),
        ("/x#y", None, b"/x%23y"),
        ("/x?a=1", None, b"/x?a=1"),
        ("/x?", None, b"/x?"),
        ("/x?a=1 2", {"b": "3&4"}, b"/x?a=1%202&b=3%264"),
        ("/x", {"a": [1, 2], "b": None, "c": True}, b"/x?a=1&a=2&b=&c=true"),
        ("/x", [("a", "1"), ("a", "2")], b"/x?a=1&a=2"),
        ("/x", {}, b"/x"),
        ("/a\r\nX-User-Id: root", None, None),
        ("/orders/../admin", None, None),
        ("/orders/%2e%2E/admin", None, None),
        ("/orders/..%2fadmin", None, None),
        ("/orders/..;a/admin", None, None),
        ("/orders/..\\admin", None, None),
        ("/orders/.", None, None),
        ("/orders/\x00", None, None),
        ("/orders/%00", None, None),
        ("/orders/...", None, b"/orders/..."),
    ],
)
def test_what_is_sent(path: str, params: Params | None, sent: bytes | None) -> None:
    """Characters that do not belong there are encoded; what could lead elsewhere is refused with 400."""
    if sent is None:
        with pytest.raises(InvalidRequest, match="dot segment"):
            target_of(path, params)
    else:
        assert b"".join(target_of(path, params)) == sent


@pytest.mark.parametrize("url", ["http://other/x", "https://other", "unix://x"])
def test_a_whole_url_is_a_mistake_of_the_endpoint(url: str) -> None:
    """Calls go to services of the configuration, and nowhere else."""
    with pytest.raises(ValueError, match="relative to the service's url"):
        target_of(url)


@pytest.mark.parametrize(
    ("path", "params"), [("/a\ud800", None), ("/a?b=\ud800", None), ("/a", {"b": "\ud800"})]
)
def test_what_is_no_unicode_is_refused(path: str, params: Params | None) -> None:
    """Half a surrogate pair, which a client's JSON may hold, is the client's mistake."""
    with pytest.raises(InvalidRequest, match="Unicode"):
        target_of(path, params)


@examples(100)
@example("/\r\n\r\nGET /smuggled HTTP/1.1", "\r\nX: y")
@given(st.text(), st.text())
def test_nothing_gets_out_of_the_request_line(path: str, value: str) -> None:
    """Whatever a client's value holds: what is sent is one target, without a blank or a line end."""
    try:
        target = b"".join(target_of("/a/" + path, {"q": value}))
    except InvalidRequest:
        return
    assert re.fullmatch(rb"/a/[!-~]*", target)
    assert b"#" not in target
