"""The token endpoint: who gets which token, how it is renewed, and how it is taken back at once."""

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest
import yaml

from propylon import Gateway as Propylon
from tests.gateway.test_auth import check_refused
from tests.support.client import Answer, ask
from tests.support.gateway import Gateway
from tests.support.guarded import EMAILS, PASSWORDS, Kept, configuration, propylon
from tests.support.secrecy import SECRECY
from tests.support.tokens import ABSENT, SECRET, bearer, mint
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

pytestmark = pytest.mark.usefixtures("users")

TOKEN, REVOKE, INTROSPECT = "/api/v1/auth/token", "/api/v1/auth/revoke", "/api/v1/auth/introspect"
ME = "/api/v1/users/me"
FORM = ("Content-Type", "application/x-www-form-urlencoded")
WRONG = SECRECY.note("wrong-Tq7x-passphrase-91")


def post(gateway: Gateway, target: str, credential: str = "", /, **fields: str) -> Answer:
    """Post a form, with a token if there is one."""
    headers = [FORM, *(bearer(credential) if credential else [])]
    return ask(gateway.port, "POST", target, headers, urlencode(fields).encode())


def log_in(gateway: Gateway, name: str = "alice", **fields: str) -> dict[str, Any]:
    """What a user gets for their password."""
    answer = post(gateway, TOKEN, username=name, password=PASSWORDS[name], **fields)
    assert answer.status == 200, answer.body
    session: dict[str, Any] = answer.json()
    return session


def refresh(gateway: Gateway, token: str, **fields: str) -> Answer:
    """Ask for new tokens in exchange for the refresh token."""
    return post(gateway, TOKEN, grant_type="refresh_token", refresh_token=token, **fields)


def allowed(gateway: Gateway, token: str, target: str = "/locked") -> int:
    """The status that a token gets on a protected route."""
    return ask(gateway.port, target=target, headers=bearer(token)).status


def newer(subject: str) -> str:
    """A token that is newer than a command of the same second: disabling a user ends the older ones."""
    return mint(subject, scope="read", iat=int(time.time()) + 5)


def claims_of(session: dict[str, Any]) -> dict[str, Any]:
    """What an issued token says, its signature checked."""
    said: dict[str, Any] = jwt.decode(session["access_token"], SECRET, ["HS256"])
    return said


@pytest.fixture(scope="module")
def first(guarded: Gateway, users: Path) -> Answer:
    """What alice was answered to her password. Passwords are slow, and are meant to be."""
    return post(guarded, TOKEN, username="alice", password=PASSWORDS["alice"])


@pytest.fixture(scope="module")
def issued(first: Answer) -> dict[str, Any]:
    """What she got; nobody takes it from her."""
    session: dict[str, Any] = first.json()
    return session


def test_password_becomes_a_token(
    guarded: Gateway, behind: Upstream, first: Answer, issued: dict[str, Any]
) -> None:
    """A form with name and password: the documented answer, and its token opens protected routes."""
    assert (first.status, first.get("cache-control")) == (200, "no-store")
    assert set(issued) == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (issued["token_type"], issued["expires_in"]) == ("bearer", 1800)
    assert set(issued["scope"].split(" ")) == {"read", "write"}
    assert ask(guarded.port, target="/both", headers=bearer(issued["access_token"])).status == 200
    assert behind.last.get("x-user-id") == "alice"
    assert behind.last.get("x-user-email") == EMAILS["alice"]
    assert behind.last.get("x-user-roles") == "clerk"


def test_what_the_token_says(issued: dict[str, Any]) -> None:
    """Its claims: who, which scopes, until when; signed with the key of the file."""
    said = claims_of(issued)
    assert said["sub"] == "alice"
    assert isinstance(said["scopes"], list)
    assert set(said["scopes"]) == {"read", "write"}
    assert abs(said["exp"] - said["iat"] - 1800) <= 5
    assert abs(said["iat"] - time.time()) <= 60
    assert said["type"] == "access"
    assert said["jti"]
    assert "password" not in str(said).lower()


