"""`maintenance`, `fallback`, `mirror`, `hedge` and `adaptive_concurrency`: over real sockets, on both edges."""

import gzip
import json
import threading
from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, chunked, post_chunked, request
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Arrived, Peer, Script, Upstream
from tests.support.waiting import wait

INNER = "10.1.2.3"
PAGE = "<p>Back at eight.</p>"
OURS = "X-Propylon-Fallback: an upstream may not say so"


def configuration(main: int, other: int, shadow: int, closed: int) -> Config:
    """Routes whose service is out of order, each in its way."""
    once = {"retry": {"attempts": 1}}
    url, dead = f"http://127.0.0.1:{main}", f"http://127.0.0.1:{closed}"
    patient = {"failure_threshold": 100_000, "min_throughput": 100_000}
    return {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "cors": {"origins": ["https://app.example"]},
        "services": {
            "main": {"url": url, "circuit": patient, **once},
            "other": {"url": f"http://127.0.0.1:{other}", "circuit": patient, "forward_token": False},
            "dead": {"url": dead, "circuit": patient, **once},
            "fragile": {"url": url, "circuit": {"failure_threshold": 1, "min_throughput": 1}, **once},
            "brittle": {"url": url, "circuit": {"failure_threshold": 1, "min_throughput": 1}, **once},
            "narrow": {"url": url, "circuit": patient, "adaptive_concurrency": {"min": 1, "max": 1}, **once},
            "full": {"url": url, "circuit": patient, "max_in_flight": 1, "queue": {"size": 0}, **once},
            "twins": {
                "instances": [url, f"http://127.0.0.1:{other}"],
                "circuit": patient,
                "hedge": {"after": "100ms"},
                **once,
            },
            "empty": {},
            "shadow": {"url": f"http://127.0.0.1:{shadow}", "circuit": patient, "timeouts": {"total": "20s"}},
        },
        "defaults": {"auth": "none"},
        "routes": [
            {"name": "closed", "path": "/closed", "service": "main", "auth": "required",
             "rate_limit": {"rate": "1/h", "burst": 1}, "maintenance": True,
             "clients": {"deny": ["10.9.0.0/16"]}},
            {"name": "page", "path": "/page", "service": "main", "methods": ["GET", "HEAD", "WEBSOCKET"],
             "maintenance": {"retry_after": "10m", "status": 502, "body": PAGE,
                             "content_type": "text/html", "allow": ["10.0.0.0/8"]}},
            {"name": "dead", "path": "/dead", "service": "dead", "strip_prefix": True,
             "fallback": {"service": "other"}},
            {"name": "empty", "path": "/empty", "service": "empty", "fallback": {"service": "other"}},
            {"name": "fragile", "path": "/fragile", "service": "fragile", "fallback": {"service": "other"}},
            {"name": "shop", "path": "/shop", "service": "main", "timeouts": {"first_byte": "300ms"},
             "fallback": {"service": "other", "on": ["reset", "timeout", "bad-response", 503]}},
            {"name": "token", "path": "/token", "service": "dead", "auth": "required",
             "fallback": {"service": "other"}},
            {"name": "fixed", "path": "/fixed", "service": "dead",
             "fallback": {"respond": {"status": 503, "headers": {"Retry-After": 9}, "body": "Sorry"}}},
            {"name": "stored", "path": "/stored", "service": "main", "cache": {"by": "everyone"},
             "fallback": {"stored": True, "respond": {"body": "Nothing kept"}, "on": ["reset", 503]}},
            {"name": "both", "path": "/both", "service": "main",
             "fallback": {"service": "dead", "on": [503]}},
            {"name": "mirrored", "path": "/mirrored", "service": "main", "auth": "optional", "strip_prefix": True,
             "mirror": {"service": "shadow", "max_body": "1kB"}},
            {"name": "narrow", "path": "/narrow", "service": "narrow"},
            {"name": "full", "path": "/full", "service": "full", "fallback": {"service": "other"}},
            {"name": "copied", "path": "/copied", "service": "full", "mirror": {"service": "shadow"}},
            {"name": "twins", "path": "/twins", "service": "twins"},
            {"name": "hung", "path": "/hung", "service": "main", "mirror": {"service": "shadow", "max_in_flight": 2}},
            {"name": "packed", "path": "/packed", "service": "dead", "decompress": True,
             "fallback": {"service": "other"}, "mirror": {"service": "shadow"}},
            {"name": "large", "path": "/large", "service": "main",
             "mirror": {"service": "shadow", "max_body": "1MB"}},
            {"name": "unmirrored", "path": "/unmirrored", "service": "brittle", "cache": {"by": "everyone"},
             "mirror": {"service": "shadow"}, "fallback": {"respond": {}}},
            {"name": "vain", "path": "/vain", "service": "main", "mirror": {"service": "dead"}},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def main() -> Iterator[Upstream]:
    """The service behind the routes."""
    with Upstream(fallback=answers.plain(body=b"ok"), identified=True) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def other() -> Iterator[Upstream]:
    """The service that stands in."""
    with Upstream(
        fallback=answers.plain(headers=[OURS], body=b"other"), identified=True
    ) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def shadow() -> Iterator[Upstream]:
    """The service that gets copies."""
    with Upstream(fallback=answers.plain(body=b"nobody hears"), identified=True) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def kept(
    main: Upstream, other: Upstream, shadow: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway on each edge."""
    config = configuration(main.port, other.port, shadow.port, free_port())
    found = Kept(EDGES, tmp_path_factory.mktemp("stand-ins"), config)
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept, main: Upstream, other: Upstream, shadow: Upstream) -> Gateway:
    """The gateway on that edge."""
    main.reset()
    other.reset()
    shadow.reset()
    return kept.at(edge)


def test_a_route_under_maintenance(gateway: Gateway, main: Upstream) -> None:
    """503 before the token is looked at, with CORS and Retry-After; nothing is asked, and no limit counts."""
    for _ in range(2):
        got = ask(gateway.port, target="/closed/7", headers=[("Origin", "https://app.example")])
        assert (got.status, got.get("Retry-After")) == (503, "60")
        assert got.json()["error"]["code"] == "MAINTENANCE"
        assert got.get("X-Error-Source") == "gateway"
        assert got.get("Access-Control-Allow-Origin") == "https://app.example"
    record = gateway.record(got)
    assert (record["level"], record["route"], record["attempts"]) == ("warning", "closed", 0)
    assert record["error"].startswith("MAINTENANCE")
    refused = ask(gateway.port, target="/closed", headers=[("X-Forwarded-For", "10.9.0.1")])
    assert refused.status == 403
    assert main.requests == []


def test_the_page_of_a_maintenance(gateway: Gateway, main: Upstream) -> None:
    """Status, page and type are the operator's; a HEAD has none of the page, and a handshake gets it, too."""
    got = ask(gateway.port, target="/page")
    assert (got.status, got.body, got.get("Retry-After")) == (502, PAGE.encode(), "600")
    assert (got.get("Content-Type"), got.get("Cache-Control")) == ("text/html", "no-store")
    head = ask(gateway.port, "HEAD", "/page")
    assert (head.status, head.body, head.get("Content-Length")) == (502, b"", str(len(PAGE)))
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    assert ask(gateway.port, target="/page", headers=upgrade).status == 502
    assert main.requests == []


def test_who_does_the_work_reaches_the_service(gateway: Gateway, main: Upstream) -> None:
    """By the address that a trusted proxy says; one that it does not name is refused."""
    got = ask(gateway.port, target="/page", headers=[("X-Forwarded-For", INNER)])
    assert (got.status, got.body) == (200, b"ok")
    assert main.of(got).target == b"/page"
    assert (
        ask(gateway.port, target="/page", headers=[("X-Forwarded-For", "192.0.2.1")]).status == 502
    )


def test_maintenance_is_explained(gateway: Gateway) -> None:
    """The stage stands among the others, with the line of the file."""
    asks = [("X-Propylon-Explain", "1"), *bearer(mint("ann", scope="explain", edge=gateway.edge))]
    got = ask(gateway.port, target="/closed", headers=asks)
    stages = {one["stage"]: one for one in got.json()["error"]["details"]["explain"]["stages"]}
    assert stages["clients"]["passed"] is True
    assert stages["maintenance"]["passed"] is False
    assert "503 MAINTENANCE" in stages["maintenance"]["text"]
    assert stages["maintenance"]["values"]["maintenance"]["from"].startswith("propylon.yaml:")
    assert stages["authenticate"]["passed"] is None


def counted(gateway: Gateway, metric: str, **labels: str) -> float:
    """The sum of a metric over the series with these labels."""
    text = ask(gateway.port, target="/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith(f"{metric}_total{{")]
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if all(one in line for one in wanted)
    )


def fell_back(gateway: Gateway, answer: Answer, route: str, reason: str, by: str) -> None:
    """Client, log and metrics say that a fallback has answered, and why."""
    assert answer.get("X-Propylon-Fallback") == by
    record = gateway.record(answer)
    level = "error" if answer.status >= 500 else "warning"
    assert (record["route"], record["flags"][-1], record["level"]) == (route, "fallback", level)
    assert (record["fallback"]["by"], record["fallback"]["reason"]) == (by, reason)
    assert counted(gateway, "propylon_fallbacks", route=route, reason=reason, by=by) >= 1


@pytest.mark.parametrize(
    ("target", "script", "reason", "error"),
    [
        ("/dead/7?x=1", None, "connect-failure", "UPSTREAM_ERROR ConnectFailed: "),
        ("/empty/7?x=1", None, "unavailable", "SERVICE_UNAVAILABLE NoInstance: "),
        (
            "/shop/7?x=1",
            answers.raw(b"", end=answers.close),
            "reset",
            "UPSTREAM_ERROR UpstreamReset: ",
        ),
        (
            "/shop/7?x=1",
            answers.raw(b"rubbish\r\n\r\n"),
            "bad-response",
            "UPSTREAM_ERROR BadResponse: ",
        ),
        ("/shop/7?x=1", answers.hang, "timeout", "UPSTREAM_TIMEOUT UpstreamTimeout: "),
        ("/shop/7?x=1", answers.plain("503 Busy", body=b"no"), "503", "status 503"),
    ],
)
def test_another_service_answers(
    gateway: Gateway,
    main: Upstream,
    other: Upstream,
    target: str,
    script: Script | None,
    reason: str,
    error: str,
) -> None:
    """It gets the same request, and the record is of it; the failure stands beside."""
    if script is not None:
        main.on("/shop/7", script)
    got = ask(gateway.port, target=target)
    assert (got.status, got.body) == (200, b"other")
    route = target.split("/")[1]
    arrived = other.of(got)
    assert arrived.target.decode() == (target if route != "dead" else "/7?x=1")
    fell_back(gateway, got, route, reason, "service")
    record = gateway.record(got)
    assert record["service"] == "other"
    assert record["instance"].endswith(str(other.port))
    assert record["fallback"]["error"].startswith(error)
    assert record["attempts"] >= (1 if route == "empty" else 2)


def test_what_is_no_failure_is_passed_on(gateway: Gateway, main: Upstream, other: Upstream) -> None:
    """Statuses and failures that `on` does not name; and nothing after the first byte."""
    main.on("/shop/bad", answers.plain("502 Bad Gateway", body=b"theirs"))
    got = ask(gateway.port, target="/shop/bad")
    assert (got.status, got.body, got.get("X-Propylon-Fallback")) == (502, b"theirs", None)
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"half"
    main.on("/shop/cut", answers.raw(*cut, end=answers.close))
    got = ask(gateway.port, target="/shop/cut")
    assert (got.status, got.ended) != (200, "whole")
    assert other.requests == []


def test_a_body_goes_to_the_other_service(
    gateway: Gateway, main: Upstream, other: Upstream
) -> None:
    """Of a POST that was never sent, and of a PUT that may arrive twice; not of a POST that was sent, and not a long one."""
    got = ask(gateway.port, "POST", "/dead", body=b"a=1")
    assert (got.status, bytes(other.of(got).body)) == (200, b"a=1")
    main.on("/shop", answers.raw(b"", end=answers.close))
    got = ask(gateway.port, "PUT", "/shop", body=b"b" * 60_000)
    assert (got.status, other.of(got).length) == (200, 60_000)
    for method, size in (("POST", 3), ("PUT", 200_000)):
        got = ask(gateway.port, method, "/shop", body=b"c" * size)
        assert (got.status, got.get("X-Propylon-Fallback")) == (502, None)
        assert gateway.record(got)["service"] == "main"
    assert len(other.requests) == 2


def test_the_rules_of_the_other_service_hold(gateway: Gateway, other: Upstream) -> None:
    """It hears who is asking as the route's service would; the token goes only to services that may have it."""
    got = ask(gateway.port, target="/token", headers=bearer(mint("ann", edge=gateway.edge)))
    assert got.status == 200
    arrived = other.of(got)
    assert (arrived.get("X-User-Id"), arrived.get("Authorization")) == ("ann", None)


def test_the_failure_opens_the_breaker(gateway: Gateway, main: Upstream, other: Upstream) -> None:
    """The client has an answer each time; the service is asked once."""
    main.on("/fragile", answers.raw(b"", end=answers.close))
    for reason in ("reset", "open-circuit"):
        got = ask(gateway.port, target="/fragile")
        assert (got.status, got.body) == (200, b"other")
        fell_back(gateway, got, "fragile", reason, "service")
    assert len(main.requests) == 1


def test_a_fixed_answer(gateway: Gateway, other: Upstream) -> None:
    """For any method; it is the gateway's own."""
    got = ask(gateway.port, "POST", "/fixed", body=b"a=1")
    assert (got.status, got.body, got.get("Retry-After")) == (503, b"Sorry", "9")
    assert got.get("X-Error-Source") == "gateway"
    fell_back(gateway, got, "fixed", "connect-failure", "fixed")
    head = ask(gateway.port, "HEAD", "/fixed")
    assert (head.status, head.body, head.get("Content-Length")) == (503, b"", "5")
    assert gateway.record(head)["service"] == "dead"


def test_the_last_answer_of_the_cache(gateway: Gateway, main: Upstream) -> None:
    """However old; where there is none, or it may not be used stale, the fixed answer."""
    good = ["Cache-Control: max-age=0", 'ETag: "1"']
    strict = ["Cache-Control: max-age=0, must-revalidate", 'ETag: "1"']
    main.on("/stored/a", answers.plain(headers=good, body=b"kept"))
    main.on("/stored/b", answers.plain(headers=strict, body=b"kept"))
    for target in ("/stored/a", "/stored/b"):
        assert ask(gateway.port, target=target).body == b"kept"
        main.on(target, answers.plain("503 Busy"))
    got = ask(gateway.port, target="/stored/a")
    assert (got.status, got.body) == (200, b"kept")
    assert (got.get("Cache-Status") or "").endswith("detail=fallback")
    fell_back(gateway, got, "stored", "503", "stored")
    for target, lines in (
        ("/stored/b", []),
        ("/stored/c", []),
        ("/stored/a", [("Cache-Control", "no-cache")]),
    ):
        main.on(target, answers.plain("503 Busy"))
        got = ask(gateway.port, target=target, headers=lines)
        assert (got.body, got.get("X-Propylon-Fallback")) == (b"Nothing kept", "fixed")
    posted = ask(gateway.port, "POST", "/stored/a", body=b"x")
    assert posted.body == b"Nothing kept"


def test_a_fallback_that_fails_too(gateway: Gateway, main: Upstream) -> None:
    """The client hears of the second failure, and the record of both."""
    main.on("/both", answers.plain("503 Busy"))
    got = ask(gateway.port, target="/both")
    assert (got.status, got.json()["error"]["code"]) == (502, "UPSTREAM_ERROR")
    record = gateway.record(got)
    assert (record["service"], record["fallback"]["error"]) == ("dead", "status 503")
    assert record["error"].startswith("UPSTREAM_ERROR ConnectFailed")


def test_a_fallback_is_explained(gateway: Gateway, main: Upstream) -> None:
    """What would answer, and what has answered."""
    asks = [("X-Propylon-Explain", "1"), *bearer(mint("ann", scope="explain", edge=gateway.edge))]
    main.on("/shop", answers.plain("503 Busy"))
    main.on("/both", answers.plain())
    for target, forward, text in (
        ("/shop", "status 503", "after 503 of main: another service, 200"),
        ("/both", 'service "main"', 'not needed so far; after 503: service "dead"'),
    ):
        got = ask(gateway.port, target=target, headers=asks)
        explained = json.loads(got.get("X-Propylon-Explain") or "")
        stages = {one["stage"]: one for one in explained["stages"]}
        assert stages["forward"]["text"].startswith(forward)
        assert stages["fallback"]["text"].startswith(text)


def mirrored(gateway: Gateway, route: str, result: str) -> float:
    """How many copies of requests of the route have ended so."""
    return counted(gateway, "propylon_mirrored_requests", route=route, result=result)


def test_a_mirror_gets_the_same_request(gateway: Gateway, main: Upstream, shadow: Upstream) -> None:
    """Method, path, query, headers, body, request id and who is asking; the client hears of nothing."""
    before = mirrored(gateway, "mirrored", "answered")
    shadow.on("/a", answers.plain("200 OK", ["Set-Cookie: no=1"], b"n" * 100_000))
    lines = [("X-Any", "1"), ("Connection", "close"), *bearer(mint("ann", edge=gateway.edge))]
    got = ask(gateway.port, "POST", "/mirrored/a?x=%2F", headers=lines, body=b"a" * 1000)
    assert (got.status, got.body, got.get("Set-Cookie")) == (200, b"ok", None)
    real, copied = main.of(got), shadow.of(got)
    wait(lambda: copied.complete)
    assert (copied.method, copied.target, bytes(copied.body)) == ("POST", real.target, real.body)
    beside = {b"host", b"traceparent"}
    assert [line for line in copied.headers if line[0].lower() not in beside] == [
        line for line in real.headers if line[0].lower() not in beside
    ]
    assert copied.get("X-User-Id") == "ann"
    wait(lambda: mirrored(gateway, "mirrored", "answered") == before + 1)
    assert gateway.record(got)["service"] == "main"


def test_bodies_of_copies(gateway: Gateway, main: Upstream, shadow: Upstream) -> None:
    """As long as `max_body`, also in chunks; a longer one has no copy, and is whole at the service."""
    before = mirrored(gateway, "mirrored", "too_large")
    coded = chunked(b"b" * 500, b"c" * 500)
    with RawClient(gateway.port) as client:
        got = client.send(post_chunked("/mirrored/chunks", coded)).read()
    copied = shadow.of(got)
    wait(lambda: copied.complete)
    assert bytes(copied.body) == b"b" * 500 + b"c" * 500
    for body in (b"d" * 1001, chunked(b"d" * 600, b"d" * 600)):
        with RawClient(gateway.port) as client:
            if body.startswith(b"d"):
                client.send(request("POST", "/mirrored/long", body=body))
            else:
                client.send(post_chunked("/mirrored/long", body))
            got = client.read()
        assert (got.status, main.of(got).length) == (200, 1001 if body.startswith(b"d") else 1200)
    assert mirrored(gateway, "mirrored", "too_large") == before + 2
    got = ask(gateway.port, "PUT", "/large", body=bytes(range(256)) * 3000)
    copied = shadow.of(got)
    wait(lambda: copied.complete)
    assert copied.hash.digest() == main.of(got).hash.digest()
    assert [one.target for one in shadow.requests if one.target == b"/long"] == []


def test_a_mirror_that_hangs_takes_a_bounded_number(
    gateway: Gateway, main: Upstream, shadow: Upstream
) -> None:
    """The rest has no copy, is counted, and every client gets its answer."""
    before = mirrored(gateway, "hung", "dropped")
    released = threading.Event()

    def held(peer: Peer, arrived: Arrived) -> None:
        released.wait(20)
        answers.plain()(peer, arrived)

    shadow.on("/hung/a", held)
    for _ in range(6):
        assert ask(gateway.port, target="/hung/a").body == b"ok"
    assert len(main.requests) == 6
    assert mirrored(gateway, "hung", "dropped") == before + 4
    assert shadow.wait(lambda: len(shadow.requests) == 2)
    released.set()
    wait(lambda: mirrored(gateway, "hung", "answered") == 2)
    got = ask(gateway.port, target="/hung/b")
    assert shadow.of(got).target == b"/hung/b"


def test_what_the_service_is_not_asked_is_not_copied(
    gateway: Gateway, main: Upstream, shadow: Upstream
) -> None:
    """A stored answer, and what an open breaker refuses; a failed request is copied all the same."""
    main.on("/unmirrored", answers.plain(headers=["Cache-Control: max-age=60"], body=b"kept"))
    for _ in range(3):
        assert ask(gateway.port, target="/unmirrored").body == b"kept"
    main.on("/unmirrored/x", answers.raw(b"", end=answers.close))
    for _ in range(3):
        assert ask(gateway.port, target="/unmirrored/x").status == 200
    assert shadow.wait(lambda: len(shadow.requests) == 2)
    assert mirrored(gateway, "unmirrored", "answered") == 2


def test_a_mirror_that_is_away(gateway: Gateway) -> None:
    """The failure is counted by its reason, and nobody else hears of it."""
    got = ask(gateway.port, target="/vain")
    assert (got.status, got.body) == (200, b"ok")
    wait(lambda: mirrored(gateway, "vain", "connect-failure") >= 1)
    assert gateway.record(got)["error"] is None


def test_another_service_answers_while_this_one_is_full(
    gateway: Gateway, main: Upstream, other: Upstream, shadow: Upstream
) -> None:
    """Neither a fallback nor a copy asks for room at the route's own service."""
    released = threading.Event()

    def held(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        released.wait(20)
        peer.send(b"ok")

    main.on("/copied", held)
    with RawClient(gateway.port) as client:
        client.send(request(target="/copied"))
        # The copy is sent when the answer's head is there: the request has its place still.
        assert shadow.arrived("/copied").target == b"/copied"
        got = ask(gateway.port, target="/full")
        released.set()
        assert client.read().body == b"ok"
    assert (got.status, got.body) == (200, b"other")
    assert got.get("X-Propylon-Fallback") == "service"
    assert other.of(got).target == b"/full"


def test_a_slow_request_is_sent_to_another_instance(
    gateway: Gateway, main: Upstream, other: Upstream
) -> None:
    """The first answer counts; the connection of the one that hangs is closed."""
    before = counted(gateway, "propylon_hedges", service="twins", result="won")
    main.on("/twins", answers.hang)
    got = [ask(gateway.port, target="/twins") for _ in range(2)]
    assert [(one.status, one.body) for one in got] == [(200, b"other")] * 2
    hung = main.arrived("/twins")
    assert main.wait(lambda: hung.cancelled)
    assert counted(gateway, "propylon_hedges", service="twins", result="won") == before + 1
    asks = [("X-Propylon-Explain", "1"), *bearer(mint("ann", scope="explain", edge=gateway.edge))]
    both = [ask(gateway.port, target="/twins", headers=asks) for _ in range(2)]
    told = [json.loads(one.get("X-Propylon-Explain") or "")["upstream"]["attempts"] for one in both]
    alone, raced = sorted(told, key=len)
    assert [one["ended"] for one in alone] == ["status 200"]
    assert [one["ended"].split(":")[0] for one in raced] == ["lost a race", "status 200"]
    assert raced[1]["instance"] == f"127.0.0.1:{other.port}"
    flags = sorted(tuple(gateway.record(one)["flags"]) for one in got)
    assert flags == [(), ("hedged",)]
    assert {gateway.record(one)["attempts"] for one in got} == {1, 2}


def test_a_service_with_as_many_requests_as_it_can_work_on(
    gateway: Gateway, main: Upstream
) -> None:
    """The next one is refused with a code of its own, and passes when the first one is answered."""
    released = threading.Event()

    def held(peer: Peer, arrived: Arrived) -> None:
        released.wait(20)
        answers.plain()(peer, arrived)

    main.on("/narrow", held)
    with RawClient(gateway.port) as client:
        client.send(request(target="/narrow"))
        assert main.arrived("/narrow")
        got = ask(gateway.port, target="/narrow")
        released.set()
        assert client.read().status == 200
    assert (got.status, got.get("Retry-After")) == (503, "1")
    assert got.json()["error"]["code"] == "OVERLOADED"
    assert "adaptive_concurrency: 1 in flight" in gateway.record(got)["error"]
    assert ask(gateway.port, target="/narrow").status == 200
    metrics = ask(gateway.port, target="/metrics").body.decode()
    assert 'propylon_concurrency_limit{service="narrow"} 1.0' in metrics


def test_a_body_that_is_unpacked_is_unpacked_for_all(
    gateway: Gateway, other: Upstream, shadow: Upstream
) -> None:
    """The mirror and the fallback's service get what the route's service would have got."""
    plain = b"plain " * 50
    got = ask(
        gateway.port,
        "PUT",
        "/packed",
        headers=[("Content-Encoding", "gzip")],
        body=gzip.compress(plain),
    )
    assert (got.status, got.body) == (200, b"other")
    for arrived in (other.of(got), shadow.of(got)):
        wait(lambda: arrived.complete)  # noqa: B023 — it is waited for here
        assert (bytes(arrived.body), arrived.get("Content-Encoding")) == (plain, None)
