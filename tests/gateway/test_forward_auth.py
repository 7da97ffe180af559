"""`forward_auth`: a service decides about each request, over real sockets, on both edges."""

import itertools
from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.guarded import Kept
from tests.support.sockets import agree, handshake
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Upstream

LATE = "300ms"
# What answers badly, by the path at which it is asked; and the reason in the log.
HOSTILE = {
    "hang": (answers.hang, "UpstreamTimeout"),
    "drip": (answers.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", end=answers.keep), "Timeout"),
    "huge": (answers.plain(body=b"x" * 70_000), "BadResponse"),
    "heads": (answers.raw(b"HTTP/1.1 200 OK\r\nX-User: " + b"x" * 100_000), "BadResponse"),
    "crlf": (answers.raw(b"HTTP/1.1 200 OK\r\nX-User: ann\rX-Admin: 1\r\nContent-Length: 0\r\n\r\n"), "BadResponse"),
    "nul": (answers.raw(b"HTTP/1.1 200 OK\r\nX-User: a\0b\r\nContent-Length: 0\r\n\r\n"), "BadResponse"),
    "switch": (answers.raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), "BadResponse"),
    "ssh": (answers.raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "BadResponse"),
    "cut": (answers.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", end=answers.close), "UpstreamReset"),
    "failing": (answers.plain("500 Internal Server Error", body=b"a secret trace"), "answered 500"),
    "unmodified": (answers.plain("304 Not Modified"), "answered 304"),
}  # fmt: skip


def decide(peer: Peer, arrived: Arrived) -> None:
    """Decide as nginx's and Traefik's users have it: by a cookie, else send the client to a login."""
    cookie = arrived.get("cookie") or ""
    if "session=ann" in cookie:
        lines = ["X-User: ann", "X-Groups: staff", "X-Groups: sales", "X-User-Id: 7"]
        lines += ["Authorization: Bearer inner", "Set-Cookie: session=ann2", "Set-Cookie: other=1"]
        answers.plain(headers=[*lines, "Connection: X-Hop", "X-Hop: 1"], body=b"ok")(peer, arrived)
    elif "session=mute" in cookie:
        answers.plain("204 No Content")(peer, arrived)
    elif "session=bad" in cookie:
        lines = ["WWW-Authenticate: Bearer", "X-Why: expired", "Connection: X-Hop", "X-Hop: 1"]
        answers.plain("401 Unauthorized", lines, b"expired")(peer, arrived)
    else:
        location = f"Location: http://login.example/?rd={arrived.get('x-original-url')}"
        answers.plain("302 Found", [location, "Set-Cookie: csrf=1"], b"to the login")(peer, arrived)


def configuration(service: int, decider: int, dead: int) -> Config:
    """Routes that ask, each in its own way."""
    at = f"http://127.0.0.1:{decider}"
    usual = {
        "url": f"{at}/verify?rd=1",
        "headers": ["X-User", "X-Groups", "X-User-Id"],
        "request_headers": ["X-Api-Key"],
    }
    asking = {"service": "pages", "auth": "none"}
    return {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "services": {"pages": {"url": f"http://127.0.0.1:{service}"}},
        "routes": [
            {"name": "asked", "path": "/asked", "forward_auth": usual, **asking},
            {"name": "exchange", "path": "/exchange", **asking,
             "forward_auth": {"url": f"{at}/verify", "headers": ["Authorization"], "cookies": ["session"]}},
            {"name": "templated", "path": "/templated", "forward_auth": usual, **asking,
             "headers": {"request": {"set": {"X-Seen": "{header.X-User}"}}}},
            {"name": "both", "path": "/both", "service": "pages", "scopes": ["read"],
             "forward_auth": {"url": f"{at}/verify", "headers": ["X-User"]}},
            {"name": "cached", "path": "/cached", "forward_auth": usual, **asking,
             "cache": {"ttl": "1h", "by": "everyone"}, "coalesce": True},
            {"name": "fixed", "path": "/fixed", "auth": "none", "forward_auth": usual, "respond": {"body": "hi"}},
            {"name": "cors", "path": "/cors", "forward_auth": usual, **asking,
             "cors": {"origins": ["https://app.example"]}},
            {"name": "passing", "path": "/passing", "forward_auth": usual, **asking, "preflight": "pass"},
            {"name": "down", "path": "/down", **asking,
             "forward_auth": {"url": f"http://127.0.0.1:{dead}/"}},
            {"name": "open", "path": "/open", **asking,
             "forward_auth": {"url": f"http://127.0.0.1:{dead}/", "on_failure": "open", "timeout": 2}},
            {"name": "free", "path": "/free", **asking},
            *({"name": name, "path": f"/hostile/{name}", **asking,
               "forward_auth": {"url": f"{at}/{name}", "timeout": LATE, "headers": ["X-User"]}} for name in HOSTILE),
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """The service behind all routes."""
    with Upstream(identified=True, upgrades=True, fallback=answers.plain(body=b"ok")) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def decider() -> Iterator[Upstream]:
    """The service that decides."""
    with Upstream(fallback=decide) as upstream:
        for name, (script, _) in HOSTILE.items():
            upstream.on(f"/{name}", script)
        yield upstream


@pytest.fixture(scope="module")
def kept(
    behind: Upstream, decider: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway on each edge."""
    config = configuration(behind.port, decider.port, free_port())
    found = Kept(EDGES, tmp_path_factory.mktemp("forward_auth"), config)
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on that edge."""
    return kept.at(edge)


ANN = ("Cookie", "theme=dark; session=ann")
_numbers = itertools.count()


def get(gateway: Gateway, target: str, *lines: tuple[str, str], method: str = "GET") -> Answer:
    """Ask for a page."""
    return ask(gateway.port, method, target, lines)


def test_the_question(gateway: Gateway, decider: Upstream) -> None:
    """GET without a body, with what the client asked for, its credentials and the headers that are named."""
    target = f"/asked/a%2Fb?x=1&n={next(_numbers)}"
    lines = [
        ANN,
        ("Authorization", "Basic YTpi"),
        ("X-Api-Key", "k1"),
        ("X-Secret", "s"),
        ("Accept", "text/html"),
    ]
    forged = [
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/free"),
        ("X-Original-Method", "GET"),
    ]
    told = [
        ("X-Forwarded-For", "203.0.113.9, 198.51.100.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
    ]
    answer = ask(gateway.port, "POST", target, [*lines, *forged, *told], b"a body")  # fmt: skip
    assert answer.status == 200
    asked = next(one for one in decider.requests if one.get("x-forwarded-uri") == target)
    assert (asked.method, asked.target, asked.length) == ("GET", b"/verify?rd=1", 0)
    assert {name: asked.get(name) for name in asked.names} == {
        "host": f"127.0.0.1:{decider.port}",
        "user-agent": "propylon",
        "cookie": ANN[1],
        "authorization": "Basic YTpi",
        "x-api-key": "k1",
        "x-forwarded-method": "POST",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "shop.example",
        "x-forwarded-uri": target,
        "x-forwarded-for": "198.51.100.7",
        "x-original-method": "POST",
        "x-original-url": f"https://shop.example{target}",
        "x-request-id": answer.get("x-request-id"),
    }


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_good_answer(gateway: Gateway, behind: Upstream, method: str) -> None:
    """The service gets the headers that are named, and none of them from the client; the client gets no cookie."""
    forged = [("X-User", "root"), ("x_groups", "root"), ("X-User-Id", "1"), ("X.User", "root")]
    answer = get(gateway, "/asked/1", ANN, *forged, method=method)
    assert (answer.status, answer.all("set-cookie")) == (200, [])
    arrived = behind.of(answer)
    assert arrived.all("x-user") == [b"ann"]
    assert arrived.all("x-groups") == [b"staff, sales"]
    assert arrived.all("x-user-id") == [b"7"]
    assert arrived.get("cookie") == ANN[1]
    assert not {"x_groups", "x.user", "x-hop", "x-original-url"} & arrived.names


def test_what_is_not_said_is_not_believed(gateway: Gateway, behind: Upstream) -> None:
    """A 204 without headers: the client's own are removed all the same, and on a route that asks nobody."""
    forged = [("X-User", "root"), ("X-Groups", "root"), ("X-User-Id", "1")]
    for target, cookie in (("/asked", "session=mute"), ("/free", "a=b")):
        answer = get(gateway, target, ("Cookie", cookie), *forged)
        assert answer.status == 200
        assert not {"x-user", "x-groups", "x-user-id"} & behind.of(answer).names


def test_a_template_has_what_was_said(gateway: Gateway, behind: Upstream) -> None:
    """`{header.X-User}` is the answer's, and nothing where the answer has none; never the client's."""
    for cookie, seen in ((ANN, "ann"), (("Cookie", "session=mute"), None)):
        answer = get(gateway, "/templated", cookie, ("X-User", "root"), ("X-Seen", "root"))
        assert behind.of(answer).get("x-seen") == seen


def test_credentials_are_exchanged(gateway: Gateway, behind: Upstream) -> None:
    """The answer's Authorization replaces the client's; a cookie that is named reaches the client."""
    answer = get(gateway, "/exchange", ANN, ("Authorization", "Bearer mine"))
    assert behind.of(answer).get("authorization") == "Bearer inner"
    assert answer.all("set-cookie") == [b"session=ann2"]
    answer = get(gateway, "/exchange", ("Cookie", "session=mute"), ("Authorization", "Bearer mine"))
    assert (answer.status, behind.of(answer).get("authorization")) == (200, None)
    answer = get(gateway, "/free", ("Authorization", "Bearer mine"))
    assert behind.of(answer).get("authorization") == "Bearer mine"


@pytest.mark.parametrize("target", ["/asked", "/fixed", "/cached"])
def test_any_other_answer_goes_to_the_client(
    gateway: Gateway, behind: Upstream, target: str
) -> None:
    """Status, body and headers, without those of the connection; the service hears nothing; the log has it."""
    before = len(behind.requests)
    answer = get(gateway, target, ("Cookie", "session=bad"))
    assert (answer.status, answer.body) == (401, b"expired")
    assert (answer.get("www-authenticate"), answer.get("x-why")) == ("Bearer", "expired")
    assert answer.get("x-hop") is None
    record = gateway.record(answer)
    assert (record["status"], record["flags"], record["attempts"]) == (401, ["auth_refused"], 0)
    for method in ("GET", "HEAD"):
        answer = get(gateway, f"{target}?a=1", method=method)
        assert answer.status == 302
        assert answer.get("location") == f"http://login.example/?rd=http://gw.test{target}?a=1"
        assert answer.all("set-cookie") == [b"csrf=1"]
        assert answer.body == (b"to the login" if method == "GET" else b"")
    assert len(behind.requests) == before


def test_a_token_and_a_question(gateway: Gateway, behind: Upstream, decider: Upstream) -> None:
    """Both must be good; who has no token is not asked about."""
    before = len(decider.requests)
    assert get(gateway, "/both", ANN).status == 401
    assert len(decider.requests) == before
    (token,) = authorized("42", scope="read")
    answer = get(gateway, "/both", ANN, token)
    arrived = behind.of(answer)
    assert (arrived.get("x-user"), arrived.get("x-user-id")) == ("ann", "42")
    assert get(gateway, "/both", ("Cookie", "session=bad"), token).status == 401


def test_a_stored_answer_is_not_given_without_asking(
    gateway: Gateway, behind: Upstream, decider: Upstream
) -> None:
    """Each request is a question; and answers that were made for other headers are other answers."""
    target = f"/cached/{next(_numbers)}"
    first, second = get(gateway, target, ANN), get(gateway, target, ANN)
    assert "hit" in (second.get("cache-status") or "")
    assert first.body == second.body == b"ok"
    assert get(gateway, target, ("Cookie", "session=bad")).status == 401
    mute = get(gateway, target, ("Cookie", "session=mute"))
    assert "hit" not in (mute.get("cache-status") or "")
    asked = [one for one in decider.requests if one.get("x-forwarded-uri") == target]
    came = [one for one in behind.requests if one.target == target.encode()]
    assert (len(asked), [one.get("x-user") for one in came]) == (4, ["ann", None])


def test_preflights_are_not_asked_about(
    gateway: Gateway, behind: Upstream, decider: Upstream
) -> None:
    """The gateway answers them, or the service does; a request that only looks like one is asked about."""
    before = len(decider.requests)
    lines = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT")]
    answer = ask(gateway.port, "OPTIONS", "/cors", lines)
    assert (answer.status, answer.get("access-control-allow-origin")) == (
        204,
        "https://app.example",
    )
    assert ask(gateway.port, "OPTIONS", "/passing", lines).status == 200
    assert len(decider.requests) == before
    assert ask(gateway.port, "OPTIONS", "/passing", lines[:1]).status == 302
    refused = get(gateway, "/cors", ("Origin", "https://app.example"), ("Cookie", "session=bad"))
    assert refused.get("access-control-allow-origin") == "https://app.example"


def test_a_websocket_is_asked_about_before_it_opens(gateway: Gateway, behind: Upstream) -> None:
    """The refusal is the answer to the handshake, and the service hears nothing of it; else it hears who is there."""
    before = len(behind.requests)
    behind.on("/asked/ws", agree)
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/asked/ws", [("Cookie", "session=bad")])).read()
        assert (answer.status, len(behind.requests)) == (401, before)
    with RawClient(gateway.port) as client:
        answer = client.send(handshake("/asked/ws", [ANN, ("X-User", "root")])).read()
        assert answer.status == 101
        assert behind.of(answer).all("x-user") == [b"ann"]


def test_nobody_answers(gateway: Gateway, behind: Upstream) -> None:
    """503 by default, whatever the client sends, and soon without a question; with `open` it passes, and the log says so."""
    before = len(behind.requests)
    found = [get(gateway, "/down", ANN) for _ in range(8)]
    assert {answer.status for answer in found} == {503}
    assert found[0].json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert "127.0.0.1" not in found[0].body.decode()
    assert "ConnectFailed" in gateway.record(found[0])["error"]
    assert len(behind.requests) == before
    answer = get(gateway, "/open", ("X-User", "root"))
    assert (answer.status, behind.of(answer).get("x-user")) == (200, None)
    assert gateway.record(answer)["flags"] == ["auth_open"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_no_permission(gateway: Gateway, behind: Upstream, name: str) -> None:
    """503, nothing of the answer, nothing at the service; the reason is in the log."""
    before = len(behind.requests)
    answer = get(gateway, f"/hostile/{name}", ANN)
    assert (answer.status, answer.complete) == (503, True)
    assert b"secret" not in answer.body
    assert HOSTILE[name][1] in gateway.record(answer)["error"]
    assert len(behind.requests) == before


def test_it_is_counted_and_explained(gateway: Gateway) -> None:
    """The metric has a number for each result; an explanation has what was said."""
    (token,) = authorized("op", scope="explain")
    why = ("X-Propylon-Explain", "1")
    told = get(gateway, "/asked", ANN, token, why).get("x-propylon-explain") or ""
    assert "lets it pass" in told
    told = (
        get(gateway, "/asked", ("Cookie", "session=bad"), token, why).get("x-propylon-explain")
        or ""
    )
    assert "401 REFUSED" in told
    assert "not reached" in told
    told = get(gateway, "/hostile/failing", ANN, token, why).get("x-propylon-explain") or ""
    assert "answered 500" in told
    text = get(gateway, "/metrics").body.decode()
    assert 'propylon_forward_auth_total{result="refused",route="asked"}' in text
    assert 'propylon_forward_auth_total{result="failed",route="failing"}' in text
