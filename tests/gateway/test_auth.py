"""Who gets in: a good token, brought as it should be, and nobody else."""

import time
from collections.abc import Callable

import pytest

from tests.support.client import Answer, RawClient, ask, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.tokens import BAD_CREDENTIALS, BAD_TOKENS, authorized, bearer, mint
from tests.support.upstream import Upstream

PROBLEM = ("Accept", "application/problem+json")
IDENTITY = ("x-user-id", "x-user-email", "x-user-roles", "x-user-scopes")


def check_refused(answer: Answer, status: int = 401) -> None:
    """Assert that it is the envelope of an AUTH_ERROR, with everything that belongs to it."""
    assert answer.status == status, answer.body
    assert answer.complete
    body = answer.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == "AUTH_ERROR"
    assert body["request_id"] == answer.get("x-request-id")
    assert (answer.get("content-type") or "").split(";")[0] == "application/json"
    assert answer.get("cache-control") == "no-store"
    assert answer.get("x-error-source") == "gateway"
    assert (answer.get("www-authenticate") or "").split(" ")[0] == "Bearer"


def test_no_token_is_401(guarded: Gateway, behind: Upstream) -> None:
    """Without a token: 401 that asks for one, without an error code (RFC 6750, 3.1), nothing sent."""
    answer = ask(guarded.port, target="/locked/x")
    check_refused(answer)
    assert "error" not in (answer.get("www-authenticate") or "")
    assert behind.raw == b""


def test_good_token_is_let_in(guarded: Gateway, behind: Upstream) -> None:
    """A good token: the upstream is asked, the record names who it was."""
    answer = ask(guarded.port, target="/locked/x", headers=authorized("42"))
    assert answer.status == 200
    assert [arrived.target for arrived in behind.requests] == [b"/locked/x"]
    assert guarded.record(answer)["principal"] == "42"


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_bad_token_is_401(guarded: Gateway, behind: Upstream, name: str) -> None:
    """A bad token is 401 where one is required and where it is optional; nothing reaches anybody."""
    token = BAD_TOKENS[name]()
    for path in ("/locked", "/maybe"):
        answer = ask(guarded.port, target=path, headers=bearer(token))
        check_refused(answer)
        assert 'error="invalid_token"' in (answer.get("www-authenticate") or "")
        assert token.encode() not in answer.head + answer.body
    assert behind.raw == b""


@pytest.mark.parametrize("name", BAD_CREDENTIALS)
def test_bad_credentials_are_401(guarded: Gateway, behind: Upstream, name: str) -> None:
    """Another scheme, no value, two values: 401, although a good token is among them."""
    sent = [("Authorization", value) for value in BAD_CREDENTIALS[name](mint())]
    for path in ("/locked", "/maybe"):
        check_refused(ask(guarded.port, target=path, headers=sent))
    assert behind.raw == b""


@pytest.mark.parametrize("path", ["/locked", "/maybe"])
def test_expired_token_is_told_so(guarded: Gateway, behind: Upstream, path: str) -> None:
    """Of all that can be wrong, only that a token has expired is told, so that it is renewed."""
    answer = ask(guarded.port, target=path, headers=bearer(BAD_TOKENS["expired"]()))
    assert answer.json()["error"]["message"] == "Token has expired"