@pytest.mark.parametrize(
    ("name", "asked", "granted"),
    [
        ("alice", "READ read,admin  read admin read delete ", {"read"}),
        ("carol", "admin", {"admin"}),
    ],
)
def test_scopes_are_never_more_than_theirs(
    guarded: Gateway, name: str, asked: str, granted: set[str]
) -> None:
    """Granted is what is asked for and theirs, word by word and not more."""
    issued = log_in(guarded, name, scope=asked)
    assert set(issued["scope"].split(" ")) == granted
    assert set(claims_of(issued)["scopes"]) == granted
    assert allowed(guarded, issued["access_token"], "/vault") == (
        200 if "admin" in granted else 403
    )


def test_only_what_is_not_theirs(guarded: Gateway) -> None:
    """Whoever asks for nothing that is theirs gets nothing: no token, or one without scopes."""
    answer = post(guarded, TOKEN, username="bob", password=PASSWORDS["bob"], scope="admin")
    assert answer.status in (200, 400, 401, 403)
    if answer.status == 200:
        assert answer.json()["scope"] == ""
        assert allowed(guarded, answer.json()["access_token"], "/read") == 403


def masked(answer: Answer) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An answer without what differs between any two: its request id, and what the limit counts."""
    identity = (answer.get("x-request-id") or "").encode()
    odd = (b"x-request-id", b"x-ratelimit-remaining", b"ratelimit", b"x-ratelimit-reset", b"date")
    headers = [(name, value) for name, value in answer.headers if name.lower() not in odd]
    return answer.status, headers, answer.body.replace(identity, b"ID")


def test_wrong_password_and_unknown_user_look_the_same(guarded: Gateway) -> None:
    """Byte for byte, but for the request id; a user who is disabled looks no different either."""
    tries = [
        ("alice", WRONG),
        ("nobody' OR 1=1 --", WRONG),
        ("dave", PASSWORDS["dave"]),
    ]
    got = [post(guarded, TOKEN, username=name, password=word) for name, word in tries]
    check_refused(got[0])
    assert [masked(answer) for answer in got] == [masked(got[0])] * len(tries)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Type", "application/json")], b'{"username": "alice", "password": "%b"}'),
        ([FORM], b"username=alice"),
        ([FORM], b"password=%b"),
        ([FORM], b"username=&password=%b"),
        ([FORM], b"username=alice&password="),
        ([FORM], b"user=alice&pass=%b"),
        ([FORM], b"grant_type=client_credentials&username=alice&password=%b"),
        ([FORM], b"grant_type=refresh_token"),
        ([FORM], b"grant_type=refresh_token&username=alice&password=%b"),
        ([FORM], b"\xff\xfe%%%=%"),
        ([("Content-Type", "text/plain")], b"username=alice&password=%b"),
        ([("Content-Type", "multipart/form-data")], b"username=alice&password=%b"),
        ([], b"username=alice&password=%b"),
    ],
)
def test_what_is_no_form_is_a_bad_request(
    guarded: Gateway, headers: list[tuple[str, str]], body: bytes
) -> None:
    """JSON, a missing field, another grant: a 4xx INVALID_REQUEST, never a token, never a failure."""
    filled = body.replace(b"%b", PASSWORDS["alice"].encode())
    answer = ask(guarded.port, "POST", TOKEN, headers, filled)
    assert answer.status in (400, 415, 422)
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"
    assert answer.get("cache-control") == "no-store"


def test_missing_field_is_named(guarded: Gateway) -> None:
    """The error says which field is missing, and repeats none that was sent."""
    answer = post(guarded, TOKEN, password=PASSWORDS["alice"])
    assert "username" in str(answer.json()["error"]["details"])
    assert PASSWORDS["alice"].encode() not in answer.body


def test_query_is_no_form(guarded: Gateway) -> None:
    """A password in the query is not taken, and GET is no way to ask."""
    query = urlencode({"username": "alice", "password": PASSWORDS["alice"]})
    assert ask(guarded.port, "POST", f"{TOKEN}?{query}", [FORM]).status in (400, 422)
    assert ask(guarded.port, "GET", f"{TOKEN}?{query}").status == 405


def test_huge_password_is_refused_without_a_failure(guarded: Gateway) -> None:
    """A password or a name of a megabyte is refused as any wrong one, or as a bad request."""
    for fields in (
        {"username": "alice", "password": "p4W-" * 250_000},
        {"username": "n4M-" * 250_000, "password": WRONG},
    ):
        assert post(guarded, TOKEN, **fields).status in (400, 401, 413, 422)


def test_reuse_ends_the_family(guarded: Gateway, issued: dict[str, Any]) -> None:
    """A refresh token is good once, for a new pair; the second use ends all that came of it."""
    first = log_in(guarded)
    answer = refresh(guarded, first["refresh_token"])
    assert (answer.status, answer.get("cache-control")) == (200, "no-store")
    second = answer.json()
    assert set(second) == set(first)
    assert set(claims_of(second)["scopes"]) == {"read", "write"}
    third = refresh(guarded, second["refresh_token"]).json()
    sessions = (first, second, third)
    assert len({session["refresh_token"] for session in sessions}) == 3
    assert len({claims_of(session)["jti"] for session in sessions}) == 3
    assert {claims_of(session)["sub"] for session in sessions} == {"alice"}
    assert allowed(guarded, third["access_token"]) == 200
    # Whoever uses the first one again, a thief or the one it was stolen from:
    check_refused(refresh(guarded, first["refresh_token"]))
    check_refused(refresh(guarded, third["refresh_token"]))
    assert [allowed(guarded, session["access_token"]) for session in sessions] == [401] * 3
    # Another login of the same user has nothing to do with it.
    assert allowed(guarded, issued["access_token"]) == 200


def test_one_of_two_at_once_wins(guarded: Gateway) -> None:
    """Of several exchanges of one refresh token at the same moment, one at the most succeeds."""
    session = log_in(guarded, "bob")
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: refresh(guarded, session["refresh_token"]).status, range(4)))
    assert got.count(200) <= 1
    assert set(got) <= {200, 401}


def test_refresh_may_narrow_and_never_widens(guarded: Gateway) -> None:
    """A refresh for fewer scopes gives fewer; for more it gives no more than the login did."""
    first = log_in(guarded, "carol", scope="read write")
    second = refresh(guarded, first["refresh_token"], scope="read write admin").json()
    assert set(claims_of(second)["scopes"]) <= {"read", "write"}
    third = refresh(guarded, second["refresh_token"], scope="read").json()
    assert claims_of(third)["scopes"] == ["read"]


def test_the_two_kinds_are_not_mixed_up(guarded: Gateway, issued: dict[str, Any]) -> None:
    """A refresh token opens no route, and an access token is exchanged for nothing."""
    assert allowed(guarded, issued["refresh_token"]) == 401
    check_refused(refresh(guarded, issued["access_token"]))
    for nonsense in ("no-such-refresh-token-1Zx", "\u6d4b\u8bd5-8Qa-refresh-token", "r4F-" * 5000):
        assert refresh(guarded, nonsense).status in (400, 401, 422)


def test_me(guarded: Gateway, issued: dict[str, Any]) -> None:
    """Who one is: exactly the documented fields, and nothing of the password."""
    answer = ask(guarded.port, target=ME, headers=bearer(issued["access_token"]))
    assert answer.status == 200
    body = answer.json()
    assert {**body, "scopes": set(body["scopes"])} == {
        "username": "alice",
        "email": EMAILS["alice"],
        "full_name": "Alice Archer",
        "disabled": False,
        "scopes": {"read", "write"},
        "roles": ["clerk"],
    }
    assert b"argon2" not in answer.body


def test_me_wants_a_token_with_read(guarded: Gateway) -> None:
    """Without a token 401, without the scope 403, and for a user who is disabled 403."""
    check_refused(ask(guarded.port, target=ME))
    check_refused(ask(guarded.port, target=ME, headers=bearer(mint("alice", scope="write"))), 403)
    check_refused(ask(guarded.port, target=ME, headers=bearer(newer("dave"))), 403)


def test_user_who_is_disabled_has_had_their_time(guarded: Gateway, users: Path) -> None:
    """From the moment of the command: no login, no renewal, no account; enabled again: a new login."""
    session = log_in(guarded, "erin")
    file = users.parent / "propylon.yaml"
    assert propylon(file, "user", "disable", "erin")[0] == 0
    try:
        check_refused(refresh(guarded, session["refresh_token"]))
        check_refused(post(guarded, TOKEN, username="erin", password=PASSWORDS["erin"]))
        assert allowed(guarded, newer("erin"), ME) == 403
    finally:
        assert propylon(file, "user", "enable", "erin")[0] == 0
    check_refused(refresh(guarded, session["refresh_token"]))  # its family has ended
    assert log_in(guarded, "erin")["scope"]


@pytest.mark.parametrize(
    ("method", "target", "form", "status"),
    [
        ("POST", TOKEN, b"username=nobody&password=wrong-Tq7x", 401),
        ("POST", TOKEN, b"username=nobody", 422),
        ("GET", TOKEN, b"", 405),
        ("POST", REVOKE, b"token=x", 401),
    ],
)
def test_problem_json_for_those_who_ask(
    guarded: Gateway, method: str, target: str, form: bytes, status: int
) -> None:
    """With Accept: application/problem+json their errors come as RFC 9457 has it, like all others."""
    answer = ask(guarded.port, method, target, [FORM, ("Accept", "application/problem+json")], form)
    assert answer.status == status
    assert (answer.get("content-type") or "").split(";")[0] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.get("x-request-id")
    assert {"type", "title", "detail", "code"} <= set(body)


def test_me_is_not_whom_the_client_names(guarded: Gateway) -> None:
    """Identity headers of the client do not reach the gateway's own endpoints either."""
    headers = [("X-User-Id", "carol"), ("x_user_id", "carol"), *bearer(mint("bob", scope="read"))]
    assert ask(guarded.port, target=ME, headers=headers).json()["username"] == "bob"


