"""What may be written, is hardly meant, and is said without refusing anything."""

import pytest

from propylon.config.reading.load import load
from tests.config.texts import SECRET, SERVICES, doubts, route, warnings

CLEAR_KEYS = (
    "is fetched without TLS, so an attacker on the network can replace the keys; write https://"
)
CLEAR_TOKENS = (
    "is asked without TLS, so an attacker on the network can read tokens and forge answers;"
    " write https://"
)
UNNAMED = (
    "is asked without client_id, and most servers refuse to answer then; set client_id"
    " (RFC 7662, 2.1)"
)
NOTHING = "needs a token, and there is nothing to verify one with, so it answers 503"
ADVICE = "; set auth.jwt.secret (or JWT_SECRET_KEY), public_key or jwks_url, or write `auth: none`"


@pytest.mark.parametrize(
    ("url", "open_"),
    [
        ("http://id.example/keys", True),
        ("http://10.0.0.1/keys", True),
        ("http://localhost.example/keys", True),
        ("https://id.example/keys", False),
        ("http://127.0.0.1:8080/keys", False),
        ("http://127.8.9.10/keys", False),
        ("http://[::1]/keys", False),
        ("http://localhost/keys", False),
        ("http://id.localhost/keys", False),
    ],
)
def test_keys_and_tokens_in_the_clear(url: str, open_: bool) -> None:
    """Without TLS to anywhere but this machine."""
    said = warnings(f"auth:\n  jwt:\n    jwks_url: '{url}'\n    audience: api")
    assert said == ([f"propylon.yaml:3 auth.jwt.jwks_url: {CLEAR_KEYS}"] if open_ else [])
    said = warnings(f"auth:\n  introspection:\n    {{url: '{url}', client_id: me}}")
    assert said == ([f"propylon.yaml:3 auth.introspection.url: {CLEAR_TOKENS}"] if open_ else [])


def test_introspection_without_a_name() -> None:
    """Nobody is told about tokens who does not say who he is."""
    said = warnings("auth: {introspection: {url: 'https://id.example/introspect'}}")
    assert said == [f"propylon.yaml:1 auth.introspection.url: {UNNAMED}"]


def test_nothing_to_verify_with() -> None:
    """Routes that want a token which nobody can verify are told once, at the first of them."""
    text = (
        SERVICES
        + "routes:\n  - {path: /open, service: orders, auth: none}\n"
        + "".join(f"  - {{path: /{name}, service: orders}}\n" for name in "abc")
    )
    assert warnings(text) == [
        f"propylon.yaml:4 routes[1]: {NOTHING}, and so do 2 more{ADVICE}",
    ]
    assert warnings(route("path: /a")) == [f"propylon.yaml:3 routes[0]: {NOTHING}{ADVICE}"]


def test_nothing_to_verify_with_and_no_file() -> None:
    """Without a file the variable that made the route is named."""
    environ = {"A_SERVICE_URL": "http://a"}
    (said,) = doubts(load(None, environ))
    assert str(said) == f"A_SERVICE_URL routes[0]: {NOTHING}{ADVICE}"
    assert doubts(load(None, {**environ, "SECRET_KEY": SECRET})) == []


@pytest.mark.parametrize(
    "auth",
    [
        f"jwt: {{secret: {SECRET}}}",
        "jwt: {jwks_url: 'https://id.example/keys', audience: api}",
        "introspection: {url: 'https://id.example/introspect', client_id: me}",
    ],
)
def test_something_to_verify_with(auth: str) -> None:
    """Each of them is enough."""
    assert warnings(f"auth: {{{auth}}}\n" + route("path: /a")) == []


def test_routes_that_want_no_token() -> None:
    """Open routes, and those that only look, are no reason to ask for a key."""
    assert warnings(route("path: /a, auth: none")) == []
    assert warnings(route("path: /a, auth: optional")) == []