def test_forger_is_told_nothing(guarded: Gateway, behind: Upstream) -> None:
    """Whatever else is wrong with a token, the answer is the same: it helps no forger."""
    told = set()
    for name, token in BAD_TOKENS.items():
        if name != "expired":
            answer = ask(guarded.port, target="/locked", headers=bearer(token()))
            told.add((answer.get("www-authenticate"), str(answer.json()["error"])))
    assert len(told) == 1, told
    assert "expired" not in str(told)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_scheme_is_read_in_any_case(guarded: Gateway, behind: Upstream, scheme: str) -> None:
    """The name of the scheme is not case-sensitive (RFC 9110, 11.1)."""
    headers = [("authorization", f"{scheme} {mint()}")]
    assert ask(guarded.port, target="/locked", headers=headers).status == 200


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_header_is_read_in_any_case(guarded: Gateway, behind: Upstream, name: str) -> None:
    """So is the name of the header; in another case a second one is still a second one."""
    good = f"Bearer {mint()}"
    assert ask(guarded.port, target="/locked", headers=[(name, good)]).status == 200
    both = [("aUTHORIZATION", "Bearer x"), (name, good)]
    assert ask(guarded.port, target="/locked", headers=both).status == 401


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/open", list, 200),
        ("/open", authorized, 200),
        ("/open", lambda: bearer(BAD_TOKENS["expired"]()), 200),
        ("/open", lambda: bearer(BAD_TOKENS["garbage"]()), 200),
        ("/maybe", list, 200),
        ("/maybe", authorized, 200),
        ("/maybe", lambda: bearer(BAD_TOKENS["expired"]()), 401),
        ("/maybe", lambda: bearer(BAD_TOKENS["garbage"]()), 401),
        ("/locked", list, 401),
        ("/locked", authorized, 200),
        ("/locked", lambda: bearer(BAD_TOKENS["expired"]()), 401),
        ("/locked", lambda: bearer(BAD_TOKENS["garbage"]()), 401),
    ],
)
def test_none_optional_required(
    guarded: Gateway,
    behind: Upstream,
    path: str,
    headers: Callable[[], list[tuple[str, str]]],
    status: int,
) -> None:
    """With `none` tokens are not looked at; `optional` takes a good one or none; `required` wants one."""
    assert ask(guarded.port, target=path, headers=headers()).status == status
    assert len(behind.requests) == (status == 200)


def test_optional_knows_who_brought_a_token(guarded: Gateway, behind: Upstream) -> None:
    """With a token an optional route tells the upstream who it is, without one nobody."""
    ask(guarded.port, target="/maybe", headers=authorized("42"))
    assert behind.last.get("x-user-id") == "42"
    ask(guarded.port, target="/maybe")
    assert [name for name in IDENTITY if name in behind.last.names] == []


def test_none_does_not_look(guarded: Gateway, behind: Upstream) -> None:
    """Where no token is looked at, none makes an identity, and what was sent passes as it is."""
    token = mint("42", roles=["admin"])
    ask(guarded.port, target="/open", headers=bearer(token))
    assert [name for name in IDENTITY if name in behind.last.names] == []
    assert behind.last.get("authorization") == f"Bearer {token}"


@pytest.mark.parametrize(
    "place",
    [
        lambda token: ("/locked?token=" + token, []),
        lambda token: ("/locked?access_token=" + token, []),
        lambda token: ("/locked", [("Cookie", f"token={token}; access_token={token}")]),
        lambda token: ("/locked", [("Proxy-Authorization", f"Bearer {token}")]),
        lambda token: ("/locked", [("X-Authorization", f"Bearer {token}")]),
        lambda token: ("/locked", [("X-Access-Token", token)]),
        lambda token: ("/locked", [("Sec-WebSocket-Protocol", f"bearer.{token}")]),
    ],
    ids=["token", "access_token", "cookie", "proxy", "x-authorization", "x-token", "protocol"],
)
def test_token_in_another_place_is_none(
    guarded: Gateway,
    behind: Upstream,
    place: Callable[[str], tuple[str, list[tuple[str, str]]]],
) -> None:
    """On an ordinary request only Authorization brings a token: not a query, cookie or other header."""
    target, headers = place(mint())
    check_refused(ask(guarded.port, target=target, headers=headers))
    assert behind.raw == b""