def test_revoked_token_is_401_at_once(guarded: Gateway, issued: dict[str, Any]) -> None:
    """One's own token, revoked: refused with the very next request; another one of theirs is not."""
    gone = mint("alice")
    assert allowed(guarded, gone) == 200
    assert post(guarded, REVOKE, gone, token=gone).status == 200
    check_refused(ask(guarded.port, target="/locked", headers=bearer(gone)))
    assert allowed(guarded, gone, "/maybe") == 401
    assert allowed(guarded, issued["access_token"]) == 200
    assert allowed(guarded, gone, "/open") == 200  # where nobody looks


@pytest.mark.parametrize("named", [True, False])
def test_token_of_another_making_is_revoked_too(guarded: Gateway, named: bool) -> None:
    """A token that was not issued here, with an id of its own or none, can be taken back, too."""
    jti = f"chosen-by-somebody-{guarded.edge}" if named else ABSENT
    # Both edges share the database, and without an id two tokens of one second are one and the same:
    # the case of the other edge had then taken this one back already.
    token = mint("liam", jti=jti, edge=guarded.edge)
    other = mint("liam", jti=ABSENT, edge=guarded.edge, marked=1)
    assert post(guarded, REVOKE, token, token=token).status == 200
    assert [allowed(guarded, one) for one in (token, other)] == [401, 200]


