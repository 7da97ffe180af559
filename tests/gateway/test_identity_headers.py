"""What the upstream is told of who is asking: the token's word, once, and never the client's."""

import json
from typing import Any

import pytest

from tests.support.client import RawClient, ask, post_chunked, request
from tests.support.gateway import Gateway
from tests.support.tokens import authorized, bearer, claims, hs256, mint
from tests.support.upstream import Arrived, Upstream

IDENTITY = ("X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Scopes")
ROUTES = ("/open", "/maybe", "/locked", "/tokenless")


def identity(arrived: Arrived) -> dict[str, str]:
    """The identity headers of a request, by name."""
    found = {name: arrived.get(name) for name in IDENTITY}
    return {name: value for name, value in found.items() if value is not None}


def spellings(name: str) -> list[str]:
    """The ways in which a client may try to be taken for the gateway."""
    under = name.replace("-", "_")
    mixed = name.replace("-", "_", 1)
    return [name, name.lower(), name.upper(), under, under.lower(), under.upper(), mixed]


def test_upstream_is_told_who_is_asking(guarded: Gateway, behind: Upstream) -> None:
    """Subject, email, roles and scopes of the token, each once, lists joined by commas."""
    said = {"email": "u@users.example", "roles": ["clerk", "admin"], "scope": "write read"}
    ask(guarded.port, target="/locked", headers=authorized("42", **said))
    assert identity(behind.last) == {
        "X-User-Id": "42",
        "X-User-Email": "u@users.example",
        "X-User-Roles": "admin,clerk",
        "X-User-Scopes": "read,write",
    }


def test_nothing_is_said_of_what_the_token_does_not_say(guarded: Gateway, behind: Upstream) -> None:
    """A token without email, roles and scopes makes no empty headers of them."""
    ask(guarded.port, target="/locked", headers=authorized("42"))
    assert {name: value for name, value in identity(behind.last).items() if value} == {
        "X-User-Id": "42"
    }


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("path", ROUTES)
def test_copies_of_the_client_are_removed(
    guarded: Gateway, behind: Upstream, path: str, name: str
) -> None:
    """On every route, in any case and with underscores, alone and repeated: never forwarded."""
    headers = [(spelling, f"root-{number}") for number, spelling in enumerate(spellings(name))]
    ask(guarded.port, target=path, headers=[*headers, *headers, *authorized("42", roles=["user"])])
    assert b"root-" not in behind.raw
    assert "_" not in "".join(behind.last.names)
    # Of nobody nothing is said; of somebody what the token says.
    if path == "/open":
        assert identity(behind.last) == {}
    else:
        assert identity(behind.last)["X-User-Id"] == "42"


@pytest.mark.parametrize("path", ["/open", "/maybe"])
def test_anonymous_cannot_name_themselves(guarded: Gateway, behind: Upstream, path: str) -> None:
    """Without a token the client's word is removed all the same, and nothing takes its place."""
    headers = [(spelling, "root") for name in IDENTITY for spelling in spellings(name)]
    ask(guarded.port, target=path, headers=headers)
    assert identity(behind.last) == {}
    assert b"root" not in behind.raw


def test_spoofed_identity_is_no_token(guarded: Gateway, behind: Upstream) -> None:
    """X-User-Id in place of a token: 401."""
    assert ask(guarded.port, target="/locked", headers=[("X-User-Id", "root")]).status == 401
    assert behind.raw == b""