@pytest.mark.parametrize("spelling", ["Authorization_", "authori_zation", "X_Authorization"])
def test_underscore_is_no_authorization(guarded: Gateway, behind: Upstream, spelling: str) -> None:
    """A header that only looks like Authorization lets nobody in."""
    check_refused(ask(guarded.port, target="/locked", headers=[(spelling, f"Bearer {mint()}")]))


def test_token_of_nine_kilobytes_is_401(guarded: Gateway, behind: Upstream) -> None:
    """A token above 8 KiB is refused as a token, not as a head: a smaller one would pass."""
    large = mint(padding="p4dD1nG_" * 840)
    assert len(large) > 8192
    check_refused(ask(guarded.port, target="/locked", headers=bearer(large)))
    small = mint(padding="p4dD1nG_" * 600)
    assert ask(guarded.port, target="/locked", headers=bearer(small)).status == 200


def test_token_does_not_outlive_itself(guarded: Gateway, behind: Upstream) -> None:
    """A token that was remembered as good is refused as soon as it expires, on the same connection."""
    lasts = 0.4
    while not behind.requests:  # a busy machine may come too late with it
        lasts *= 2
        expires = time.time() + lasts
        sent = request(target="/locked", headers=bearer(mint(exp=expires)))
        with RawClient(guarded.port) as client:
            begun = time.time()
            while (answer := client.send(sent).read()).status == 200:
                assert begun < expires
                time.sleep(0.05)
                begun = time.time()
        assert (answer.status, answer.json()["error"]["message"]) == (401, "Token has expired")
        assert time.time() >= expires


def test_each_request_brings_its_own(guarded: Gateway, behind: Upstream) -> None:
    """On one connection every request is judged by its own token, not by one that came before."""
    alice, bob = mint("alice"), mint("bob")
    seen = []
    with RawClient(guarded.port) as client:
        for headers in (bearer(alice), [], bearer(bob), bearer("bad-token-9x7"), bearer(alice)):
            seen.append(client.send(request(target="/locked", headers=headers)).read().status)
    assert seen == [200, 401, 200, 401, 200]
    assert [arrived.get("x-user-id") for arrived in behind.requests] == ["alice", "bob", "alice"]


def test_pipelined_requests_bring_their_own(guarded: Gateway, behind: Upstream) -> None:
    """The same, when all of them are sent at once."""
    sent = [authorized("alice"), [], authorized("bob"), bearer(BAD_TOKENS["other-key"]()), []]
    with RawClient(guarded.port) as client:
        client.send(b"".join(request(target="/locked", headers=headers) for headers in sent))
        assert [client.read().status for _ in sent] == [200, 401, 200, 401, 401]
    assert [arrived.get("x-user-id") for arrived in behind.requests] == ["alice", "bob"]


def test_token_of_a_prefix_is_another_token(guarded: Gateway, behind: Upstream) -> None:
    """What is like a remembered token, but for its end or its beginning, is not that token."""
    good = mint()
    assert ask(guarded.port, target="/locked", headers=bearer(good)).status == 200
    other = "A" if good[-2] != "A" else "B"
    for bad in (good[:-1], good + "A", good[:-2] + other + good[-1], good[1:], good.swapcase()):
        check_refused(ask(guarded.port, target="/locked", headers=bearer(bad)))


def test_refused_upload_is_not_sent_on(guarded: Gateway, behind: Upstream) -> None:
    """A body that comes without a token is never forwarded, and the connection goes on or ends."""
    answer = ask(guarded.port, "POST", "/locked", body=b"x" * 100_000)
    check_refused(answer)
    assert behind.raw == b""


def test_body_of_a_refused_request_is_no_request(guarded: Gateway, behind: Upstream) -> None:
    """What stands in the body of a refused request is never taken for the next request."""
    inner = request(target="/open/SMUGGLED")
    with RawClient(guarded.port) as client:
        client.send(request("POST", "/locked", body=inner))
        check_refused(client.read("POST"))
        client.send(request(target="/open/next", headers=[("Connection", "close")]))
        rest = client.rest()
    assert b"SMUGGLED" not in behind.raw
    assert rest.count(b"HTTP/1.1 ") <= 1


