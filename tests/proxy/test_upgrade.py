"""Which pages may open a socket, by what the gateway knows of the address that they asked; and seats."""

import pytest

from propylon.errors import Forbidden
from propylon.proxy.authenticate import anonymous
from propylon.proxy.exchange import Origin
from propylon.proxy.route import SocketRules
from propylon.proxy.upgrade import check_origin
from propylon.stores.seats import Seats
from propylon.wire.request import parse_request
from tests.support.sockets import handshake

LISTED = SocketRules(anonymous, lambda origin: origin in {b"https://shop.example", b"null"})


def came(scheme: str = "http", host: bytes | None = None, *, trusted: bool = False) -> Origin:
    """Where the handshake comes from."""
    return Origin("192.0.2.1", "192.0.2.1", scheme, b"", host, trusted)


def passes(page: str, origin: Origin, *headers: tuple[str, str], host: str = "gw.test") -> bool:
    """Whether a page of that origin may open a socket."""
    request = parse_request(handshake("/a", [("Origin", page), *headers], host=host))
    try:
        check_origin(request, origin, LISTED)
    except Forbidden as error:
        assert page in error.reason
        assert "websocket.origins" in error.reason
        return False
    return True


PROTO = ("X-Forwarded-Proto", "https")


@pytest.mark.parametrize(
    ("page", "origin", "headers", "expected"),
    [
        # Plain HTTP from anybody: TLS may end somewhere before, so the scheme is not known.
        ("http://gw.test", came(), (), True),
        ("https://gw.test", came(), (), True),
        ("https://gw.test", came(), (PROTO,), True),
        # Our own TLS.
        ("https://gw.test", came("https"), (), True),
        ("http://gw.test", came("https"), (), False),
        ("http://gw.test:443", came("https"), (), False),
        # A trusted proxy that says it.
        ("https://gw.test", came("https", trusted=True), (PROTO,), True),
        ("http://gw.test", came("https", trusted=True), (PROTO,), False),
        ("https://gw.test", came("http", trusted=True), (("X-Forwarded-Proto", "http"),), False),
        ("http://gw.test", came("http", trusted=True), (("X-Forwarded-Proto", "ws"),), True),
        # A trusted proxy that says nothing of it.
        ("https://gw.test", came("http", trusted=True), (), True),
        # A trusted proxy that has changed Host.
        ("https://app.example", came("http", b"app.example", trusted=True), (), True),
        ("https://app.example", came("http"), (), False),
        # Listed ones, and what is never listed.
        ("https://shop.example", came("https"), (), True),
        ("null", came(), (), False),
    ],
)
def test_pages(
    page: str, origin: Origin, headers: tuple[tuple[str, str], ...], expected: bool
) -> None:
    """The scheme counts where it is known, and the host as the client asked for it."""
    assert passes(page, origin, *headers) == expected


@pytest.mark.parametrize(
    ("page", "host", "expected"),
    [
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://[::1]", "[::1]:80", True),
        ("http://[::1]", "[::2]", False),
        ("https://gw.test:443", "gw.test:443", True),
        ("http://gw.test", "gw.test.:80", False),
    ],
)
def test_ports(page: str, host: str, expected: bool) -> None:
    """A default port is the same as none; an IPv6 address has brackets."""
    assert passes(page, came(), host=host) == expected


def test_seats() -> None:
    """So many for each key, and one is free again when it is given back; what is empty is forgotten."""
    seats = Seats()
    assert [seats.take("a", 2) for _ in range(3)] == [True, True, False]
    assert seats.take("b", 2)
    seats.give_back("a")
    assert [seats.take("a", 2), seats.take("a", 2)] == [True, False]
    for key in ("a", "a", "b", "b"):
        seats.give_back(key)
    assert seats._taken == {}
