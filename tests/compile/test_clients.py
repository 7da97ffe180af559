"""`clients`: whose requests a route takes, by the address of the client."""

import pytest

from propylon.compile.access import compile_clients
from propylon.config.models.answered import ClientsConfig
from propylon.errors import Forbidden
from propylon.proxy.exchange import Origin
from tests.compile.compiled import KEY, World
from tests.proxy.doubles import request


def admitted(
    rule: dict[str, list[str]], client: str, *lines: bytes, peer: str = "", trusted: bool = False
) -> bool:
    """Whether the rule lets the request pass."""
    compiled = compile_clients(ClientsConfig.model_validate(rule))
    assert compiled is not None
    try:
        compiled(request(b"/a", *lines), Origin(client, peer or client, "http", b"", None, trusted))
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "client", "passes"),
    [
        ({"allow": ["10.0.0.0/8"]}, "10.1.2.3", True),
        ({"allow": ["10.0.0.0/8"]}, "11.1.2.3", False),
        ({"allow": ["10.1.2.3"]}, "10.1.2.3", True),
        ({"allow": ["10.1.2.3"]}, "10.1.2.4", False),
        ({"allow": ["10.1.2.3"]}, "::ffff:10.1.2.3", True),
        ({"allow": ["2001:db8::/32"]}, "2001:db8::7", True),
        ({"allow": ["2001:db8::/32"]}, "2001:db9::7", False),
        ({"allow": ["10.0.0.0/8"]}, "2001:db8::7", False),
        ({"deny": ["10.1.0.0/16"]}, "10.1.2.3", False),
        ({"deny": ["10.1.0.0/16"]}, "::ffff:10.1.2.3", False),
        ({"deny": ["10.1.0.0/16"]}, "10.2.2.3", True),
        ({"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}, "10.1.2.3", False),
        ({"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}, "10.2.2.3", True),
        # A peer on a Unix socket has no address: what cannot be told is refused.
        ({"deny": ["10.1.0.0/16"]}, "", False),
        ({"allow": ["10.0.0.0/8"]}, "", False),
    ],
)
def test_by_address(rule: dict[str, list[str]], client: str, passes: bool) -> None:
    """Networks and single addresses of both families; deny wins."""
    assert admitted(rule, client) is passes


def test_behind_proxies() -> None:
    """What a trusted proxy says counts. The address of an unknown one does not admit whoever is behind it."""
    allow, deny = {"allow": ["10.0.0.0/8"]}, {"deny": ["10.1.0.0/16"]}
    told = b"X-Forwarded-For: 10.2.2.3"
    assert admitted(allow, "10.2.2.3", told, peer="192.0.2.1", trusted=True)
    assert not admitted(allow, "10.9.9.9", told)  # the peer is a proxy that nobody named
    assert not admitted(allow, "192.0.2.1", told)
    assert not admitted(deny, "10.1.2.3", b"X-Forwarded-For: 192.0.2.7")
    assert not admitted(deny, "10.1.2.3", told, peer="192.0.2.1", trusted=True)


def test_it_never_falls_through_and_comes_before_the_token() -> None:
    """403 without a token, though a less specific route would take the request."""
    asked = World({
        "routes": [
            {"path": "/a/b", "service": "orders", "clients": {"allow": ["10.0.0.0/8"]}},
            {"path": "/a", "service": "orders", "auth": "none"},
        ], **KEY,
    }, verified=True)  # fmt: skip
    assert asked.handle("/a/b")[0] == 403
    assert asked.handle("/a/b", client="10.0.0.1")[0] == 401
    assert asked.handle("/a")[0] == 200
    assert len(asked.up.got) == 1


def test_preflights_that_pass_are_asked_too() -> None:
    """`preflight: pass` lets them pass without a token, not from anywhere."""
    asked = World({"routes": [{"path": "/a", "service": "orders", "preflight": "pass",
                               "clients": {"deny": ["192.0.2.0/24"]}}], **KEY}, verified=True)  # fmt: skip
    lines = (b"Origin: https://a.example", b"Access-Control-Request-Method: PUT")
    assert asked.handle("/a", *lines, method="OPTIONS")[0] == 403
    assert asked.handle("/a", *lines, method="OPTIONS", client="10.0.0.1")[0] == 200


def test_a_route_without_them_asks_nothing() -> None:
    """No stage is called."""
    assert compile_clients(ClientsConfig()) is None
    assert World({"routes": [{"path": "/a", "service": "orders"}]}).route.clients is None