def test_expectation_without_a_token(guarded: Gateway, behind: Upstream) -> None:
    """Expect: 100-continue without a token: 401 at once, the body is not asked for."""
    headers = [("Expect", "100-continue"), ("Content-Length", "10")]
    with RawClient(guarded.port) as client:
        answer = client.send(request("POST", "/locked", headers)).read("POST")
    check_refused(answer)
    if not excused(guarded.edge, "expect"):
        assert answer.interim == []


@pytest.mark.parametrize("headers", [[], [("Authorization", "Bearer no-such-token-1z")]])
def test_head_is_refused_without_a_body(
    guarded: Gateway, behind: Upstream, headers: list[tuple[str, str]]
) -> None:
    """HEAD gets the status and the headers of the 401, and not a byte of body."""
    with RawClient(guarded.port) as client:
        answer = client.send(request("HEAD", "/locked", headers)).read("HEAD")
        assert (answer.status, answer.get("cache-control")) == (401, "no-store")
        assert (answer.get("www-authenticate") or "").startswith("Bearer")
        assert client.send(request(target="/open")).read().status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_every_method_needs_a_token(guarded: Gateway, behind: Upstream, method: str) -> None:
    """No method gets past without a token; OPTIONS neither, unless it is a preflight."""
    assert ask(guarded.port, method, "/locked").status in (401, 405, 501, 400)
    assert behind.raw == b""


@pytest.mark.parametrize(
    ("headers", "status"), [(list, 401), (lambda: authorized(scope="write"), 403)]
)
def test_problem_json_for_those_who_ask(
    guarded: Gateway,
    behind: Upstream,
    headers: Callable[[], list[tuple[str, str]]],
    status: int,
) -> None:
    """With Accept: application/problem+json the refusal comes as RFC 9457 has it."""
    answer = ask(guarded.port, target="/read", headers=[*headers(), PROBLEM])
    body = answer.json()
    assert (answer.status, body["status"], body["code"]) == (status, status, "AUTH_ERROR")
    assert (answer.get("content-type") or "").split(";")[0] == "application/problem+json"
    assert (answer.get("www-authenticate") or "").startswith("Bearer")
    assert answer.get("cache-control") == "no-store"


def test_refusal_is_recorded(guarded: Gateway, behind: Upstream) -> None:
    """A refused token leaves a record with a reason, and with nobody's name."""
    answer = ask(guarded.port, target="/locked", headers=bearer(mint("forger", secret="0" * 64)))
    record = guarded.record(answer)
    assert (record["status"], record["route"]) == (401, "locked")
    assert record["error"]
    assert "forger" not in str(record)


def test_public_paths_of_a_protected_prefix(guarded: Gateway, behind: Upstream) -> None:
    """What is listed as public needs no token, for its methods only; all the rest of it does."""
    assert ask(guarded.port, "POST", "/login").status == 200
    assert ask(guarded.port, "GET", "/login").status == 405
    assert ask(guarded.port, "POST", "/accounts/login").status == 200
    for path in ("/accounts", "/accounts/", "/accounts/login/x", "/accounts/logins", "/accounts/1"):
        check_refused(ask(guarded.port, "POST", path))
    assert [arrived.target for arrived in behind.requests] == [b"/login", b"/accounts/login"]


@pytest.mark.parametrize("path", ["/", "/nowhere", "/lockedx", "/locke", "/api", "/api/v1/nothing"])
def test_path_of_nobody_is_never_public(guarded: Gateway, behind: Upstream, path: str) -> None:
    """A path that stands nowhere is 404, with a token and without."""
    for headers in ([], authorized(scope="admin", roles=["admin"])):
        assert ask(guarded.port, target=path, headers=headers).status == 404
    assert behind.raw == b""
