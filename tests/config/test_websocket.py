"""What may be said of sockets, and what is wrong with the rest."""

import pytest

from propylon.compile.services import Dependencies, compile_service
from propylon.config.models.units import Rate
from tests.config.texts import loaded, problems, route, warnings


def test_defaults() -> None:
    """A socket ends with its token and after five minutes of silence; nothing else is limited."""
    (only,) = loaded(route("path: /a")).config.routes
    said = only.websocket
    assert (said.close_on_expiry, said.idle, said.origins) == (True, 300.0, ())
    rest = (said.max_lifetime, said.max_message, said.max_rate, said.ping, said.max_open)
    assert rest == (None,) * 5
    assert only.upgrade == ()


def test_what_is_said_is_there() -> None:
    """Every key has its value, and those of `defaults` are filled in one by one."""
    text = (
        "services: {orders: {url: 'http://orders:8000'}}\n"
        "defaults: {websocket: {idle: 1m, ping: 20s}}\n"
        "routes: [{path: /a, service: orders, auth: none, upgrade: [Foo, bar/2], websocket: {idle: 10s,"
        " close_on_expiry: false, max_lifetime: 8h, max_message: 1MB, max_rate: 100/s, max_open: 5,"
        " origins: 'https://A.example:443'}}]\n"
    )
    (only,) = loaded(text).config.routes
    said = only.websocket
    assert (said.idle, said.ping, said.max_lifetime) == (10.0, 20.0, 28_800.0)
    assert (said.max_message, said.max_rate, said.max_open) == (1_000_000, Rate(100, 1.0), 5)
    assert said.origins == ("https://a.example",)
    assert only.upgrade == ("foo", "bar/2")


WRONG = {
    "websocket: {idle: 0}": "websocket.idle: must be a duration longer than zero",
    "websocket: {max_open: 0}": "websocket.max_open: ",
    "websocket: {max_rate: 100}": "websocket.max_rate: must be a rate of at least one",
    "websocket: {origins: ['null']}": 'websocket.origins[0]: "null" is the origin of all sandboxed',
    "websocket: {origin: 'https://a.example'}": "websocket.origin: unknown key; did you mean",
    "upgrade: [h2c]": "upgrade[0]: h2c is never tunnelled",
    "upgrade: [HTTP/2]": "upgrade[0]: HTTP/2 is never tunnelled",
    "upgrade: [websocket]": "upgrade[0]: WebSockets need no upgrade: write WEBSOCKET among",
    "upgrade: ['a b']": 'upgrade[0]: "a b" is no protocol that Upgrade can name',
    "upgrade: [foo/]": 'upgrade[0]: "" is no protocol that Upgrade can name',
}


@pytest.mark.parametrize("written", WRONG)
def test_what_is_wrong(written: str) -> None:
    """The message says where, and what to write instead."""
    (said,) = problems(route(f"path: /a, {written}"))
    assert WRONG[written] in said


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ws://rt:8000", "http://rt:8000"),
        ("wss://rt/base", "https://rt/base"),
        ("WS://rt", "http://rt"),
    ],
)
def test_the_scheme_of_sockets_is_understood(written: str, meant: str) -> None:
    """A service is asked over http or https, and the operator is told to write that."""
    text = f"services: {{rt: {{url: '{written}'}}}}\n"
    (said,) = warnings(text)
    assert f"services.rt.url: is understood as {meant}, which serves" in said
    asked = []

    def connect(address: object, limit: int) -> None:
        asked.append(address)

    dependencies = Dependencies(connect, lambda: 0.0)  # type: ignore[arg-type]
    for url in (written, meant):
        config = loaded(f"services: {{rt: {{url: '{url}'}}}}\n").config.services["rt"]
        (instance,) = compile_service("rt", config, dependencies).service.instances
        assert instance.base == (b"/base" if "base" in written else b"")
    assert asked[0] == asked[2]


def test_other_urls_have_the_usual_scheme() -> None:
    """Keys are not fetched over a socket."""
    (said,) = problems("auth: {jwt: {jwks_url: 'ws://id.example/keys', audience: a}}")
    assert "must be a URL that starts with http:// or https://" in said
