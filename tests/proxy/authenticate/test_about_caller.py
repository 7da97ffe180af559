"""What a route adds to the authenticate stage: the issuers that it accepts, and claims as headers."""

import asyncio
from collections.abc import Mapping

import pytest

from propylon.errors import AuthError
from propylon.proxy.authenticate import always, anonymous
from propylon.proxy.authenticate import claim_headers as module
from propylon.proxy.authenticate.accepted import AcceptedIssuers
from propylon.proxy.authenticate.claim_headers import ClaimHeaders
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.headers import render
from propylon.wire.message import Request
from propylon.wire.request import parse_request


def asked() -> Request:
    """A request of its own, because the stage adds to it."""
    return parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def headers(claims: Mapping[str, object], **paths: str) -> bytes:
    """The headers for a token with these claims; `_` in a name stands for `-`."""
    pairs = [(name.replace("_", "-"), path) for name, path in paths.items()]
    principal = Principal("ann", claims=claims, block=b"\r\nX-User-Id: ann")
    request = asked()
    assert asyncio.run(ClaimHeaders(always(principal), pairs)(request, "")) is principal
    return render((request.vouched or {}).values())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("acme", "acme"),
        ("Zoë, 李", "Zoë, 李"),
        (7, "7"),
        (True, "true"),
        (False, "false"),
        (["a", "b", 3], "a,b,3"),
    ],
)
def test_a_claim_becomes_a_header(value: object, text: str) -> None:
    """A text, an integer, a boolean, or a list of them is passed on; the path may lead inside another claim."""
    assert (
        headers({"tenant": {"id": value}}, X_Tenant="tenant.id")
        == b"\r\nX-Tenant: " + text.encode()
    )


@pytest.mark.parametrize(
    "value",
    [
        *(None, 1.5, {}, {"id": 1}, [], "", " ", " a", "a ", "x" * 1025),
        *("a\r\nX-User-Id: root", "a\nb", "a\x00", "a\x85", "\ud800", "a\u2028b"),
        *(["a", "b,admin"], ["a", ""], ["a", None], ["a", ["b"]], ["a\r\nX: b"]),
    ],
)
def test_claims_that_cannot_be_headers(value: object) -> None:
    """A claim that could break out of its line, or be read as two, is left out, and the token is not refused."""
    assert headers({"tenant": value, "other": "x"}, X_Tenant="tenant", X_Other="other") == (
        b"\r\nX-Other: x"
    )
    assert headers({}, X_Tenant="tenant") == b""


def test_lines_are_kept_for_the_principal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of principals is bounded, and what a policy adds to one request is not kept for the next."""
    monkeypatch.setattr(module, "_MAX_KEPT", 2)
    people = [Principal(name, claims={"t": name}) for name in "abc"]
    current = [people[0]]

    async def stage(request: object, client: str) -> Principal:
        return current[0]

    passing = ClaimHeaders(stage, [("X-T", "t")])

    async def main() -> None:
        for current[0] in (*people, *people[-1:]):
            request = asked()
            await passing(request, "")
            assert request.vouched == {b"x-t": (b"X-T", str(current[0]).encode())}
            request.set_header("X-Other", "1")
            request.set_header("X-T", "2")
        assert len(passing._kept) <= 2

    asyncio.run(main())


def test_an_anonymous_request_has_no_claims() -> None:
    """A request without a token gets no header and no issuer is asked for."""
    assert asyncio.run(ClaimHeaders(anonymous, [("X-T", "t")])(asked(), "")) is ANONYMOUS
    assert asyncio.run(AcceptedIssuers(anonymous, ["https://a"])(asked(), "")) is ANONYMOUS


@pytest.mark.parametrize(
    ("issuer", "passes"), [("https://a", True), ("https://b", False), ("", False)]
)
def test_a_route_accepts_its_issuers(issuer: str, *, passes: bool) -> None:
    """A token of an issuer that the route does not name is 401, as another token may be good there."""
    stage = AcceptedIssuers(always(Principal("ann", issuer=issuer)), ["https://a"])
    if passes:
        assert str(asyncio.run(stage(asked(), ""))) == "ann"
        return
    with pytest.raises(AuthError) as caught:
        asyncio.run(stage(asked(), ""))
    assert caught.value.status == 401
