"""Stored answers, end to end on both edges: what is used again, for whom, and what never is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, authorized
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Peer, Script, Upstream
from tests.support.waiting import wait

ADMIN = authorized("operator", scope="admin")
FRESH = "Cache-Control: max-age=100"
# Stale when it arrives, and not for long.
STALE = ("Cache-Control: max-age=10", "Age: 20")
PURGE = "/api/v1/cache"
_fresh = count()


def cached(name: str, cache: Any, **more: Any) -> dict[str, Any]:
    """A route with a cache."""
    base = {"name": name, "path": f"/{name}", "service": "main", "auth": "none"}
    return {**base, "cache": cache, **more}


def configuration(port: int) -> Config:
    """One route for each kind of cache."""
    url = f"http://127.0.0.1:{port}"
    return {
        "server": {"trusted_proxies": ["127.0.0.2/32"]},
        "auth": {"jwt": {"secret": SECRET}},
        "services": {
            "main": {"url": url, "retry": {"attempts": 1}, "circuit": {"min_throughput": 100_000}}
        },
        "routes": [
            cached("open", {"max_object": "200kB"}),
            cached("ttl", {"ttl": "100s", "ignore_query": ["utm_*"], "vary": ["X-Tier"]}),
            cached("forced", {"ttl": "100s", "respect": False}),
            cached("late", {"stale_while_revalidate": "100s", "stale_if_error": "100s"}),
            cached("known", {"ttl": "100s"}, auth="required"),
            cached("maybe", {"ttl": "100s"}, auth="optional"),
            cached("everyone", {"ttl": "100s", "by": "everyone"}, auth="optional"),
            cached("tenant", {"ttl": "100s", "by": "claim:tenant"}, auth="required"),
            cached("read", {}, methods=["GET", "HEAD"]),
            {"path": "/read", "service": "main", "auth": "none", "methods": ["POST", "DELETE"]},
            {"path": "/together", "service": "main", "auth": "none", "coalesce": True},
            {"path": "/plain", "service": "main", "auth": "none"},
        ],
    }


@pytest.fixture(scope="module")
def gateways(
    guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway with caches on each edge."""
    config = configuration(guarded_upstreams.main.port)
    running = Kept(EDGES, tmp_path_factory.mktemp("caches"), config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def caching(edge: str, gateways: Kept) -> Gateway:
    """The gateway on the edge in turn."""
    return gateways.at(edge)


@pytest.fixture
def up(caching: Gateway, guarded_upstreams: Upstreams) -> Iterator[Upstream]:
    """What stands behind it, with an empty record."""
    guarded_upstreams.reset()
    yield guarded_upstreams.main
    assert guarded_upstreams.faults == []
    assert caching.process.poll() is None, caching.said()


@pytest.fixture
def path() -> Callable[[str], str]:
    """Paths that no other case has."""
    return lambda route: f"/{route}/{next(_fresh)}"


def said(answer: Answer) -> str:
    """What the cache says that it did."""
    return answer.get("cache-status") or ""


def numbered(*headers: str, size: int = 0) -> Script:
    """Answers with a number that grows, so that each is known again."""
    number = count(1)

    def script(peer: Peer, arrived: Arrived) -> None:
        body = b"answer %d" % next(number)
        answers.plain(headers=headers, body=body.ljust(size, b"."))(peer, arrived)

    return script


def mirror(*headers: str) -> Script:
    """Answers that say who asked, and how."""

    def script(peer: Peer, arrived: Arrived) -> None:
        names = (
            "authorization",
            "cookie",
            "x-user-id",
            "x-user-scopes",
            "x-host",
            "x-tier",
            "origin",
        )
        seen = "|".join(f"{name}={arrived.get(name)}" for name in names)
        answers.plain(headers=headers, body=seen.encode())(peer, arrived)

    return script


def together(
    gateway: Gateway, number: int, target: str, headers: Any = (), method: str = "GET"
) -> list[Answer]:
    """The answers to as many requests, all under way at the same time."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(number)]
        for client in clients:  # all are connected before the first one asks
            client.send(request(method, target, headers))
        return [client.read(method) for client in clients]


# Used again


def test_an_answer_is_used_again(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """The second request gets the first one's answer, with its age and with what was done."""
    target = up.on(path("open"), numbered(FRESH, "X-Kept: yes"))
    first = ask(caching.port, target=target)
    second = ask(caching.port, target=target)
    assert (first.body, second.body) == (b"answer 1", b"answer 1")
    assert said(first) == "propylon; fwd=uri-miss; stored"
    assert said(second).startswith("propylon; hit; ttl=")
    assert (first.get("age"), second.get("age")) == (None, "0")
    assert second.get("x-kept") == "yes"
    assert first.get("x-request-id") != second.get("x-request-id")
    assert len(up.requests) == 1
    record = caching.record(second)
    assert (record["flags"], record["attempts"], record["bytes_out"]) == (["cache_hit"], 0, 8)


def test_without_a_cache_nothing_changes(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """A route that does not ask for a cache has none, and says nothing of one."""
    target = up.on(path("plain"), numbered(FRESH))
    bodies = [ask(caching.port, target=target) for _ in range(2)]
    assert [one.body for one in bodies] == [b"answer 1", b"answer 2"]
    assert said(bodies[1]) == ""


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (("Cache-Control: no-store",), "no-store"),
        (("Cache-Control: private, max-age=60",), "private"),
        (("Set-Cookie: a=b", FRESH), "set-cookie"),
        (("Vary: *", FRESH), "vary"),
        (("Vary: X-Forwarded-For", FRESH), "vary"),
        (("Content-Type: text/event-stream", FRESH), "stream"),
    ],
)
@pytest.mark.parametrize("route", ["forced", "everyone"])
def test_what_is_never_stored(
    caching: Gateway,
    up: Upstream,
    path: Callable[[str], str],
    route: str,
    headers: tuple[str, ...],
    why: str,
) -> None:
    """What the service forbids is forbidden, whatever the operator says of ttl; the answer says why."""
    target = up.on(path(route), numbered(*headers))
    answered = [ask(caching.port, target=target) for _ in range(2)]
    assert [one.body for one in answered] == [b"answer 1", b"answer 2"]
    assert said(answered[0]) == f"propylon; fwd=uri-miss; detail={why}"


