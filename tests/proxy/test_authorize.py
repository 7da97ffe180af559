"""Who may: all of the scopes, any of the roles, or whoever asks from this machine."""

from dataclasses import replace
from ipaddress import ip_network
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import AuthError, Forbidden
from propylon.proxy.authorize import AdminRule, LocalRule, anybody, permitted
from propylon.proxy.exchange import Origin
from propylon.proxy.principal import ANONYMOUS, Principal
from tests.proxy.doubles import origin, request

ADMIN = AdminRule(("admin",))
METRICS = LocalRule((), ADMIN)
NAMES = st.frozensets(st.sampled_from(["read", "write", "admin", "READ", "read write", ""]))


def alice(scopes: str = "", roles: str = "") -> Principal:
    """Somebody with these scopes and roles."""
    return Principal("alice", scopes=frozenset(scopes.split()), roles=frozenset(roles.split()))


def status(
    rule: object,
    principal: Principal,
    client: str = "192.0.2.1",
    *lines: bytes,
    sender: Origin | None = None,
) -> int:
    """What a rule says to somebody."""
    assert callable(rule)
    try:
        rule(principal, request(b"/metrics", *lines), sender or origin(client))
    except AuthError as error:
        return error.status
    return 200


def test_nothing_is_asked_for() -> None:
    """A rule without scopes and roles is the one that all routes share."""
    assert permitted([], []) is anybody
    assert status(anybody, ANONYMOUS, "") == status(anybody, alice()) == 200


@pytest.mark.parametrize(
    ("scopes", "roles", "expected"),
    [
        ("read write", "", 200),
        ("write read admin", "", 200),
        ("read", "", 403),
        ("", "", 403),
        ("READ WRITE", "", 403),
        ("readwrite read-write", "", 403),
        ("", "read write", 403),
    ],
)
def test_all_of_the_scopes(scopes: str, roles: str, expected: int) -> None:
    """Each of them, by its exact name; a role is no scope."""
    assert status(permitted(["read", "write"], []), alice(scopes, roles)) == expected


@pytest.mark.parametrize(
    ("roles", "scopes", "expected"),
    [
        ("clerk", "", 200),
        ("admin other", "", 200),
        ("clerk admin", "", 200),
        ("other", "", 403),
        ("", "", 403),
        ("Clerk", "", 403),
        ("", "clerk", 403),
    ],
)
def test_any_of_the_roles(roles: str, scopes: str, expected: int) -> None:
    """One of them is enough; a scope is no role."""
    assert status(permitted([], ["clerk", "admin"]), alice(scopes, roles)) == expected


@pytest.mark.parametrize(("scope", "role"), list(product([True, False], repeat=2)))
def test_scopes_and_roles(scope: bool, role: bool) -> None:
    """Where both are asked for, both are needed."""
    principal = alice("read" if scope else "", "clerk" if role else "")
    expected = 200 if scope and role else 403
    assert status(permitted(["read"], ["clerk"]), principal) == expected


@given(NAMES, NAMES, NAMES, NAMES)
def test_the_rule(
    needed: frozenset[str], either: frozenset[str], scopes: frozenset[str], roles: frozenset[str]
) -> None:
    """For any scopes and roles: all of the ones, any of the others."""
    principal = Principal("alice", scopes=scopes, roles=roles)
    expected = needed <= scopes and (not either or bool(either & roles))
    assert (status(permitted(needed, either), principal) == 200) is expected


def test_nobody_is_asked_who_they_are() -> None:
    """Who is not known gets 401, with what to bring; who is known gets 403, with what would do."""
    rule = permitted(["b", "a"], [])
    with pytest.raises(AuthError) as unknown:
        rule(ANONYMOUS, request(), origin(""))
    assert unknown.value.status == 401
    assert unknown.value.headers[0][1].startswith(b"Bearer")
    with pytest.raises(Forbidden) as known:
        rule(alice("a"), request(), origin(""))
    assert known.value.headers == (
        (b"WWW-Authenticate", b'Bearer error="insufficient_scope", scope="a b"'),
    )