def test_a_breaker_that_will_hardly_ever_open() -> None:
    """One that wants more than a thousand failures a second, and not one that wants a thousand."""

    def said(circuit: str) -> list[str]:
        return warnings(f"services: {{a: {{circuit: {{{circuit}}}}}}}")

    why = "is more than 1000 a second for all of failure_window: the breaker will hardly ever open; write less"
    place = "propylon.yaml:1 services.a.circuit"
    assert said("failure_threshold: 120001") == [f"{place}.failure_threshold: {why}"]
    assert said("min_throughput: 5001, failure_window: 5s") == [f"{place}.min_throughput: {why}"]
    assert said("failure_threshold: 120000") == []


def test_probes_that_overlap() -> None:
    """A probe that may last longer than the time to the next."""
    said = warnings("services: {a: {health: {interval: 1s, timeout: 2s}}}")
    why = "is longer than interval, so a probe would start before the last one ends; write less"
    assert said == [f"propylon.yaml:1 services.a.health.timeout: {why}"]


def test_a_secret_that_only_debug_takes() -> None:
    """It is taken, and told, so that nobody forgets it."""
    (said,) = warnings("debug: true\nauth: {jwt: {secret: changeme}}")
    assert said.startswith(
        "propylon.yaml:2 auth.jwt.secret: is accepted only because of `debug: true`:"
        " it is a published placeholder"
    )
    assert warnings(f"debug: true\nauth: {{jwt: {{secret: {SECRET}}}}}") == []


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("this-is-an-InSecure-signing-key-0123456789", "describes itself as an example"),
        ("0123456789-for-development-only-key-abcdef", "describes itself as an example"),
        ("0123456789_for_testing_jwt_key_abcdefghijk", "describes itself as an example"),
        ("signing key with AT LEAST thirty-two bytes", "describes itself as an example"),
    ],
)
def test_a_secret_that_is_hardly_one(secret: str, why: str) -> None:
    """Long enough, and no published one that is known: taken, warnings, and never shown."""
    (said,) = warnings(f"auth:\n  jwt: {{secret: '{secret}'}}")
    assert said.startswith(f"propylon.yaml:2 auth.jwt.secret: {why}")
    assert "secrets.token_urlsafe" in said
    assert secret not in said
    (said,) = doubts(load(None, {"JWT_SECRET_KEY": secret}))
    assert said.startswith(f"JWT_SECRET_KEY auth.jwt.secret: {why}")


@pytest.mark.parametrize("secret", ["correct horse battery staple, twice", SECRET])
def test_a_secret_that_nothing_speaks_against(secret: str) -> None:
    """Eight different characters are no reason for a doubt."""
    assert warnings(f"auth: {{jwt: {{secret: '{secret}'}}}}") == []


def test_doubts_come_in_the_order_of_the_file() -> None:
    """The first line first."""
    text = (
        "services: {orders: {url: 'http://orders', circuit: {failure_threshold: 999999}}}\n"
        "routes: [{path: /a, service: orders}]\n"
        "auth: {introspection: {url: 'http://id.example'}}\n"
    )
    assert [said.split()[0] for said in warnings(text)] == [
        "propylon.yaml:1",
        "propylon.yaml:3",
        "propylon.yaml:3",
    ]


@pytest.mark.parametrize("secret", [f" {SECRET}", f"{SECRET} ", f"{SECRET}\t", f"{SECRET}\n"])
def test_white_space_at_an_end_of_a_secret(secret: str) -> None:
    """It counts as part of the secret, and probably came there by accident."""
    doubt = "begins or ends with white space, which counts as part of it"
    (said,) = doubts(load(None, {"JWT_SECRET_KEY": secret}))
    assert said.startswith(f"JWT_SECRET_KEY auth.jwt.secret: {doubt}")
    text = "auth: {introspection: {url: 'https://id', client_id: a, client_secret: '${S}'}}"
    (said,) = warnings(text, {"S": secret})
    assert said.startswith(f"propylon.yaml:1 auth.introspection.client_secret: {doubt}")
