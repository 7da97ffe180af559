"""The offer of a WebSocket is read strictly, and so is the upstream's answer (RFC 6455, 4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import BadResponse, GatewayError, InvalidRequest, UpgradeRequired
from propylon.wire.handshake import is_handshake, offered, read_handshake, read_upgrade
from propylon.wire.message import Request
from propylon.wire.offer import accepted
from propylon.wire.request import parse_request
from tests.support.client import Headers, request
from tests.support.examples import examples
from tests.support.sockets import KEY, handshake

ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def read(*headers: tuple[str, str], without: tuple[str, ...] = ()) -> Request:
    """A handshake with these headers."""
    return parse_request(handshake("/a", headers, without=without))


def test_accept_is_that_of_the_rfc() -> None:
    """The example of section 1.3."""
    assert accepted(KEY.encode()) == ACCEPT.encode()


def test_a_handshake() -> None:
    """Subprotocols are kept in order, of extensions only the names."""
    offer = read_handshake(
        read(
            ("Sec-WebSocket-Protocol", "chat, V2"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits, x-other"),
        )
    )
    assert offer.protocols == (b"chat", b"V2")
    assert offer.extensions == {b"permessage-deflate", b"x-other"}
    assert offer.accept == ACCEPT.encode()


@pytest.mark.parametrize(
    ("headers", "without"),
    [
        ([], ("Sec-WebSocket-Key",)),
        ([("Sec-WebSocket-Key", "c2hvcnQ=")], ("Sec-WebSocket-Key",)),
        ([("Sec-WebSocket-Key", KEY)], ()),
        ([("Sec-WebSocket-Key", KEY[:-3] + "x==")], ("Sec-WebSocket-Key",)),
        ([], ("Sec-WebSocket-Version",)),
        ([("Sec-WebSocket-Version", "13")], ()),
        ([("Sec-WebSocket-Protocol", "a, a")], ()),
        ([("Sec-WebSocket-Protocol", "a b")], ()),
        ([("Sec-WebSocket-Protocol", "a,,b")], ()),
        ([("Upgrade", "websocket")], ()),
        ([("Upgrade", "h2c")], ()),
    ],
)
def test_a_malformed_handshake(headers: Headers, without: tuple[str, ...]) -> None:
    """A bad or repeated key, version, Upgrade or subprotocol is 400."""
    with pytest.raises(InvalidRequest):
        read_handshake(read(*headers, without=without))


@pytest.mark.parametrize("version", ["8", "14", "013", "13, 8"])
def test_another_version(version: str) -> None:
    """It is 426, and the answer names the one that is understood (4.4)."""
    with pytest.raises(UpgradeRequired) as caught:
        read_handshake(read(("Sec-WebSocket-Version", version), without=("Sec-WebSocket-Version",)))
    assert (b"Sec-WebSocket-Version", b"13") in caught.value.headers


def test_http_1_0_offers_nothing() -> None:
    """A server must ignore Upgrade in HTTP/1.0 (RFC 9110, 7.8)."""
    head = handshake("/a", [("Connection", "keep-alive")], version="1.0")
    assert offered(parse_request(head)) == []


def test_what_connection_does_not_name_is_not_offered() -> None:
    """Without the option `upgrade` in Connection there is no offer."""
    assert offered(read(without=("Connection",))) == []


def answer(*lines: str, status: str = "101 Switching Protocols") -> bytes:
    """The head of an upstream's answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


GOOD = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}")