def test_revocation_reaches_every_gateway(guarded: Gateway, loose: Gateway) -> None:
    """Gateways that share a database learn of it within seconds: workers of one, or several of them."""
    token = mint("niaj")
    assert [allowed(gateway, token) for gateway in (guarded, loose)] == [200, 200]
    assert post(guarded, REVOKE, token, token=token).status == 200
    deadline = time.monotonic() + 20
    while allowed(loose, token) == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert allowed(loose, token) == 401


def test_revocation_survives_a_restart(
    kept: Kept, users: Path, guarded_upstreams: Upstreams, tmp_path: Path
) -> None:
    """A gateway that starts later knows what was taken back before: it is never let in again."""
    token = mint("olga")
    assert post(kept.at("fast"), REVOKE, token, token=token).status == 200
    later = Gateway("fast", configuration(guarded_upstreams, users), tmp_path)
    try:
        later.wait_ready()
        assert guarded_upstreams.main.wait(lambda: ask(later.port, target="/readyz").status == 200)
        assert [allowed(later, one) for one in (token, mint("olga"))] == [401, 200]
    finally:
        later.kill()


def test_revoking_by_another_token(guarded: Gateway) -> None:
    """Any good token of the same user will do; the one that did it stays."""
    first, second = mint("frank"), mint("frank")
    assert post(guarded, REVOKE, first, token=second, token_type_hint="access_token").status == 200
    assert [allowed(guarded, token) for token in (first, second)] == [200, 401]


