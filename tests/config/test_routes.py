"""What a route may ask of whom, of privacy, of the breaker, and what it has from `defaults`."""

import pytest

from tests.config.texts import SERVICES, loaded, problems, route

SCOPE = (
    "must be a scope of visible ASCII characters, without a space, a comma, a quote, a backslash"
)
ROLE = "must be the name of a role, without a comma, control characters or space at an end"
NOBODY = "with `auth: none` no token is read, so no request would have"


def test_what_is_not_said_has_its_default() -> None:
    """No scopes, no roles, privacy headers checked if they are there, the breaker asked."""
    (only,) = loaded(route("path: /a")).config.routes
    assert (only.scopes, only.roles, only.circuit) == ((), (), True)
    assert (only.privacy, only.default_privacy) == ("optional", None)


def test_what_is_said_is_there() -> None:
    """Every key has its value."""
    rules = "scopes: [read, 'orders:write'], roles: [clerk, Domain Admins], circuit: false"
    privacy = "privacy: required, default_privacy: strict"
    (only,) = loaded(route(f"path: /a, {rules}, {privacy}")).config.routes
    assert (only.scopes, only.roles) == (("read", "orders:write"), ("clerk", "Domain Admins"))
    assert (only.circuit, only.privacy, only.default_privacy) == (False, "required", "strict")


ONE_PROBLEM = {
    "auth: none, scopes: [read]": f"scopes: {NOBODY} scopes; write `auth: required`",
    "auth: none, roles: [clerk]": f"roles: {NOBODY} roles; write `auth: required`",
    "hosts: ['*']": "hosts[0]: must be one host name; wildcards are not supported",
    "hosts: ['a.*']": "hosts[0]: must be one host name; wildcards are not supported",
    "hosts: ['*.*.a']": "hosts[0]: must be one host name; wildcards are not supported",
    "hosts: ['*.a:80']": "hosts[0]: must be a host name without a port",
    "scopes: read": "scopes: must be a list, not text; put it in [ ]",
    "scopes: [read write]": "scopes[0]: must be one scope for each item: write [read, write]",
    "scopes: ['']": f"scopes[0]: {SCOPE}",
    "scopes: ['a,b']": f"scopes[0]: {SCOPE}",
    "scopes: ['a\"b']": f"scopes[0]: {SCOPE}",
    "scopes: ['a\\b']": f"scopes[0]: {SCOPE}",
    "scopes: [é]": f"scopes[0]: {SCOPE}",
    'scopes: ["a\\r\\nb"]': f"scopes[0]: {SCOPE}",
    "scopes: [1]": "scopes[0]: must be text, not a number; put it in quotes",
    "roles: ['a,b']": f"roles[0]: {ROLE}",
    "roles: [' ']": f"roles[0]: {ROLE}",
    'roles: ["a\\nb"]': f"roles[0]: {ROLE}",
    "roles: [' admin']": f"roles[0]: {ROLE}",
    "privacy: require": "privacy: must be one of ignored, optional, required;"
    ' did you mean "required"?',
    "default_privacy: none": "default_privacy: must be one of strict, standard, permissive",
    "circuit: {failure_threshold: 5}": "circuit: must be true or false; the numbers of a breaker"
    " belong to services.NAME.circuit",
    "auth: false": "auth: must be one of required, optional, none; write none",
    "auth: off": "auth: must be one of required, optional, none; write none",
    "interval: 3s": "interval: unknown key; it belongs to documents or services.NAME.health or traces",
    "scope: [read]": 'scope: unknown key; did you mean "scopes"?',
}


@pytest.mark.parametrize(("written", "expected"), ONE_PROBLEM.items())
def test_each_problem_of_a_route_is_one(written: str, expected: str) -> None:
    """A mistake in a route is one problem, at its key."""
    assert [f"propylon.yaml:3 routes[0].{expected}"] == problems(route(f"path: /a, {written}"))


