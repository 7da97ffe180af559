"""What somebody known may do: all the scopes, any of the roles, and never more than the token says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.test_auth import check_refused
from tests.support.client import RawClient, ask, request
from tests.support.examples import examples
from tests.support.gateway import Gateway
from tests.support.tokens import ABSENT, authorized, bearer, claims, hs256
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream


def granted(gateway: Gateway, path: str, **more: Any) -> int:
    """The status that a token with these claims gets."""
    return ask(gateway.port, target=path, headers=authorized(**more)).status


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("/read", {"scope": "read"}, 200),
        ("/read", {"scope": "write read admin"}, 200),
        ("/read", {"scopes": ["read"]}, 200),
        ("/read", {"scopes": ["write", "read"]}, 200),
        ("/read", {"scopes": "write read"}, 200),
        ("/read", {"scope": ["read"]}, 200),
        ("/read", {}, 403),
        ("/read", {"scope": ""}, 403),
        ("/read", {"scopes": []}, 403),
        ("/read", {"scope": "reader"}, 403),
        ("/read", {"scope": "rea d"}, 403),
        ("/read", {"scope": "READ"}, 403),
        ("/read", {"scope": "read,write"}, 403),
        ("/read", {"scopes": ["read,write"]}, 403),
        ("/read", {"scopes": ["read write"]}, 403),
        ("/read", {"roles": ["read"]}, 403),
        ("/both", {"scope": "read"}, 403),
        ("/both", {"scope": "write"}, 403),
        ("/both", {"scope": "read write"}, 200),
        ("/both", {"scopes": ["read", "write"]}, 200),
        ("/clerks", {"roles": ["clerk"]}, 200),
        ("/clerks", {"roles": ["admin"]}, 200),
        ("/clerks", {"roles": ["guest", "clerk"]}, 200),
        ("/clerks", {"roles": ["user"]}, 403),
        ("/clerks", {"roles": []}, 403),
        ("/clerks", {"roles": ["clerk,admin"]}, 403),
        ("/clerks", {"roles": ["Clerk"]}, 403),
        ("/clerks", {"roles": "clerk"}, 200),
        ("/clerks", {"roles": "clerk user"}, 403),
        ("/clerks", {"role": ["clerk"]}, 403),
        ("/clerks", {"scope": "clerk admin"}, 403),
        ("/clerks", {}, 403),
        ("/bosses", {"scope": "read"}, 403),
        ("/bosses", {"roles": ["boss"]}, 403),
        ("/bosses", {"scope": "read", "roles": ["boss"]}, 200),
        ("/perhaps", {"scope": "write"}, 403),
        ("/perhaps", {"scope": "read"}, 200),
    ],
)
def test_scopes_and_roles(
    guarded: Gateway, behind: Upstream, path: str, said: dict[str, Any], status: int
) -> None:
    """A route gets whoever has all of its scopes and any of its roles; a refused one costs nothing."""
    assert granted(guarded, path, **said) == status
    assert len(behind.requests) == (status == 200)


@pytest.mark.parametrize("path", ["/read", "/both", "/clerks", "/bosses"])
def test_rules_want_a_token_first(guarded: Gateway, behind: Upstream, path: str) -> None:
    """Without a token a route with rules is 401, not 403: it could be allowed."""
    check_refused(ask(guarded.port, target=path))


def test_scopes_of_nobody(guarded: Gateway, behind: Upstream) -> None:
    """Where a token is optional but a scope is not, nobody has it: refused."""
    assert ask(guarded.port, target="/perhaps").status in (401, 403)
    assert behind.raw == b""


@pytest.mark.parametrize("path", ["/read", "/both", "/clerks"])
def test_lack_of_rights_is_403(guarded: Gateway, behind: Upstream, path: str) -> None:
    """403 has the envelope and says that it is the scope (RFC 6750, 3.1), for HEAD too."""
    answer = ask(guarded.port, target=path, headers=authorized(scope="other"))
    check_refused(answer, 403)
    challenge = answer.get("www-authenticate") or ""
    assert challenge.startswith('Bearer error="insufficient_scope"')
    if path != "/clerks":
        assert "read" in challenge
    with RawClient(guarded.port) as client:
        client.send(request("HEAD", path, authorized(scope="other")))
        head = client.read("HEAD")
        assert (head.status, head.get("www-authenticate")) == (403, challenge)
        assert client.send(request(target="/open")).read().status == 200


def test_refusal_names_who_it_was(guarded: Gateway, behind: Upstream) -> None:
    """The record of a 403 says whose token it was: it was a good one."""
    record = guarded.record(ask(guarded.port, target="/read", headers=authorized("mallory")))
    assert (record["status"], record["principal"]) == (403, "mallory")


# Each role or token with what it may do: per path and method.
TABLE = [
    ("GET", "/table", {"roles": ["user"]}, 200),
    ("GET", "/table", {"roles": ["admin"]}, 200),
    ("GET", "/table", {"roles": ["guest"]}, 403),
    ("GET", "/table", None, 401),
    ("POST", "/table", {"roles": ["user"]}, 403),
    ("POST", "/table", {"roles": ["admin"]}, 200),
    ("POST", "/table", {"roles": ["user", "admin"]}, 200),
    ("POST", "/table", None, 401),
    ("PUT", "/table", {"roles": ["user"]}, 403),
    ("PUT", "/table", {"roles": ["admin"]}, 200),
    ("PUT", "/table/7", {"roles": ["admin"]}, 405),
    ("PATCH", "/table", {"roles": ["admin"]}, 405),
    ("PATCH", "/table", None, 405),
    ("DELETE", "/table", {"roles": ["admin"], "scope": "delete"}, 405),
    ("DELETE", "/table/7", {"roles": ["admin"], "scope": "delete"}, 200),
    ("DELETE", "/table/7", {"roles": ["admin"]}, 403),
    ("DELETE", "/table/7", {"scope": "delete"}, 403),
    ("DELETE", "/table/7", {"roles": ["user"], "scope": "delete"}, 403),
    ("DELETE", "/table/7", None, 401),
    ("GET", "/table/7", {"roles": ["admin"]}, 405),
    ("GET", "/tables", {"roles": ["admin"]}, 404),
]


@pytest.mark.parametrize(("method", "path", "said", "status"), TABLE)
def test_table_of_rights(
    guarded: Gateway,
    behind: Upstream,
    method: str,
    path: str,
    said: dict[str, Any] | None,
    status: int,
) -> None:
    """Per path and method: lacking the role is 403, a method not listed 405, no token 401."""
    headers = [] if said is None else authorized(**said)
    answer = ask(guarded.port, method, path, headers)
    assert answer.status == status
    assert [arrived.method for arrived in behind.requests] == [method] * (status == 200)
    assert (answer.get("allow") is not None) == (status == 405)


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, "", " ", "read", "admin", "admin user", [], {}, [None], [1],
    [["admin"]], [["read"]], {"admin": True}, {"roles": ["admin"]}, {"read": 1}, [{}], ["", " "],
    ["read", 1], ["admin", None], [True], "\u0000", "admin\r\n", ["admin\r\nX-User-Id: root"],
    ["a" * 3000], [str(number) for number in range(1000)], "read\tadmin", "read\u00a0admin",
    ["\ud800"], "*", ["*"], ["read*"], ".*",
]  # fmt: skip


def grants(claim: str, value: Any, scope: str = "read", role: str = "admin") -> tuple[bool, bool]:
    """Whether a claim gives that scope, and that role: a list must be one of strings, one text is one role."""
    if isinstance(value, str):
        gives = claim in ("scope", "scopes") and scope in value.split(" ")
        return gives, claim == "roles" and value == role
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return False, False
    return claim in ("scope", "scopes") and scope in value, claim == "roles" and role in value


@pytest.mark.parametrize("claim", ["scope", "scopes", "roles", "email", "name", "groups"])
def test_odd_claim_is_no_failure(guarded: Gateway, behind: Upstream, claim: str) -> None:
    """A claim of an odd type gives no right and breaks nothing: 401 or 403, never 500."""
    with RawClient(guarded.port) as client:
        for value in ODD:
            headers = authorized(**{claim: value})
            read, clerk, locked = (
                client.send(request(target=target, headers=headers)).read().status
                for target in ("/read", "/clerks", "/locked")
            )
            may_read, may_clerk = grants(claim, value)
            assert read in ((200,) if may_read else (401, 403)), value
            assert clerk in ((200,) if may_clerk else (401, 403)), value
            assert locked in (200, 401), value


JSON = st.sampled_from([*ODD, "read admin", ["clerk"], ["read", "write"], "access"])
JSON |= st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON |= st.lists(JSON, max_size=3)
NAMES = [
    "sub",
    "exp",
    "nbf",
    "iat",
    "iss",
    "aud",
    "jti",
    "type",
    "scope",
    "scopes",
    "roles",
    "email",
]


@examples(60)
@given(said=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON, max_size=5))
def test_any_claims(guarded: Gateway, guarded_upstreams: Upstreams, said: dict[str, Any]) -> None:
    """Whatever a signed token says: a verdict, never a failure, and no right that it does not give."""
    guarded_upstreams.reset()
    headers = bearer(hs256(claims(roles=ABSENT) | said))
    with RawClient(guarded.port) as client:
        reader = client.send(request(target="/read", headers=headers)).read().status
        clerk = client.send(request(target="/clerks", headers=headers)).read().status
    assert {reader, clerk} <= {200, 401, 403}
    roles = said.get("roles")
    if clerk == 200:
        assert isinstance(roles, list)
        assert {"clerk", "admin"} & set(roles)
    if reader == 200:
        scopes: Any = said.get("scope", said.get("scopes"))
        assert "read" in (scopes.split(" ") if isinstance(scopes, str) else scopes)
    assert guarded_upstreams.faults == []