def test_nobody_revokes_what_is_not_theirs(guarded: Gateway) -> None:
    """Somebody else's token: 403, and it goes on working; admin may; nobody at all is 401."""
    theirs = mint("grace")
    check_refused(post(guarded, REVOKE, token=theirs))
    check_refused(post(guarded, REVOKE, mint("mallory"), token=theirs), 403)
    assert allowed(guarded, theirs) == 200
    assert post(guarded, REVOKE, mint("root", scope="admin"), token=theirs).status == 200
    assert allowed(guarded, theirs) == 401


def test_revoking_nothing(guarded: Gateway) -> None:
    """A token that is none is as good as revoked (RFC 7009, 2.2); a missing one is a bad request."""
    mine = mint("heidi")
    for token in ("no-such-token-8Kq", mint("heidi", exp=1), mint("heidi", secret="x" * 64)):
        assert post(guarded, REVOKE, mine, token=token).status == 200
    answer = post(guarded, REVOKE, mine, other="x")
    assert (answer.status, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert allowed(guarded, mine) == 200


def test_old_token_does_not_hinder_a_login(guarded: Gateway) -> None:
    """A token that has expired, sent along by habit, keeps nobody from logging in, nor out again."""
    old = mint("bob", exp=int(time.time()) - 10)
    session = post(guarded, TOKEN, old, username="bob", password=PASSWORDS["bob"]).json()
    answer = post(guarded, REVOKE, session["access_token"], token=session["refresh_token"])
    assert answer.status == 200
    check_refused(refresh(guarded, session["refresh_token"]))


def test_all_tokens_of_somebody(guarded: Gateway) -> None:
    """An admin ends everything that a user holds by now; what they get later works."""
    before = mint("ivan", iat=int(time.time()) - 5)
    admin = mint("root", scope="admin")
    check_refused(post(guarded, REVOKE, mint("kevin"), subject="root"), 403)
    assert post(guarded, REVOKE, admin, subject="ivan").status == 200
    assert allowed(guarded, before) == 401
    assert allowed(guarded, mint("ivan", iat=int(time.time()) + 1, nbf=ABSENT)) in (200, 401)
    assert allowed(guarded, mint("judy", iat=int(time.time()) - 5)) == 200


def test_introspection(guarded: Gateway) -> None:
    """An admin learns what a token is worth (RFC 7662): its claims, or that it is not active."""
    admin = mint("root", scope="admin")
    session = log_in(guarded)
    said = post(guarded, INTROSPECT, admin, token=session["access_token"]).json()
    assert (said["active"], said["sub"], said["exp"]) == (True, "alice", claims_of(session)["exp"])
    assert set(said["scope"].split(" ")) == {"read", "write"}
    post(guarded, REVOKE, admin, token=session["access_token"])
    bad = [session["access_token"], "no-such-token-5Vb", mint(exp=1), mint(secret="y" * 64)]
    for token in bad:
        answer = post(guarded, INTROSPECT, admin, token=token)
        assert (answer.status, answer.json()) == (200, {"active": False})


def test_introspection_is_for_admins(guarded: Gateway) -> None:
    """Nobody else may ask, not even about their own token."""
    mine = mint("kim", scope="read write")
    check_refused(post(guarded, INTROSPECT, token=mine))
    check_refused(post(guarded, INTROSPECT, mine, token=mine), 403)


def test_guesses_are_limited(loose: Gateway) -> None:
    """Ten requests a minute from one address: the eleventh is 429, whoever is named; others go on."""

    def guess(address: str, **fields: str) -> Answer:
        headers = [FORM, ("X-Forwarded-For", address), ("Origin", "https://page.example")]
        return ask(loose.port, "POST", TOKEN, headers, urlencode(fields).encode())

    # Without a password they are refused before anything is hashed, and count all the same.
    here = [guess("203.0.113.7", username=f"user-{number}") for number in range(10)]
    assert {answer.status for answer in here} == {422}
    limited = guess("203.0.113.7", username="alice", password=PASSWORDS["alice"])
    assert (limited.status, limited.json()["error"]["code"]) == (429, "RATE_LIMIT")
    assert re.fullmatch("[1-9][0-9]*", limited.get("retry-after") or "")
    assert limited.get("access-control-allow-origin") == "*"
    assert limited.get("cache-control") == "no-store"
    assert limited.get("x-error-source") == "gateway"
    assert guess("203.0.113.8", username="bob", password=PASSWORDS["bob"]).status == 200
    # A host has a whole network of addresses under IPv6: changing them is no way out of it.
    there = [guess(f"2001:db8::{number:x}", username="alice").status for number in range(1, 12)]
    assert there == [422] * 10 + [429]
    assert guess("2001:db8:0:1::1", username="alice").status == 422
    # An address that the client makes up in front of its own is not its own.
    assert guess("198.51.100.1, 203.0.113.7", username="alice").status == 429
    assert (
        ask(loose.port, target="/livez", headers=[("X-Forwarded-For", "203.0.113.7")]).status == 200
    )


ON = {"jwt": {"secret": SECRET}}
STOPPED: dict[str, dict[str, Any]] = {
    "disabled": {**ON, "tokens": {"enabled": False}},
    "nothing to sign with": {"jwt": {"jwks_url": "http://127.0.0.1:9/keys"}},
    "nothing at all": {},
}


class Reloaded:
    """A gateway in this process that is reloaded, and what it says of that."""

    def __init__(self, folder: Path, database: Path, auth: dict[str, Any]) -> None:
        self.file = folder / "propylon.yaml"
        self.database = database
        self.write(auth)
        self.gateway = Propylon.from_file(self.file, {})
        self.transport = httpx.ASGITransport(self.gateway.asgi)

    def write(self, auth: dict[str, Any]) -> None:
        """Write the file."""
        tokens = {**auth.get("tokens", {}), "database": f"sqlite:///{self.database}"}
        self.file.write_text(yaml.safe_dump({"auth": {**auth, "tokens": tokens}}))

    def reload(self, auth: dict[str, Any]) -> None:
        """Put another configuration in force."""
        self.write(auth)
        self.gateway.reload()

    async def post(self, **form: str) -> httpx.Response:
        """Ask for a token."""
        async with httpx.AsyncClient(transport=self.transport, base_url="http://gw") as client:
            return await client.post(TOKEN, data=form)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What the gateway in this process logs; its logger passes nothing on."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("propylon")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


@pytest.mark.parametrize("why", STOPPED)
def test_a_reload_ends_it(users: Path, tmp_path: Path, heard: list[str], why: str) -> None:
    """From then on nobody gets a token for a password or a refresh token, and the log says so."""
    reloaded = Reloaded(tmp_path, users, ON)
    login = {"username": "alice", "password": PASSWORDS["alice"]}

    async def asked() -> None:
        async with reloaded.gateway.lifespan():
            first = await reloaded.post(**login)
            assert first.status_code == 200
            again = {"grant_type": "refresh_token", "refresh_token": first.json()["refresh_token"]}
            reloaded.reload(STOPPED[why])
            for form in (login, again, {**login, "password": WRONG}):
                answer = await reloaded.post(**form)
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
            ended = [
                said for said in heard if said.startswith("reload: no more tokens are given out")
            ]
            assert len(ended) == 1
            reloaded.reload(STOPPED[why])
            assert [said for said in heard if said.startswith("reload: no more")] == ended
            reloaded.reload(ON)
            # It took nothing back, either.
            assert (await reloaded.post(**again)).status_code == 200
            assert "reload: tokens are given out again" in heard

    asyncio.run(asked())
    assert [said for said in heard if "next start" in said] == []


def test_a_reload_does_not_begin_it(users: Path, tmp_path: Path, heard: list[str]) -> None:
    """What was not there at the start is there with the next one, and the log says so."""
    reloaded = Reloaded(tmp_path, users, STOPPED["disabled"])

    async def asked() -> None:
        async with reloaded.gateway.lifespan():
            assert [said for said in heard if said.startswith("reload")] == []
            reloaded.reload(ON)
            answer = await reloaded.post(username="alice", password=PASSWORDS["alice"])
            assert answer.status_code == 404

    asyncio.run(asked())
    assert "reload: auth.tokens.enabled takes effect with the next start" in heard


def test_passwords_are_not_kept(users: Path) -> None:
    """The database holds no password and no token as it is."""
    held = b"".join(file.read_bytes() for file in users.parent.glob("users.db*"))
    assert [name for name, word in PASSWORDS.items() if word.encode() in held] == []
    assert b"$argon2id$" in held