def test_scopes_with_optional_authentication_are_fine() -> None:
    """Somebody anonymous is refused there, which may be meant: no problem and no doubt."""
    text = route("path: /a, auth: optional, scopes: [read]")
    assert loaded(text).config.routes[0].scopes == ("read",)
    assert loaded(text).warnings == ()


def test_an_open_route_is_open_in_spite_of_the_defaults() -> None:
    """A route that says `auth: none` has no scopes and roles from `defaults`, the others have."""
    text = SERVICES + (
        "defaults: {scopes: [read], roles: [clerk], circuit: false, default_privacy: strict}\n"
        "routes:\n  - {path: /open, service: orders, auth: none}\n"
        "  - {path: /a, service: orders}\n  - {path: /b, service: orders, scopes: []}\n"
    )
    opened, a, b = loaded(text).config.routes
    assert (opened.auth, opened.scopes, opened.roles, opened.circuit) == ("none", (), (), False)
    assert (a.scopes, a.roles, a.default_privacy) == (("read",), ("clerk",), "strict")
    assert (b.scopes, b.roles) == ((), ("clerk",))


def test_defaults_that_contradict_themselves_are_told_once() -> None:
    """Once, however many routes they reach, and where they stand."""
    text = (
        "defaults: {auth: none, scopes: [read]}\n"
        + SERVICES
        + "routes:\n  - {path: /a, service: orders}\n  - {path: /b, service: orders}\n"
    )
    said = f"{NOBODY} scopes; write `auth: required`"
    assert [f"propylon.yaml:1 defaults.scopes: {said}"] == problems(text)


def test_a_route_that_asks_for_scopes_where_defaults_ask_for_nobody() -> None:
    """The route is told, since it is the one that must say more."""
    text = "defaults: {auth: none}\n" + route("path: /a, scopes: [read]")
    said = f"{NOBODY} scopes; write `auth: required`"
    assert [f"propylon.yaml:4 routes[0].scopes: {said}"] == problems(text)


HEADER_RULES = {
    "request: {remove: [hOst]}": "request: removes Host, which every request must have; set another one instead",
    "request: {set: {Host: x y}}": 'request: sets Host to "x y", which is no host; write a name or an address, with a port'
    " if need be",
    "request: {set: {host: 'a:99999'}}": 'request: sets Host to "a:99999", which is no host; write a name or an address,'
    " with a port if need be",
    "request: {set: {Transfer---Encoding: x}}": "request.set.Transfer---Encoding: Transfer---Encoding is the gateway's own and"
    " cannot be set or removed",
    "response: {remove: [Content.Length]}": "response.remove[0]: Content.Length is the gateway's own and cannot be set or"
    " removed",
    "request: {remove_cookies: ['a b']}": 'request.remove_cookies[0]: "a b" is no name of a cookie',
}


@pytest.mark.parametrize(("written", "expected"), HEADER_RULES.items())
def test_header_rules_that_cannot_work_are_refused(written: str, expected: str) -> None:
    """A rule that would break each request is one problem, at its key."""
    found = problems(route(f"path: /a, headers: {{{written}}}"))
    assert found == [f"propylon.yaml:3 routes[0].headers.{expected}"]


@pytest.mark.parametrize("host", ["a", "a:80", "'[::1]:80'", "10.0.0.1", "a_b"])
def test_any_host_may_be_set(host: str) -> None:
    """A name or an address, with a port or without."""
    written = loaded(route(f"path: /a, headers: {{request: {{set: {{Host: {host}}}}}}}"))
    assert written.config.routes[0].headers.request.set["Host"] == host.strip("'")


def test_a_claim_that_is_removed_is_a_contradiction() -> None:
    """One route cannot both send a claim as a header and remove that header."""
    text = route("path: /a, claims: {X-Tenant: t}, headers: {request: {remove: [x-tenant]}}")
    assert problems(text) == [
        "propylon.yaml:3 routes[0].headers: removes x-tenant, which claims set, too; take it out of one of them"
    ]