@pytest.mark.parametrize(
    "lines",
    [
        GOOD,
        ("upgrade: WebSocket", "connection: keep-alive, upgrade", GOOD[2]),
        (*GOOD, "Sec-WebSocket-Protocol: b"),
        (*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10"),
    ],
)
def test_an_agreement(lines: tuple[str, ...]) -> None:
    """Names count without their case; chosen is what was offered."""
    offer = read_handshake(
        read(("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Extensions", "permessage-deflate"))
    )
    offer.check(answer(*lines))


@pytest.mark.parametrize(
    "lines",
    [
        GOOD[1:],
        (GOOD[0], GOOD[2]),
        GOOD[:2],
        ("Upgrade: foo", *GOOD[1:]),
        ("Upgrade: websocket, foo", *GOOD[1:]),
        (GOOD[0], *GOOD),
        (*GOOD[:2], "Sec-WebSocket-Accept: " + ACCEPT.lower()),
        (*GOOD, GOOD[2]),
        (*GOOD, "Sec-WebSocket-Protocol: c"),
        (*GOOD, "Sec-WebSocket-Protocol: A"),
        (*GOOD, "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"),
        (*GOOD, "Sec-WebSocket-Extensions: x-unasked"),
        (*GOOD, "Transfer-Encoding: chunked"),
    ],
)
def test_no_agreement(lines: tuple[str, ...]) -> None:
    """What the upstream did not agree to, or chose without an offer, is a bad answer."""
    offer = read_handshake(
        read(("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Extensions", "permessage-deflate"))
    )
    with pytest.raises(BadResponse):
        offer.check(answer(*lines))


def test_another_protocol_needs_no_key() -> None:
    """The answer has to name the very protocol that was offered."""
    offer = read_upgrade(parse_request(handshake("/a")), b"foo/2")
    offer.check(answer("Upgrade: FOO/2", "Connection: upgrade"))
    with pytest.raises(BadResponse):
        offer.check(answer("Upgrade: foo", "Connection: upgrade"))


def test_a_body_and_an_offer_exclude_each_other() -> None:
    """Whether the body or the other protocol comes first would be a guess."""
    request = parse_request(handshake("/a"))
    request.length = 3
    with pytest.raises(InvalidRequest):
        read_handshake(request)
    with pytest.raises(InvalidRequest):
        read_upgrade(request, b"foo")


LINES = st.sampled_from(
    [
        ("Upgrade", "websocket"), ("Upgrade", "WebSocket"), ("Upgrade", "h2c"), ("Upgrade", "websocket, foo"),
        ("Connection", "Upgrade"), ("Connection", "keep-alive, upgrade"), ("Connection", "close"),
        ("Connection", "Upgrade, Sec-WebSocket-Key"), ("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY[:-1]),
        ("Sec-WebSocket-Key", "*" * 24), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Protocol", "\xff"),
        ("Content-Length", "0"), ("Content-Length", "5"), ("Transfer-Encoding", "chunked"),
    ]
)  # fmt: skip


@given(
    st.lists(LINES, max_size=9), st.sampled_from(["1.0", "1.1"]), st.sampled_from(["GET", "POST"])
)
@examples(600)
def test_no_other_offer_is_a_handshake(
    lines: list[tuple[str, str]], version: str, method: str
) -> None:
    """Whatever the lines are, what is taken up has each part of a handshake once, and no body."""
    try:
        parsed = parse_request(request(method, "/a", lines, version=version))
    except GatewayError:
        return
    if b"websocket" not in offered(parsed):
        return
    try:
        if not is_handshake(parsed):
            return
        offer = read_handshake(parsed)
    except (InvalidRequest, UpgradeRequired):
        return
    sent: dict[str, list[str]] = {}
    for name, value in lines:
        sent.setdefault(name, []).append(value)
    assert (version, method) == ("1.1", "GET")
    assert sent["Sec-WebSocket-Key"] == [KEY]
    assert sent["Sec-WebSocket-Version"] == ["13"]
    assert len(sent["Upgrade"]) == 1
    assert "websocket" in sent["Upgrade"][0].lower()
    assert any("upgrade" in value.lower() for value in sent["Connection"])
    assert set(sent.get("Content-Length", [])) <= {"0"}
    assert "Transfer-Encoding" not in sent
    assert offer.accept == ACCEPT.encode()


ANSWERED = st.sampled_from(
    [
        "Upgrade: websocket", "Upgrade: foo", "Upgrade: WEBSOCKET", "Connection: Upgrade", "Connection: close",
        f"Sec-WebSocket-Accept: {ACCEPT}", f"Sec-WebSocket-Accept: {ACCEPT[::-1]}", "Sec-WebSocket-Protocol: a",
        "Sec-WebSocket-Protocol: c", "Sec-WebSocket-Extensions: permessage-deflate", "Transfer-Encoding: chunked",
        "Content-Length: 3", "X-Other: websocket",
    ]
)  # fmt: skip


@given(st.lists(ANSWERED, max_size=7))
@examples(600)
def test_no_other_answer_is_an_agreement(lines: list[str]) -> None:
    """Whatever the lines are, only a 101 that agrees to the offer in each part passes."""
    offer = read_handshake(read(("Sec-WebSocket-Protocol", "a, b")))
    agreed = (
        sum(line.startswith("Upgrade:") for line in lines) == 1
        and any(line.lower() == "upgrade: websocket" for line in lines)
        and "Connection: Upgrade" in lines
        and [line for line in lines if "Accept" in line] == [f"Sec-WebSocket-Accept: {ACCEPT}"]
        and [line for line in lines if "Protocol" in line] in ([], ["Sec-WebSocket-Protocol: a"])
        and not any("Extensions" in line or "Transfer" in line for line in lines)
    )
    try:
        offer.check(answer(*lines))
    except BadResponse:
        assert not agreed
    else:
        assert agreed
