"""Names that a reader could take for those of framing and identity headers never reach an upstream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.lookalikes import letters, reduced, without_lookalikes
from propylon.wire.request import parse_request
from tests.support.examples import examples

# Every header that frames the message or says who is asking.
MEANT = (
    "Content-Length", "Transfer-Encoding", "Host", "Connection", "TE", "Trailer", "Upgrade", "Expect", "Keep-Alive",
    "Proxy-Authorization", "Forwarded", "Max-Forwards", "X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Scopes",
    "X-User-Issuer", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID", "X-Real-IP", "X-Original-URL",
    "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Privacy-Level", "Traceparent", "Authorization",
)  # fmt: skip


def passes(name: str) -> bool:
    """Whether a header of that name is left for the upstream."""
    head = f"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n{name}: evil\r\n\r\n".encode()
    block = parse_request(head).block
    assert b"\r\nA: b" in block
    return b"evil" in block


@pytest.mark.parametrize(
    "name",
    [
        "Transfer---Encoding", "Transfer_Encoding", "TransferEncoding", "Transfer.Encoding", "Trans-fer-Encoding", "-Content-Length",
        "Content-Length-", "Content~Length", "content_length", "X_User_Id", "x.user.id", "X-User.Id", "XUserId", "X--User-Id", "X-User-Id_",
        "X-User_Anything", "x.user.anything", "X!User!Name", "T-E", "H.o.s.t", "Proxy_Anything", "Proxy.Authorization", "X_Forwarded_Anything",
        "XForwardedFor", "X.Client.Cert.Subject", "X_Client_Cert_Verified", "X*Real*Ip", "Content-Length1", "Authorization_",
    ],
)  # fmt: skip
def test_a_lookalike_does_not_pass(name: str) -> None:
    """Whatever stands between, before or behind the letters: the line is removed."""
    assert not passes(name)


@pytest.mark.parametrize(
    "name",
    [
        "X-Username", "X-Userid-Hash", "Proxying", "Hostname", "X-Host", "Content-Type", "Content-Language", "Connection-Id", "X-Forwarder",
        "Upgrade-Insecure-Requests", "Expect-CT", "User-Agent", "X-API-Key", "Tenant", "Test", "Trailers", "Via", "X-Idempotency_Key", "A_b",
    ],
)  # fmt: skip
def test_another_header_passes(name: str) -> None:
    """A name with other letters is another header."""
    assert passes(name)


@given(
    name=st.sampled_from(MEANT),
    odd=st.lists(st.tuples(st.integers(0, 40), st.sampled_from("-_.~!#$%&'*+^`|0123456789"))),
    upper=st.booleans(),
)
@examples(400)
def test_letters_alone_decide(name: str, odd: list[tuple[int, str]], upper: bool) -> None:
    """Any other characters anywhere in the name, and none at all, make no other header of it."""
    for at, character in odd:
        name = name[: at % (len(name) + 1)] + character + name[at % (len(name) + 1) :]
    name = name.upper() if upper else name
    if name.lower() != "authorization":  # the header itself, which may pass
        exact = name.lower() in {meant.lower() for meant in MEANT}
        assert exact or not passes(name)


@pytest.mark.parametrize(
    "lines", ["Authorization: Bearer x", "Authorization: a\r\nOrigin: http://b"]
)
def test_a_lookalike_beside_the_header_itself_is_found(lines: str) -> None:
    """A token that stays in the block hides no lookalike behind it."""
    head = (
        f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\nX_User_Id: evil\r\nAuthorization-: evil\r\n\r\n"
    )
    block = parse_request(head.encode()).block
    assert block == f"\r\n{lines}".encode()


def test_a_value_is_no_name() -> None:
    """What stands in a value looks like no line, whatever letters it has."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nA: X_User_Id: x\r\nB: :Transfer_Encoding:\r\n\r\n"
    assert parse_request(head).block == b"\r\nA: X_User_Id: x\r\nB: :Transfer_Encoding:"


def test_operators_names_keep_their_digits() -> None:
    """A claim in X-Shard-1 takes no client's X-Shard-2 away, but every spelling of its own name."""
    block = b"\r\nX-Shard-2: a\r\nX_Shard.1: b\r\nXshard1: c\r\nx-shard-1: d"
    assert without_lookalikes(block, {reduced(b"X-Shard-1")}) == b"\r\nX-Shard-2: a"
    assert (letters(b"X-Shard-1"), reduced(b"X-Shard-1")) == (b"xshard", b"xshard1")