@pytest.mark.parametrize(
    "named",
    [
        "X-User-Id",
        "x-user-id, X-User-Roles, x-user-scopes, x-user-email",
        "close, X-User-Id",
        "X_User_Id",
        "Authorization",
        "X-Request-ID, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, traceparent, Host",
    ],
)
def test_connection_cannot_remove_what_the_gateway_says(
    guarded: Gateway, behind: Upstream, named: str
) -> None:
    """Naming the gateway's own headers in Connection takes none of them away."""
    token = mint("42", roles=["user"], scope="read", email="u@users.example")
    sent = [*bearer(token), ("Connection", named), ("X-User-Id", "root")]
    assert ask(guarded.port, target="/locked", headers=sent).status == 200
    assert identity(behind.last) == {
        "X-User-Id": "42",
        "X-User-Email": "u@users.example",
        "X-User-Roles": "user",
        "X-User-Scopes": "read",
    }
    for name in (
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "host",
    ):
        assert behind.last.get(name), name


def test_connection_cannot_take_the_token_away(guarded: Gateway, behind: Upstream) -> None:
    """`Connection: Authorization` does not make a protected route forget to ask."""
    headers = [("Connection", "Authorization")]
    assert ask(guarded.port, target="/locked", headers=headers).status == 401
    bad = [*headers, ("Authorization", "Bearer no-such-token-7q")]
    assert ask(guarded.port, target="/locked", headers=bad).status == 401
    assert behind.raw == b""


@pytest.mark.parametrize("trailer", [b"X-User-Id: root\r\n", b"x-user-roles: admin\r\n"])
@pytest.mark.parametrize("path", ["/open/t", "/locked/t"])
def test_identity_in_trailers_is_dropped(
    guarded: Gateway, behind: Upstream, path: str, trailer: bytes
) -> None:
    """What stands behind a chunked body names nobody."""
    coded = b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n"
    with RawClient(guarded.port) as client:
        client.send(post_chunked(path, coded, authorized("42")))
        assert client.read("POST").status in (200, 400)
    for arrived in behind.requests:
        assert b"root" not in arrived.trailers
        assert b"admin" not in arrived.trailers
        assert b"root" not in arrived.head


EVIL = ["\r\nX-User-Roles: admin", "\nX-Evil: 1", "\r", "\x00", "a\x00b", "a\r\n\r\nGET / HTTP/1.1",
        "\x7f", "\x1b[31m", "\u2028", "\u0085X-Evil: 1", "a\tb"]  # fmt: skip


@pytest.mark.parametrize("claim", ["sub", "email", "roles", "scope", "scopes"])
def test_claim_cannot_make_a_header(guarded: Gateway, behind: Upstream, claim: str) -> None:
    """CR, LF, NUL and the like in a claim: dropped, or the token is refused; never a new header."""
    for evil in EVIL:
        value: Any = ["good", f"x{evil}"] if claim in ("roles", "scopes") else f"x{evil}"
        before = len(behind.requests)
        answer = ask(guarded.port, target="/locked", headers=authorized(**_named(claim, value)))
        assert answer.status in (200, 401)
        arrived = behind.requests[before:]
        assert len(arrived) == (answer.status == 200)
        for one in arrived:
            assert "x-evil" not in one.names
            assert "admin" not in identity(one).get("X-User-Roles", "").split(",")
            assert len(one.all("x-user-id")) == 1
            assert not any(char in one.head for char in (b"\x00", b"\x7f", b"\x1b"))


def _named(claim: str, value: Any) -> dict[str, Any]:
    return {"subject": value} if claim == "sub" else {"subject": "42", claim: value}


@pytest.mark.parametrize(
    ("said", "header", "never"),
    [
        ({"roles": ["a,admin"]}, "X-User-Roles", "admin"),
        ({"roles": ["user", ",admin"]}, "X-User-Roles", "admin"),
        ({"scopes": ["read,admin"]}, "X-User-Scopes", "admin"),
        ({"scope": "read,admin"}, "X-User-Scopes", "admin"),
    ],
)
def test_comma_does_not_make_two(
    guarded: Gateway, behind: Upstream, said: dict[str, Any], header: str, never: str
) -> None:
    """A role with a comma in it does not become two on its way through a header."""
    ask(guarded.port, target="/locked", headers=authorized(**said))
    assert never not in (behind.last.get(header) or "").split(",")


