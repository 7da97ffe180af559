"""Who may: all of the scopes, any of the roles, or whoever asks from this machine."""

from itertools import product

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