def test_claims_alone_permit_nothing() -> None:
    """Only what was read from them as scopes and roles counts."""
    principal = Principal("alice", claims={"scope": "admin", "roles": ["admin"]})
    assert status(permitted(["admin"], []), principal) == 403
    assert status(permitted([], ["admin"]), principal) == 403
    assert status(METRICS, principal) == 403


# This machine


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1"])
def test_loopback_passes(client: str) -> None:
    """Who asks from this machine need not say who it is."""
    assert status(METRICS, ANONYMOUS, client) == 200


def test_loopback_over_both_protocols() -> None:
    """A listener for both protocols sees IPv4 so, whatever the version of Python says of it."""
    assert status(METRICS, ANONYMOUS, "::ffff:127.0.0.1") == 200
    assert status(METRICS, ANONYMOUS, "::ffff:192.0.2.1") == 401


@pytest.mark.parametrize(
    "client", ["10.0.0.1", "192.0.2.1", "::2", "0.0.0.0", "::", "128.0.0.1", "fe80::1"]
)
def test_others_do_not(client: str) -> None:
    """They are asked who they are, and whether they may."""
    assert status(METRICS, ANONYMOUS, client) == 401
    assert status(METRICS, alice("read write"), client) == 403
    assert status(METRICS, alice("admin"), client) == 200


@pytest.mark.parametrize("client", ["", "testclient", "unix:", "/run/proxy.sock", "localhost"])
def test_a_client_without_an_address(client: str) -> None:
    """It is not from this machine for all we know: Starlette's TestClient, or a Unix socket."""
    assert status(METRICS, ANONYMOUS, client) == 401
    assert status(METRICS, alice("admin"), client) == 200


# Who stands in between


IN_BETWEEN = [
    b"X-Forwarded-For: 192.0.2.9",
    b"X-Forwarded-For: 127.0.0.1",
    b"x-forwarded-proto: https",
    b"X-Forwarded-Host: shop.example",
    b"X-Forwarded-Port: 443",
    b"X-Forwarded-Anything: 1",
    b"Forwarded: for=127.0.0.1",
    b"X-Real-IP: 127.0.0.1",
    b"Via: 1.1 proxy",
    b"via: HTTP/1.1 a, 1.0 b",
]


@pytest.mark.parametrize("line", IN_BETWEEN)
def test_through_a_proxy_no_client_is_local(line: bytes) -> None:
    """A proxy on this machine makes every client look local, trusted or not, whichever header it writes."""
    assert status(METRICS, ANONYMOUS, "127.0.0.1", line) == 401
    trusted = origin("127.0.0.1", trusted=True)
    assert status(METRICS, ANONYMOUS, "", line, sender=trusted) == 401


def test_a_word_is_no_proxy() -> None:
    """`via` within another header's name or value says nothing."""
    lines = (b"X-Viaduct: 1", b"User-Agent: via", b"Accept: via/via")
    assert status(METRICS, ANONYMOUS, "127.0.0.1", *lines) == 200


# The endpoints that want admin


NARROW = AdminRule(("admin", "registry:write"))
FULL = AdminRule(("admin",), "operator", "https://id.example", (ip_network("10.0.0.0/8"),))
OPERATOR = Principal("o", "", ["admin"], ["operator"], {"iss": "https://id.example"})


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [("admin", 200), ("registry:write", 200), ("read", 403), ("", 403), ("registry", 403)],
)
def test_a_narrower_scope_opens_its_endpoints(scopes: str, expected: int) -> None:
    """The scope for all of them does, too; no other scope does."""
    assert status(NARROW, alice(scopes)) == expected


def test_the_refusal_names_the_narrowest_scope() -> None:
    """A client is to ask for no more than it needs."""
    with pytest.raises(Forbidden) as refused:
        NARROW(alice("read"), request(), origin())
    assert b'scope="registry:write"' in refused.value.headers[0][1]


@pytest.mark.parametrize(
    ("change", "client", "expected"),
    [
        ({}, "10.0.0.7", 200),
        ({}, "::ffff:10.0.0.7", 200),
        ({}, "192.0.2.1", 403),
        ({}, "127.0.0.1", 403),
        ({}, "", 403),
        ({"scopes": frozenset({"read"})}, "10.0.0.7", 403),
        ({"roles": frozenset({"clerk"})}, "10.0.0.7", 403),
        ({"claims": {"iss": "https://other.example"}}, "10.0.0.7", 403),
        ({"claims": {"iss": ["https://id.example"]}}, "10.0.0.7", 403),
        ({"claims": {}}, "10.0.0.7", 403),
    ],
)
def test_every_condition_must_hold(change: dict[str, Any], client: str, expected: int) -> None:
    """Scope, role, issuer and address: one that does not fit is enough to be refused."""
    assert status(FULL, replace(OPERATOR, **change), client) == expected