def test_subject_beyond_ascii_passes_as_utf8(guarded: Gateway, behind: Upstream) -> None:
    """A subject with letters beyond ASCII either reaches the upstream as UTF-8, or is refused."""
    answer = ask(guarded.port, target="/locked", headers=authorized("zo\u00eb-\u6d4b"))
    assert answer.status in (200, 401)
    if answer.status == 200:
        assert behind.last.all("x-user-id") == ["zo\u00eb-\u6d4b".encode()]


@pytest.mark.parametrize("subject", ["a,b", "a=b", '"quoted"', "x" * 200, "a b", "auth0|5f7c"])
def test_subject_passes_as_it_is(guarded: Gateway, behind: Upstream, subject: str) -> None:
    """A subject with odd but harmless characters is handed over unchanged."""
    assert ask(guarded.port, target="/locked", headers=authorized(subject)).status == 200
    assert behind.last.get("x-user-id") == subject


def test_names_of_the_principal_come_from_the_token_only(
    guarded: Gateway, behind: Upstream
) -> None:
    """Claims in the token's header, or in a second payload, name nobody."""
    token = hs256(claims("42"), sub="root", roles=["admin"])
    status = ask(guarded.port, target="/locked", headers=bearer(token)).status
    assert status in (200, 401)
    assert b"root" not in b"".join(arrived.head for arrived in behind.requests)


def test_token_is_forwarded_where_the_service_wants_it(guarded: Gateway, behind: Upstream) -> None:
    """forward_token, the default: the upstream gets the header as the client sent it."""
    token = mint()
    ask(guarded.port, target="/locked", headers=[("authorization", f"bearer {token}")])
    assert behind.last.get("authorization") == f"bearer {token}"


def test_token_stays_here_where_the_service_does_not(guarded: Gateway, behind: Upstream) -> None:
    """forward_token: false: the upstream learns who it is, and never sees a byte of the token."""
    token = mint("42", roles=["user"])
    assert ask(guarded.port, target="/tokenless", headers=bearer(token)).status == 200
    assert identity(behind.last) == {"X-User-Id": "42", "X-User-Roles": "user"}
    assert "authorization" not in behind.last.names
    assert all(part.encode() not in behind.raw for part in token.split("."))


def test_identity_does_not_stay_on_a_connection(guarded: Gateway, behind: Upstream) -> None:
    """Requests of different people share upstream connections, never each other's names."""
    with RawClient(guarded.port) as client:
        for subject in ("alice", "bob", "", "carol", ""):
            headers = authorized(subject, roles=[f"of-{subject}"]) if subject else []
            assert client.send(request(target="/maybe", headers=headers)).read().status == 200
    told = [identity(arrived) for arrived in behind.requests]
    assert [one.get("X-User-Id", "") for one in told] == ["alice", "bob", "", "carol", ""]
    assert [one.get("X-User-Roles", "") for one in told] == [
        "of-alice",
        "of-bob",
        "",
        "of-carol",
        "",
    ]


def test_identical_requests_of_two_people(guarded: Gateway, behind: Upstream) -> None:
    """Requests that differ in nothing but the token: each upstream request has its own name."""
    heads = {
        name: request(target="/locked/same", headers=authorized(name)) for name in ("u1", "u2")
    }
    with RawClient(guarded.port) as client:
        for name in ("u1", "u2") * 5:
            assert client.send(heads[name]).read().status == 200
    assert [arrived.get("x-user-id") for arrived in behind.requests] == ["u1", "u2"] * 5


def test_identity_never_comes_back(guarded: Gateway, behind: Upstream) -> None:
    """The answer to the client does not name them, unless the upstream says so."""
    answer = ask(guarded.port, target="/locked", headers=authorized("id-31337"))
    assert b"id-31337" not in answer.head
    assert json.dumps("id-31337").encode() not in answer.body
