"""The keys about the public address: what may be written, and what is said to the rest."""

import pytest

from tests.config.texts import loaded, problems, route, warnings


def service(rest: str) -> str:
    """Write a file with one service, whose rules stand on line 2."""
    return f"services:\n  orders: {{url: 'http://orders:8000', {rest}}}\n"


@pytest.mark.parametrize(
    ("rest", "sent"),
    [
        ("host: upstream", "upstream"),
        ("host: client", "client"),
        ("host: Shop.Internal", "shop.internal"),
        ("host: 'shop.internal:81'", "shop.internal:81"),
        ("host: '[2001:DB8::1]:81'", "[2001:db8::1]:81"),
        ("host: '[2001:db8::1]'", "[2001:db8::1]"),
        ("preserve_host: true", "client"),
        ("preserve_host: false", "upstream"),
        ("host: client, preserve_host: true", "client"),
    ],
)
def test_host(rest: str, sent: str) -> None:
    """The Host of a service, in lower case."""
    assert loaded(service(rest)).config.services["orders"].sent_host == sent


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("host: 'a b'", 'services.orders.host: "a b" is no host name'),
        ("host: 'a/b'", 'services.orders.host: "a/b" is no host name'),
        ("host: 'http://a'", "services.orders.host: "),
        ("host: 'a:x'", 'services.orders.host: "x" is no port: a number from 1 to 65535'),
        ("host: '*.a'", "services.orders.host: must be one host name; wildcards are not supported"),
        (
            "host: a, preserve_host: true",
            "services.orders.preserve_host: a service has host or preserve_host, not both",
        ),
        ("redirects: drop", "services.orders.redirects: "),
        ("cookies: {path: /x}", "services.orders.cookies.path: "),
        ("cookies: {domain: 'a;b'}", 'services.orders.cookies.domain: "a;b" is no host name'),
    ],
)
def test_a_bad_value_is_said(rest: str, said: str) -> None:
    """Each with its line and its key."""
    (problem,) = problems(service(rest))
    assert problem.startswith(f"propylon.yaml:2 {said}")


def test_preserve_host_is_understood_with_a_hint() -> None:
    """`propylon check` says what to write instead of Kong's word."""
    said = (
        "propylon.yaml:2 services.orders.preserve_host: is understood as `host: client`; write that"
    )
    assert warnings(service("preserve_host: true")) == [said]
    assert warnings(service("host: client")) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "https://api.example.com/gw",
            "must be a URL without a path, such as https://api.example.com",
        ),
        ("api.example.com", "must be a URL that starts with http:// or https://"),
        ("https://me@api.example.com", "must be a URL without a user and a password"),
        ("https://api.example.com?x", "must be a URL without a query and without a fragment"),
    ],
)
def test_public_url(url: str, said: str) -> None:
    """Scheme, host and port."""
    assert problems(f"server: {{public_url: '{url}'}}") == [
        f"propylon.yaml:1 server.public_url: {said}"
    ]
    for good in ("https://api.example.com", "http://localhost:8000/"):
        config = loaded(f"server: {{public_url: '{good}'}}").config
        assert config.server.public_url == good.rstrip("/")


def test_forwarded_is_one_of_three() -> None:
    """Another word is refused."""
    (problem,) = problems("server: {forwarded: rfc}")
    assert problem.startswith("propylon.yaml:1 server.forwarded: ")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("path: '/a/{id}', rewrite: '/b/{no}'", "rewrite has {no}, which the path has not"),
        ("path: /a, rewrite: '/b/{id}'", "rewrite has {id}, which the path has not"),
        ("path: /a, rewrite: '/b/x{id}'", "rewrite has {id}, which the path has not"),
        ("path: /a, rewrite: '/b//c'", "has an empty segment (two slashes)"),
    ],
)
def test_rewrite(rest: str, said: str) -> None:
    """A name in `rewrite` is one of the path's."""
    (problem,) = problems(route(rest))
    assert said in problem
    for good in ("path: '/a/{id}', rewrite: '/b/{id}/'", "path: /, rewrite: /b"):
        assert loaded(route(good)).config.routes[0].rewrite