def test_who_is_not_known_is_asked_to_log_in() -> None:
    """Also from an address that may not come in: it learns nothing about the list."""
    assert status(FULL, ANONYMOUS, "192.0.2.1") == 401


@pytest.mark.parametrize(
    ("client", "peer", "trusted", "expected"),
    [
        ("10.0.0.7", "192.0.2.1", True, 200),
        ("192.0.2.9", "10.0.0.1", True, 403),
        ("10.0.0.1", "10.0.0.1", True, 403),  # the proxy names nobody
        ("10.0.0.1", "10.0.0.1", False, 403),  # a proxy that is not trusted
        ("127.0.0.1", "10.0.0.1", True, 403),  # the proxy's own machine, and not this one
    ],
)
def test_an_address_behind_a_proxy(client: str, peer: str, trusted: bool, expected: int) -> None:
    """Only a trusted proxy says who its client is; whom it does not name has no address."""
    sender = Origin(client, peer, "http", b"", None, trusted)
    everywhere = replace(FULL, networks=(ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")))
    assert status(everywhere, OPERATOR, "", b"X-Forwarded-For: x", sender=sender) == expected


@pytest.mark.parametrize(("proxied", "expected"), [(False, 200), (True, 401)])
def test_a_proxy_header_does_not_make_a_client_local(proxied: bool, expected: int) -> None:
    """A loopback address that a PROXY header tells is of the proxy's machine, and not of this one."""
    rule = LocalRule((ip_network("127.0.0.0/8"),), ADMIN)
    sender = Origin("127.0.0.1", "127.0.0.1", "http", b"", proxied=proxied)
    assert status(rule, ANONYMOUS, "", sender=sender) == expected


def test_networks_read_metrics_without_a_token() -> None:
    """Those that `metrics.allow` names, by the same rules of who is where."""
    rule = LocalRule((ip_network("10.0.0.0/8"),), ADMIN)
    assert status(rule, ANONYMOUS, "10.1.2.3") == 200
    assert status(rule, ANONYMOUS, "10.1.2.3", b"Via: 1.1 proxy") == 401
    assert status(rule, ANONYMOUS, "192.0.2.1") == 401
    assert status(rule, alice("admin"), "192.0.2.1") == 200


def test_rules_in_words() -> None:
    """For `propylon routes`."""
    assert str(FULL) == "scope admin, role operator, issuer https://id.example, from 10.0.0.0/8"
    assert str(NARROW) == "scope registry:write or admin"
    assert str(METRICS) == "loopback, or scope admin"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (permitted(["b", "a"], []), "needs the scopes a b, and the token has read"),
        (permitted([], ["boss"]), "needs a role of boss, and the token has clerk, user"),
        (
            permitted(["a"], ["boss", "chief"]),
            (
                "needs the scopes a, and the token has read;"
                " needs a role of boss, chief, and the token has clerk, user"
            ),
        ),
        (permitted(["read"], ["boss"]), "needs a role of boss, and the token has clerk, user"),
        (AdminRule(("admin", "ops")), "needs the scopes ops, and the token has read"),
        (AdminRule(("read",), role="boss"), "needs a role of boss, and the token has clerk, user"),
        (
            AdminRule(("read",), issuer="https://a"),
            "not of the issuer that admin.issuer names: it has none, expected is https://a",
        ),
    ],
)
def test_the_operator_reads_what_is_lacking(rule: object, said: str) -> None:
    """What the route needs and what the token has; the client is told the scopes only (RFC 6750, 3)."""
    assert callable(rule)
    with pytest.raises(Forbidden) as caught:
        rule(alice("read", "user clerk"), request(b"/a"), origin("192.0.2.1"))
    assert caught.value.reason == said
    assert said not in caught.value.message + str(caught.value.details)