def test_ttl_is_for_those_who_say_nothing(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """Without a word of the service ttl holds, for good statuses; max-age=0 is a word, unless it is not respected."""
    silent, short = path("ttl"), up.on(path("ttl"), numbered("Cache-Control: max-age=0"))
    up.on(silent, numbered())
    missing = up.on(path("ttl"), answers.plain("404 Not Found", body=b"no"))
    forced = up.on(path("forced"), numbered("Cache-Control: max-age=0"))
    for target, times in ((silent, 1), (short, 2), (missing, 2), (forced, 1)):
        up.requests.clear()
        for _ in range(2):
            ask(caching.port, target=target)
        assert len(up.requests) == times, target


def test_the_query_is_in_the_key_but_for_what_is_ignored(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """Parameters that only count visits do not divide the answers; all others do, and the service gets them all."""
    target = up.on(path("ttl"), numbered())
    bodies = [
        ask(caching.port, target=f"{target}?{query}").body
        for query in ("a=1&utm_x=2", "utm_y=9&a=1", "a=2", "a=1&b=", "b=&a=1")
    ]
    assert bodies == [b"answer 1", b"answer 1", b"answer 2", b"answer 3", b"answer 4"]
    assert up.requests[0].target.endswith(b"?a=1&utm_x=2")


def test_head_is_answered_from_get(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """HEAD gets the head of the stored answer, length included; without one it is asked for, and not stored."""
    target = up.on(path("open"), numbered(FRESH))
    assert ask(caching.port, "HEAD", target).body == b""
    ask(caching.port, target=target)
    answer = ask(caching.port, "HEAD", target)
    assert (answer.status, answer.get("content-length"), answer.body) == (200, "8", b"")
    assert said(answer).startswith("propylon; hit")
    assert [one.method for one in up.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=0-1", 206, b"an"),
        ("bytes=-2", 206, b" 1"),
        ("bytes=7-", 206, b"1"),
        ("bytes=50-", 416, b""),
        ("bytes=0-1,3-4", 200, b"answer 1"),
        ("lines=1-2", 200, b"answer 1"),
    ],
)
def test_ranges_come_from_the_whole_answer(
    caching: Gateway,
    up: Upstream,
    path: Callable[[str], str],
    header: str,
    status: int,
    body: bytes,
) -> None:
    """A part of a stored answer is cut from it; several parts get the whole."""
    target = up.on(path("open"), numbered(FRESH))
    ask(caching.port, target=target)
    answer = ask(caching.port, target=target, headers=[("Range", header)])
    assert (answer.status, answer.body) == (status, body)
    assert len(up.requests) == 1


def test_a_client_that_has_it_gets_a_304(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """A matching condition is answered here, without a body and without asking."""
    target = up.on(path("open"), numbered(FRESH, 'ETag: "one"', "Content-Type: text/plain"))
    ask(caching.port, target=target)
    answer = ask(caching.port, target=target, headers=[("If-None-Match", '"zero", W/"one"')])
    assert (answer.status, answer.body, answer.get("etag")) == (304, b"", '"one"')
    assert answer.get("content-type") is None
    other = ask(caching.port, target=target, headers=[("If-None-Match", '"two"')])
    assert (other.status, other.body, len(up.requests)) == (200, b"answer 1", 1)


def test_a_stale_answer_is_validated(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """The service is asked whether it is still good, and what a 304 says replaces what was stored."""

    def script(peer: Peer, arrived: Arrived) -> None:
        if arrived.get("if-none-match") == '"one"':
            answers.plain("304 Not Modified", (FRESH, 'ETag: "one"', "X-New: yes"))(peer, arrived)
        else:
            answers.plain(headers=(*STALE, 'ETag: "one"'), body=b"whole")(peer, arrived)

    target = up.on(path("open"), script)
    first, second, third = (ask(caching.port, target=target) for _ in range(3))
    assert [one.body for one in (first, second, third)] == [b"whole"] * 3
    assert said(second) == "propylon; fwd=stale; fwd-status=304; stored"
    assert (second.get("x-new"), third.get("x-new")) == ("yes", "yes")
    assert said(third).startswith("propylon; hit")
    assert len(up.requests) == 2


@pytest.mark.parametrize(
    ("headers", "times", "status"),
    [
        ([("Cache-Control", "no-cache")], 2, 200),
        ([("Pragma", "no-cache")], 2, 200),
        ([("Cache-Control", "no-store")], 2, 200),
        ([("Cache-Control", "max-age=0")], 2, 200),
        ([("Cache-Control", "min-fresh=500")], 2, 200),
        ([("Cache-Control", "only-if-cached")], 1, 200),
    ],
)
def test_what_a_client_may_ask(
    caching: Gateway,
    up: Upstream,
    path: Callable[[str], str],
    headers: list[tuple[str, str]],
    times: int,
    status: int,
) -> None:
    """A client may ask for a fresher answer, or for none but a stored one."""
    target = up.on(path("open"), numbered(FRESH))
    ask(caching.port, target=target)
    assert ask(caching.port, target=target, headers=headers).status == status
    assert len(up.requests) == times


def test_only_if_cached_without_an_answer(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """The service is not asked for a client that does not want it."""
    answer = ask(caching.port, target=path("open"), headers=[("Cache-Control", "only-if-cached")])
    assert (answer.status, len(up.requests)) == (504, 0)
    assert said(answer) == "propylon; fwd=uri-miss; detail=only-if-cached"


def test_variants(caching: Gateway, up: Upstream, path: Callable[[str], str]) -> None:
    """What Vary names chooses the answer, and what the operator names; spelling that means nothing does not."""
    target = up.on(path("open"), numbered(FRESH, "Vary: Accept-Language"))
    wanted = ("de, en", "fr", "DE,en", "fr", "")
    bodies = [
        ask(caching.port, target=target, headers=[("Accept-Language", one)] if one else ()).body
        for one in wanted
    ]
    assert bodies == [b"answer 1", b"answer 2", b"answer 1", b"answer 2", b"answer 3"]


# Large, long, cut


def test_a_long_answer_is_streamed_while_it_is_stored(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """The client has the beginning before the service has sent the end, and the next one gets all of it."""
    read = threading.Event()
    half = b"x" * 60_000

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + FRESH.encode() + b"\r\n\r\n"
        )
        peer.send(b"ea60\r\n" + half + b"\r\n")
        assert read.wait(20)
        peer.send(b"ea60\r\n" + half + b"\r\n0\r\n\r\n")

    target = up.on(path("open"), script)
    with RawClient(caching.port) as client:
        client.send(request(target=target)).has_come(b"xxxx")
        read.set()
        assert client.read().body == half * 2
    again = ask(caching.port, target=target)
    assert (again.body, again.get("content-length"), len(up.requests)) == (half * 2, "120000", 1)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_what_is_too_long_passes_and_is_not_stored(
    caching: Gateway, up: Upstream, path: Callable[[str], str], framing: str
) -> None:
    """An answer beyond `max_object` arrives whole, and each request gets its own."""
    body = b"0123456789" * 40_000
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"HTTP/1.1 200 OK\r\n" + FRESH.encode() + b"\r\n"
    script = (
        answers.plain(headers=(FRESH,), body=body)
        if framing == "length"
        else answers.raw(head + b"Transfer-Encoding: chunked\r\n\r\n", chunked)
    )
    target = up.on(path("open"), script)
    assert [ask(caching.port, target=target).body for _ in range(2)] == [body, body]
    assert len(up.requests) == 2


def test_what_breaks_off_is_not_stored(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """A cut answer looks cut, and is asked for again."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n" + FRESH.encode() + b"\r\n\r\nhalf"
    target = up.on(
        path("open"), answers.in_turn(answers.raw(head, end=answers.close), numbered(FRESH))
    )
    assert not ask(caching.port, target=target).complete
    assert ask(caching.port, target=target).body == b"answer 1"


# At the same time


@pytest.mark.parametrize("route", ["open", "together"])
def test_one_asks_and_the_others_wait(
    caching: Gateway, up: Upstream, path: Callable[[str], str], route: str
) -> None:
    """Thirty requests at once for one cold key are one for the service."""
    target = up.on(path(route), answers.after(1.0, numbered(FRESH)))
    answered = together(caching, 30, target)
    assert {one.body for one in answered} == {b"answer 1"}
    assert len(up.requests) == 1
    assert (
        sum("collapsed" in said(one) for one in answered)
        + sum("hit" in said(one) for one in answered)
        == 29
    )


def test_forty_visitors_get_forty_cookies(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """An answer with a cookie is for the one who asked, also for those that have waited for it."""
    number = count()

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.pause(0.1)
        answers.plain(headers=(FRESH, f"Set-Cookie: s={next(number)}"), body=b"hi")(peer, arrived)

    target = up.on(path("open"), script)
    cookies = [one.get("set-cookie") for one in together(caching, 40, target)]
    assert len(set(cookies)) == 40


def test_a_first_client_that_leaves_does_not_fail_the_others(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """Before the head and after it: those that wait get a whole answer."""
    asked = threading.Event()
    go = threading.Event()

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n" + FRESH.encode() + b"\r\n\r\nhalf")
        asked.set()
        go.wait(20)
        peer.send(b"half")

    target = up.on(path("open"), script)
    first, second = RawClient(caching.port), RawClient(caching.port)
    first.send(request(target=target)).has_come(b"half")
    assert asked.wait(20)
    second.send(request(target=target)).has_come(b"half")
    first.reset()
    go.set()
    assert second.read().body == b"halfhalf"
    second.sock.close()
    assert len(up.requests) == 1


def test_who_waits_takes_the_place_of_who_leaves(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """While nothing has been answered, the next one asks."""
    target = up.on(path("open"), answers.in_turn(answers.hang, numbered(FRESH)))
    first, second = RawClient(caching.port), RawClient(caching.port)
    first.send(request(target=target))
    wait(lambda: len(up.requests) == 1)
    second.send(request(target=target))
    wait(lambda: len(up.requests) == 1)
    first.reset()
    assert second.read().body == b"answer 1"
    second.sock.close()


# Stale


def test_a_stale_answer_is_served_while_it_is_asked_for(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """The client does not wait; the next one has the new answer."""
    target = up.on(
        path("late"),
        answers.in_turn(numbered(*STALE), answers.plain(headers=(FRESH,), body=b"new")),
    )
    ask(caching.port, target=target)
    second = ask(caching.port, target=target)
    assert second.body == b"answer 1"
    assert "stale-while-revalidate" in said(second)
    wait(lambda: ask(caching.port, target=target).body == b"new")
    assert len(up.requests) == 2


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", ""])
def test_a_stale_answer_stands_for_a_failure(
    caching: Gateway, up: Upstream, path: Callable[[str], str], status: str
) -> None:
    """Where the service says so, an old answer is better than an error; must-revalidate forbids it."""
    broken = answers.plain(status, body=b"sick") if status else answers.raw(end=answers.close)
    lasting = ("Cache-Control: max-age=10, stale-if-error=100", "Age: 20")
    target = up.on(path("open"), answers.in_turn(numbered(*lasting), broken))
    ask(caching.port, target=target)
    answer = ask(caching.port, target=target)
    assert (answer.status, answer.body) == (200, b"answer 1")
    assert "stale-if-error" in said(answer)
    strict = ("Cache-Control: max-age=10, must-revalidate", "Age: 20", 'ETag: "a"')
    target = up.on(path("late"), answers.in_turn(numbered(*strict), broken))
    ask(caching.port, target=target)
    assert ask(caching.port, target=target).status == int(status[:3] or 502)


# Who gets it


def test_callers_do_not_share(caching: Gateway, up: Upstream, path: Callable[[str], str]) -> None:
    """One subject with two scopes, two issuers' subjects, and who is nobody: each has answers of its own."""
    target = up.on(path("maybe"), mirror())
    callers = [
        authorized("ann", scope="read"),
        authorized("ann", scope="read write"),
        authorized("ann", scope="read", iss="other"),
        authorized("bob", scope="read"),
        [],
    ]
    for _ in range(2):
        bodies = [ask(caching.port, target=target, headers=caller).body for caller in callers]
        assert len(set(bodies)) == 5
    assert len(up.requests) == 5


def test_a_renewed_token_is_the_same_caller(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """What differs between two tokens of one login does not divide the answers."""
    target = up.on(path("known"), numbered())
    for lasts in (300, 400):
        ask(caching.port, target=target, headers=authorized("ann", lasts=lasts))
    assert len(up.requests) == 1


@pytest.mark.parametrize("name", ["Cookie", "Authorization"])
def test_sessions_of_the_service_do_not_share(
    caching: Gateway, up: Upstream, path: Callable[[str], str], name: str
) -> None:
    """Behind `auth: none` a service has sessions of its own: each has answers of its own."""
    target = up.on(path("ttl"), mirror())
    sent = [[(name, "session=1")], [(name, "session=2")], []]
    for _ in range(2):
        bodies = [ask(caching.port, target=target, headers=one).body for one in sent]
        assert len(set(bodies)) == 3
    assert len(up.requests) == 3


def test_by_claim_and_by_everyone(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """A tenant's callers share; everyone shares, but not an answer to a token that nobody verified."""
    tenant, everyone = up.on(path("tenant"), numbered()), up.on(path("everyone"), numbered())
    asked = [
        ask(caching.port, target=tenant, headers=authorized(who, tenant=whose)).body
        for who, whose in (("ann", "a"), ("bob", "a"), ("eve", "b"))
    ]
    assert asked == [b"answer 1", b"answer 1", b"answer 2"]
    headers = [authorized("ann"), [], [("Cookie", "a=b")]]
    assert [ask(caching.port, target=everyone, headers=one).body for one in headers] == [
        b"answer 1"
    ] * 3


# Attacks: unkeyed headers, other methods, spellings (Kettle, "Practical Web Cache Poisoning"; Gil, "Web Cache Deception")


@pytest.mark.parametrize(
    "header",
    [
        ("X-Forwarded-Host", "evil.test"),
        ("X-Host", "evil.test"),
        ("X-Forwarded-Scheme", "nothttps"),
        ("X-Forwarded-Server", "evil.test"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-HTTP-Method-Override", "POST"),
        ("X-Method-Override", "POST"),
        ("X-HTTP-Method", "DELETE"),
        ("Forwarded", "host=evil.test"),
        ("X-HTTP-Host-Override", "evil.test"),
        ("X-Original-Host", "evil.test"),
        ("Origin", "https://evil.test"),
        ("X-Tier", "gold"),
    ],
)
def test_a_header_outside_the_key_changes_nobodys_answer(
    caching: Gateway, up: Upstream, path: Callable[[str], str], header: tuple[str, str]
) -> None:
    """Whatever a service makes of such a header, others do not get it."""

    def script(peer: Peer, arrived: Arrived) -> None:
        reflected = [value for _, value in arrived.headers if value == header[1].encode()]
        answers.plain(headers=(FRESH,), body=b"poisoned" if reflected else b"clean")(peer, arrived)

    target = up.on(path("everyone"), script)
    ask(caching.port, target=target, headers=[header])
    assert ask(caching.port, target=target).body == b"clean"
    assert ask(caching.port, target=target).body == b"clean"


def test_a_get_with_a_body_is_not_stored(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """A service may read the body; nobody else may get what it says then, nor such a request a stored answer."""
    target = up.on(path("ttl"), numbered())
    bodies = [ask(caching.port, "GET", target, body=b"q=evil"), ask(caching.port, target=target)]
    bodies += [ask(caching.port, "GET", target, body=b"q=evil")]
    assert [one.body for one in bodies] == [b"answer 1", b"answer 2", b"answer 3"]
    assert said(bodies[0]) == "propylon; fwd=bypass; detail=body"


def test_an_error_is_not_kept_for_others(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """A header that makes the service fail does not make it fail for the next one (cache-poisoned denial of service)."""

    def script(peer: Peer, arrived: Arrived) -> None:
        if arrived.get("x-long") is not None or arrived.get("range") is not None:
            answers.plain("400 Bad Request", body=b"too long")(peer, arrived)
        else:
            answers.plain(body=b"good")(peer, arrived)

    target = up.on(path("ttl"), script)
    ask(caching.port, target=target, headers=[("X-Long", "x" * 9000)])
    ask(caching.port, target=target, headers=[("Range", "cow")])
    assert ask(caching.port, target=target).body == b"good"


@pytest.mark.parametrize(
    "tail", ["/account.css", "/account;x.css", "/account%2Fa.css", "/account%00.css"]
)
def test_a_name_like_a_file_does_not_open_an_account(
    caching: Gateway, up: Upstream, path: Callable[[str], str], tail: str
) -> None:
    """No ending of a path makes an answer everybody's (cache deception)."""
    target = path("maybe") + tail
    up.fallback, before = mirror(), up.fallback
    try:
        mine = ask(caching.port, target=target, headers=authorized("victim"))
        theirs = ask(caching.port, target=target)
    finally:
        up.fallback = before
    assert b"victim" not in theirs.body
    assert mine.status in (200, 400)


def test_spellings_of_a_path_are_apart(
    caching: Gateway, up: Upstream, path: Callable[[str], str]
) -> None:
    """What reaches the service as another path has another answer, and a dot segment none at all."""
    plain = up.on(path("ttl"), answers.plain(body=b"good"))
    head, last = plain[:-1], plain[-1]
    coded = up.on(f"{head}%{ord(last):x}", answers.plain("404 Not Found", (FRESH,), b"evil"))
    assert ask(caching.port, target=coded).status in (400, 404)
    assert ask(caching.port, target=plain).body == b"good"
    assert ask(caching.port, target=f"{plain}/%2e%2e/x").status == 400


def test_hosts_are_apart(caching: Gateway, up: Upstream, path: Callable[[str], str]) -> None:
    """The answer to one Host is not that to another; capitals mean nothing."""
    target = up.on(path("open"), numbered(FRESH))
    hosts = ("a.test", "b.test", "A.test", "a.test:81")
    bodies = [ask(caching.port, target=target, host=host).body for host in hosts]
    assert bodies == [b"answer 1", b"answer 2", b"answer 1", b"answer 3"]


# Deleted


@pytest.mark.parametrize("route", ["open", "read"])
def test_an_unsafe_request_invalidates(
    caching: Gateway, up: Upstream, path: Callable[[str], str], route: str
) -> None:
    """What changes a resource lets its stored answers go, also by way of another route; a failed one does not."""
    target, other = path(route), path(route)
    get, failing = numbered(FRESH), answers.plain("500 Internal Server Error")
    post = answers.plain(
        "201 Created", (f"Location: {other}", "Content-Location: http://evil.test/x")
    )

    def script(peer: Peer, arrived: Arrived) -> None:
        chosen = {"GET": get, "POST": post}.get(arrived.method, failing)
        chosen(peer, arrived)

    up.on(target, script)
    up.on(other, numbered(FRESH))
    for _ in range(2):
        assert ask(caching.port, target=target).body == b"answer 1"
        assert ask(caching.port, target=other).body == b"answer 1"
        ask(caching.port, "DELETE", target)
    ask(caching.port, "POST", target, body=b"x")
    assert ask(caching.port, target=target).body == b"answer 2"
    assert ask(caching.port, target=other).body == b"answer 2"


@pytest.mark.parametrize("how", ["route", "path", "tag"])
def test_a_purge(caching: Gateway, up: Upstream, path: Callable[[str], str], how: str) -> None:
    """An operator lets answers go by their route, their path or their tag; all that is said has to fit."""
    target = up.on(path("open"), numbered(FRESH, f"Cache-Tag: list,item-{next(_fresh)}"))
    first = ask(caching.port, target=target)
    tag = (first.get("cache-tag") or "").partition(",")[2]
    chosen = {"route": "route=open", "path": f"path={target}", "tag": f"tag={tag}"}[how]
    wrong = ask(caching.port, "DELETE", f"{PURGE}?{chosen}&route=known", headers=ADMIN)
    if how != "route":
        assert (wrong.status, ask(caching.port, target=target).body) == (204, b"answer 1")
    done = ask(caching.port, "DELETE", f"{PURGE}?{chosen}", headers=ADMIN)
    assert (done.status, done.body) == (204, b"")
    assert ask(caching.port, target=target).body == b"answer 2"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?route=open", [], 401),
        ("?route=open", authorized("ann"), 403),
        ("", ADMIN, 422),
        ("?path=relative", ADMIN, 422),
    ],
)
def test_who_may_purge_and_how(
    caching: Gateway, up: Upstream, query: str, headers: Any, status: int
) -> None:
    """It needs the scope, and something has to be said."""
    assert ask(caching.port, "DELETE", PURGE + query, headers=headers).status == status


def test_metrics(caching: Gateway, up: Upstream, path: Callable[[str], str]) -> None:
    """What the cache of a route did is counted."""
    target = up.on(path("open"), numbered(FRESH))
    for _ in range(2):
        ask(caching.port, target=target)
    text = ask(caching.port, target="/metrics").body.decode()
    for result in ("hit", "miss", "stored"):
        lines = [
            line for line in text.splitlines() if f'{{result="{result}",route="open"}}' in line
        ]
        assert lines or f'{{route="open",result="{result}"}}' in text
