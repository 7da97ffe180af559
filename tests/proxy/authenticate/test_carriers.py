"""Tokens in cookies and other headers: where they are found, who may send them, and how they are hidden."""

import pytest

from propylon.errors import AuthError, Forbidden, ServiceUnavailable
from propylon.proxy.authenticate.carriers import (
    Authorization,
    Carrier,
    Cookie,
    Header,
    SiteGuard,
    TokenFinder,
    hidden,
    unverifiable_if_found,
)
from propylon.wire.message import Request
from propylon.wire.request import parse_request
from tests.proxy.authenticate.stand_in import signed, verifier
from tests.support.virtual import run

SHOP = b"https://shop.test"
TOKEN = signed().decode()


def sent(*lines: str, method: str = "GET") -> Request:
    """A request with these header lines."""
    head = [f"{method} /a HTTP/1.1", "Host: gw.test", *lines, "", ""]
    return parse_request("\r\n".join(head).encode("latin-1"))


def stage(*carriers: Carrier, required: bool = True) -> TokenFinder:
    """The stage of a route, with these places for tokens."""
    guard = SiteGuard(lambda origin: origin == SHOP)
    return TokenFinder(verifier(), carriers, guard, required=required)


def who(request: Request, *carriers: Carrier, required: bool = True) -> str:
    """Who sends it, or the status of the refusal."""

    async def main() -> str:
        try:
            return str(await stage(*carriers, required=required)(request, "203.0.113.1"))
        except (AuthError, Forbidden) as error:
            return str(error.status)

    return run(main())


SESSION, OTHER = Cookie("session"), Header(b"x-token")


@pytest.mark.parametrize(
    "line",
    [
        f"Cookie: session={TOKEN}",
        f"Cookie: a=b; session={TOKEN}; c=d",
        f"Cookie: a=b;session={TOKEN}",
        f'Cookie: session="{TOKEN}"',
        f"cookie: xsession=no; session={TOKEN}",
    ],
)
def test_a_cookie(line: str) -> None:
    """The token is the value of the cookie of exactly that name."""
    assert who(sent(line), SESSION) == "42"


@pytest.mark.parametrize(
    "lines",
    [
        ("Cookie: Session=x",),
        ("Cookie: session=",),
        ("Cookie: xsession=x",),
        ("Cookie: session",),
        ("X-Cookie: session=x",),
        (),
    ],
)
def test_no_cookie(lines: tuple[str, ...]) -> None:
    """A cookie of another name, or without a value, holds no token."""
    assert who(sent(*lines), SESSION) == "401"
    assert who(sent(*lines), SESSION, required=False) == "anonymous"


@pytest.mark.parametrize(
    "lines",
    [
        (f"Cookie: session={TOKEN}; session={TOKEN}",),
        (f"Cookie: session={TOKEN}", "Cookie: session=other"),
        ("Cookie: session=a b",),
        ("Cookie: session=not-a-token",),
    ],
)
def test_bad_cookies(lines: tuple[str, ...]) -> None:
    """Two cookies of the name are refused, as another host of the domain may have set one; and so is a bad token."""
    assert who(sent(*lines), SESSION) == "401"
    assert who(sent(*lines), SESSION, required=False) == "401"


@pytest.mark.parametrize("value", [TOKEN, f"Bearer {TOKEN}", f"bearer {TOKEN}"])
def test_another_header(value: str) -> None:
    """The token may stand alone in a header of its own, or behind `Bearer`."""
    assert who(sent(f"X-Token: {value}"), OTHER) == "42"
    assert who(sent(f"x-token: {value}", f"X-Token: {value}"), OTHER) == "401"
    assert who(sent("X-Token: "), OTHER, required=False) == "anonymous"


def test_the_first_place_counts() -> None:
    """Of several tokens, the one in the first configured place is verified; a bad one there is not passed over."""
    both = sent(f"Authorization: Bearer {signed('7').decode()}", f"Cookie: session={TOKEN}")
    assert who(both, Authorization(), SESSION) == "7"
    assert who(both, SESSION, Authorization()) == "42"
    bad = sent("Authorization: Bearer x", f"Cookie: session={TOKEN}")
    assert who(bad, Authorization(), SESSION) == "401"


@pytest.mark.parametrize(
    ("lines", "passes"),
    [
        ((), True),
        (("Sec-Fetch-Site: same-origin",), True),
        (("Sec-Fetch-Site: none",), True),
        (("Sec-Fetch-Site: same-origin", "Origin: https://gw.test"), True),
        (("Origin: https://gw.test",), True),
        (("Origin: https://GW.test",), True),
        (("Origin: https://shop.test", "Sec-Fetch-Site: same-site"), True),
        (("Origin: https://shop.test",), True),
        (("Sec-Fetch-Site: cross-site",), False),
        (("Sec-Fetch-Site: same-site",), False),
        (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"), False),
        (("Sec-Fetch-Site: ",), False),
        (("Origin: https://evil.test",), False),
        (("Origin: https://gw.test:8443",), False),
        (("Origin: null",), False),
        (("Origin: https://gw.test", "Origin: https://evil.test"), False),
        (("Origin: https://shop.test", "Origin: https://evil.test"), False),
        (("Origin: https://evil.test", "Sec-Fetch-Site: cross-site"), False),
    ],
)
def test_requests_of_other_sites(lines: tuple[str, ...], *, passes: bool) -> None:
    """A request that may change something, with the token in a cookie, comes from an own or trusted page, or is 403."""
    cookie = f"Cookie: session={TOKEN}"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert who(sent(cookie, *lines, method=method), SESSION) == ("42" if passes else "403")
    for method in ("GET", "HEAD", "OPTIONS"):
        assert who(sent(cookie, *lines, method=method), SESSION) == "42"
    # What no browser sends by itself needs no guard.
    header = f"X-Token: {TOKEN}"
    assert who(sent(header, *lines, method="POST"), OTHER, SESSION) == "42"


def test_a_handshake_of_another_site() -> None:
    """A request to change the protocol opens a channel for writing, so it is guarded although it is a GET."""
    lines = (f"Cookie: session={TOKEN}", "Connection: Upgrade", "Upgrade: websocket")
    assert who(sent(*lines, "Origin: https://evil.test"), SESSION) == "403"
    assert who(sent(*lines, "Origin: https://gw.test"), SESSION) == "42"


def test_nothing_to_verify_with() -> None:
    """Without a key, a request with a token in any of the places is 503 on an optional route, and others pass."""
    asked = unverifiable_if_found((Authorization(), SESSION))

    async def status(request: Request) -> str:
        try:
            return str(await asked(request, ""))
        except ServiceUnavailable as error:
            return str(error.status)

    assert run(status(sent(f"Cookie: session={TOKEN}"))) == "503"
    assert run(status(sent(f"Authorization: Bearer {TOKEN}"))) == "503"
    assert run(status(sent("Cookie: a=b"))) == "anonymous"


def test_tokens_are_hidden() -> None:
    """A service that may not have the token gets no place that holds one; other cookies and headers stay."""
    block = (
        b"\r\nAccept: */*\r\nCookie: a=b; session=t0ken; c=d\r\nX-Token: t0ken"
        b"\r\nAuthorization: Bearer t0ken\r\nCookie: session=t0ken\r\nX-Session: session=1"
    )
    assert hidden((Authorization(), SESSION, OTHER))(block) == (
        b"\r\nAccept: */*\r\nCookie: a=b; c=d\r\nX-Session: session=1"
    )
