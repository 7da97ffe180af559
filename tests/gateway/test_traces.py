"""Traces through both edges: what the collector is told of each kind of exchange, and who decides what is recorded."""

import itertools
import secrets
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.collector import Collector, facts
from tests.support.gateway import EDGES, Config, Gateway, free_port
from tests.support.guarded import Kept
from tests.support.sockets import Socket, close, echo
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

TEAM = '''
"""A team's gateway, with a policy and an endpoint that asks services."""

import asyncio
from typing import Annotated, Any

from fastapi import Request as Asked

from propylon import Gateway, Principal, Request, Service, current_trace, gather_parts, public, service
from propylon.errors import Forbidden

gateway = Gateway.from_file("propylon.yaml")
app = gateway.asgi
seen = []


@gateway.before("guarded")
async def office_hours(request: Request, principal: Principal) -> None:
    await asyncio.sleep(0)
    seen[:] = [current_trace()]


@gateway.before("guarded")
def barred(request: Request, principal: Principal) -> None:
    if "barred" in request.query.decode():
        raise Forbidden("Not you")


@gateway.api.get("/team/page", dependencies=[public])
async def page(
    request: Asked,
    up: Annotated[Service, service("up")],
    down: Annotated[Service, service("down")],
) -> Any:
    parts = await gather_parts(one=up.get("/one"), two=up.get("/two"), gone=down.get("/gone"))
    trace = current_trace()
    return {"partial": parts["partial"], "trace": trace.trace_id, "state": request.state.trace_id,
            "parent": trace.traceparent}


@gateway.api.get("/team/seen", dependencies=[public])
async def noted() -> Any:
    return seen[0].traceparent
'''
ERROR = Status.STATUS_CODE_ERROR


class System:
    """A collector, and the upstream behind the gateways."""

    def __init__(self) -> None:
        self.collector = Collector()
        self.up = Upstream(upgrades=True)
        self.closed = free_port()

    def configuration(self) -> Config:
        """One that records everything but what a route leaves out."""
        url = f"http://127.0.0.1:{self.up.port}"
        retry = {"attempts": 3, "backoff": "1ms", "max_backoff": "1ms"}
        return {
            "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
            "defaults": {"auth": "none"},
            "services": {
                "up": {"url": url, "retry": retry},
                "base": {"url": f"{url}/base", "retry": {"attempts": 1}},
                "down": {"url": f"http://127.0.0.1:{self.closed}", "retry": {"attempts": 1}, "circuit":
                         {"failure_threshold": 1000}},
                "frail": {"url": f"http://127.0.0.1:{self.closed}", "retry": {"attempts": 1}, "circuit":
                          {"failure_threshold": 1, "min_throughput": 1, "recovery_timeout": 3600}},
            },
            "routes": [
                {"path": "/up/{kind}", "service": "up", "strip_prefix": True},
                {"path": "/base", "service": "base", "rewrite": "/v2"},
                {"path": "/locked", "service": "up", "auth": "required"},
                {"path": "/guarded", "name": "guarded", "service": "up"},
                {"path": "/quiet", "service": "up", "sampling": 0},
                {"path": "/quiet-page", "service": "up", "sampling": 0},
                {"path": "/kept", "service": "up", "cache": {"ttl": "1h"}},
                {"path": "/limited", "service": "up", "rate_limit": {"rate": "1/d", "burst": 1, "key": "header:X-Key"}},
                {"path": "/frail", "service": "frail"},
                {"path": "/ws", "service": "up"},
                {"path": "/stale", "service": "up", "cache": {"respect": True}},
            ],
            "traces": {
                "endpoint": self.collector.url, "interval": "50ms", "queue": 40_000, "traceresponse": True, "server_timing": True,
                "headers": {"x-tenant": "shop"}, "resource": {"deployment.environment.name": "test"},
                "service_name": "edge",
            },
        }  # fmt: skip


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """What stands around the gateways."""
    made = System()
    yield made
    made.collector.close()
    made.up.close()


@pytest.fixture(scope="module")
def gateways(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    folder = tmp_path_factory.mktemp("traces")
    running = Kept(EDGES, folder, system.configuration(), app="traced", source=TEAM)
    yield running
    running.close()


@pytest.fixture(scope="module")
def gateway(edge: str, gateways: Kept) -> Gateway:
    """The one on the edge in turn."""
    return gateways.at(edge)


@pytest.fixture(autouse=True)
def clean(system: System) -> Iterator[None]:
    """An upstream without a past, and no doubt about what it was sent."""
    system.up.reset()
    yield
    assert system.up.faults == []


@pytest.fixture
def collector(system: System) -> Collector:
    """The collector."""
    return system.collector


@pytest.fixture
def up(system: System) -> Upstream:
    """The upstream."""
    return system.up


def trace_of(answer: Answer) -> str:
    """The trace that an answer belongs to."""
    return (answer.get("traceresponse") or "").split("-")[1]


def is_within(child: Span, parent: Span) -> bool:
    """Whether a span is the child of another, and no longer than it."""
    return (
        child.parent_span_id == parent.span_id
        and parent.start_time_unix_nano <= child.start_time_unix_nano
        and child.start_time_unix_nano <= child.end_time_unix_nano <= parent.end_time_unix_nano
    )


def test_an_exchange_and_its_attempt(gateway: Gateway, collector: Collector, up: Upstream) -> None:
    """Two spans, by the conventions; the upstream's parent is the attempt; secrets of the query are gone."""
    up.on("/x", answers.plain("201 Created"))
    headers = [*authorized(), ("User-Agent", "shop/1"), ("Cookie", "sid=t0p-s3cret")]
    answer = ask(
        gateway.port,
        "POST",
        "/up/a/x?page=2&sig=t0p-s3cret&API_KEY=t0p-s3cret",
        headers,
        b"hi",
        host="shop.test:81",
    )
    own, attempt = collector.wait(trace_of(answer), ["POST /up/{kind}", "POST"])
    assert (own.kind, attempt.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert is_within(attempt, own)
    assert own.parent_span_id == b""
    assert facts(own) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/up/a/x",
        "url.query": "page=2&sig=REDACTED&API_KEY=REDACTED",
        "http.route": "/up/{kind}",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "server.address": "shop.test",
        "server.port": 81,
        "user_agent.original": "shop/1",
        "http.response.status_code": 201,
        "propylon.request_id": answer.get("x-request-id"),
        "propylon.route": "/up/{kind}",
        "propylon.service": "up",
    }
    assert facts(attempt) == {
        "http.request.method": "POST",
        "network.protocol.version": "1.1",
        "propylon.instance": f"127.0.0.1:{up.port}",
        "server.address": "127.0.0.1",
        "server.port": up.port,
        "propylon.service": "up",
        "url.full": f"http://127.0.0.1:{up.port}/x?page=2&sig=REDACTED&API_KEY=REDACTED",
        "http.response.status_code": 201,
    }
    assert up.last.get("traceparent") == f"00-{trace_of(answer)}-{attempt.span_id.hex()}-01"
    assert answer.get("traceresponse") == f"00-{trace_of(answer)}-{own.span_id.hex()}-01"
    assert gateway.record(answer)["trace_id"] == trace_of(answer)
    assert own.status.code == attempt.status.code == Status.STATUS_CODE_UNSET
    assert b"s3cret" not in b"".join(one.message.SerializeToString() for one in collector.taken)


def test_messages_say_whose_spans_they_are(gateway: Gateway, collector: Collector) -> None:
    """The path, the operator's headers, and the resource."""
    collector.wait(trace_of(ask(gateway.port, target="/base/y")), ["GET /base", "GET"])
    last = collector.taken[-1]
    assert last.path == "/v1/traces"
    assert (last.headers["content-type"], last.headers["x-tenant"]) == (
        "application/x-protobuf",
        "shop",
    )
    resource = facts(last.message.resource_spans[0].resource)
    assert resource["service.name"] == "edge"
    assert resource["deployment.environment.name"] == "test"
    assert last.message.resource_spans[0].scope_spans[0].scope.name == "propylon"


def test_a_trace_goes_on(gateway: Gateway, collector: Collector, up: Upstream) -> None:
    """The client's span is the parent, of another program; its state and its baggage pass."""
    trace = secrets.token_hex(16)
    headers = [
        ("traceparent", f"00-{trace}-00f067aa0ba902b7-00"),
        ("tracestate", "a=1,b@v=2"),
        ("baggage", "user=ann"),
    ]
    ask(gateway.port, target="/up/a/x", headers=headers)
    own, _ = collector.wait(trace, ["GET /up/{kind}", "GET"])
    assert (own.parent_span_id.hex(), own.flags) == ("00f067aa0ba902b7", 0x301)
    assert own.trace_state == "a=1,b@v=2"
    assert up.last.get("tracestate") == "a=1,b@v=2"
    assert up.last.get("baggage") == "user=ann"


def test_each_attempt_is_a_span(gateway: Gateway, collector: Collector, up: Upstream) -> None:
    """Each has an id of its own, which its request carries; those that failed say how, later ones which they are."""
    up.on(
        "/again",
        answers.in_turn(answers.plain("503 Busy"), answers.plain("502 Bad"), answers.plain()),
    )
    answer = ask(gateway.port, target="/up/a/again")
    assert answer.status == 200
    collector.wait(trace_of(answer), ["GET /up/{kind}", "GET", "GET", "GET"])
    spans = collector.spans(trace_of(answer))
    own, attempts = spans[0], spans[1:]
    assert all(is_within(attempt, own) for attempt in attempts)
    assert all(
        one.end_time_unix_nano <= other.start_time_unix_nano
        for one, other in itertools.pairwise(attempts)
    )
    assert [facts(one).get("http.request.resend_count") for one in attempts] == [None, 1, 2]
    assert [facts(one).get("error.type") for one in attempts] == ["503", "502", None]
    assert [one.status.code for one in attempts] == [ERROR, ERROR, 0]
    parents = [(arrived.get("traceparent") or "").split("-")[2] for arrived in up.requests]
    assert parents == [one.span_id.hex() for one in attempts]
    assert [event.name for event in own.events] == ["propylon.retry", "propylon.retry"]


def test_policies_are_spans(gateway: Gateway, collector: Collector, up: Upstream) -> None:
    """One for each that has run; a refusal says by which, and has no attempt. The policy's code knows its trace."""
    passed = ask(gateway.port, target="/guarded/x")
    names = ["GET /guarded", "policy office_hours", "policy barred", "GET"]
    own, *inner = collector.wait(trace_of(passed), names)
    assert all(is_within(span, own) for span in inner)
    assert len({span.span_id for span in (own, *inner)}) == 4
    told = ask(gateway.port, target="/team/seen").json()
    assert told == f"00-{trace_of(passed)}-{own.span_id.hex()}-01"
    barred = ask(gateway.port, target="/guarded/x?barred")
    own, _, last = collector.wait(trace_of(barred), names[:-1])
    assert (barred.status, facts(last)["error.type"]) == (403, "Forbidden")
    assert facts(own)["propylon.error"] == "AUTH_ERROR"
    assert (
        own.status.code == Status.STATUS_CODE_UNSET
    )  # the conventions: a 4xx is no error of a server


def test_refusals_have_spans(gateway: Gateway, collector: Collector) -> None:
    """Without a token, without a route: one span, no attempt."""
    for target, status, name in (("/locked/x", 401, "GET /locked"), ("/nothing", 404, "GET")):
        answer = ask(gateway.port, target=target)
        (own,) = collector.wait(trace_of(answer), [name])
        assert (answer.status, facts(own)["http.response.status_code"]) == (status, status)


def test_limits_the_cache_and_the_breaker_are_events(
    gateway: Gateway, collector: Collector, up: Upstream
) -> None:
    """What refused says so; an answer out of the cache has no attempt."""
    up.fallback = answers.plain(headers=["Cache-Control: max-age=60"])
    key = [("X-Key", f"{gateway.edge}")]
    assert ask(gateway.port, target="/limited/x", headers=key).status == 200
    limited = ask(gateway.port, target="/limited/x", headers=key)
    (own,) = collector.wait(trace_of(limited), ["GET /limited"])
    (event,) = own.events
    assert (limited.status, event.name, facts(event)["propylon.decision"]) == (
        429,
        "propylon.limit",
        "refused",
    )
    for what in (["GET /kept", "GET"], ["GET /kept"]):
        own, *_ = collector.wait(trace_of(ask(gateway.port, target=f"/kept/{gateway.edge}")), what)
        (event,) = own.events
        assert (event.name, "hit" in facts(event)["propylon.cache.status"]) == (
            "propylon.cache",
            len(what) == 1,
        )
    assert ask(gateway.port, target="/frail/x").status == 502
    refused = ask(gateway.port, target="/frail/x")
    (own,) = collector.wait(trace_of(refused), ["GET /frail"])
    (event,) = own.events
    assert (refused.status, event.name, own.status.code) == (503, "propylon.circuit", ERROR)


def test_what_the_cache_asks_in_the_background(
    gateway: Gateway, collector: Collector, up: Upstream
) -> None:
    """It belongs to the trace of the request that has found the answer stale."""
    said = ["Cache-Control: max-age=0, stale-while-revalidate=60", 'ETag: "1"']
    up.fallback = answers.plain(headers=said)
    target = f"/stale/{gateway.edge}"
    assert ask(gateway.port, target=target).status == 200
    answer = ask(gateway.port, target=target)
    own, call, attempt = collector.wait(trace_of(answer), ["GET /stale", "call up", "GET"])
    assert (call.parent_span_id, attempt.parent_span_id) == (own.span_id, call.span_id)
    assert "stale-while-revalidate" in facts(own.events[0])["propylon.cache.status"]
    assert (up.last.get("traceparent") or "").split("-")[1:3] == [
        trace_of(answer),
        attempt.span_id.hex(),
    ]


def test_calls_of_an_endpoint_belong_to_it(
    gateway: Gateway, collector: Collector, up: Upstream
) -> None:
    """The endpoint is a span, each call is one below it, with its attempt; and the endpoint's code knows the trace."""
    up.fallback = answers.plain(headers=["Content-Type: application/json"], body=b"{}")
    answer = ask(gateway.port, target="/team/page", headers=[("baggage", "user=ann")])
    trace = trace_of(answer)
    names = ["GET /team/page", "endpoint", "call up", "call up", "GET", "GET", "call down", "GET"]
    collector.wait(trace, names)
    spans = collector.spans(trace)
    by_id = {span.span_id: span for span in spans}
    (own,) = (span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    (endpoint,) = (span for span in spans if span.name == "endpoint")
    assert is_within(endpoint, own)
    assert all(is_within(span, endpoint) for span in spans if span.name.startswith("call"))
    assert all(
        by_id[span.parent_span_id].name.startswith("call") for span in spans if span.name == "GET"
    )
    told = answer.json()
    assert (told["trace"], told["state"], told["partial"]) == (trace, trace, True)
    assert told["parent"] == f"00-{trace}-{endpoint.span_id.hex()}-01"
    assert up.last.get("baggage") == "user=ann"


def test_a_socket_is_a_span_as_long_as_it_is_open(
    gateway: Gateway, collector: Collector, up: Upstream
) -> None:
    """With the status of the handshake, and the code that it was closed with."""
    trace = secrets.token_hex(16)
    up.on("/ws", echo)
    with RawClient(gateway.port) as client:
        socket = Socket(client).open("/ws", [("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
        assert socket.ask("hello") == "hello"
        assert collector.spans(trace) == []
        client.send(close(1000))
        assert socket.hear(data=True).code == 1000
    own, attempt = collector.wait(trace, ["GET /ws", "GET"])
    assert (
        facts(own)["http.response.status_code"]
        == facts(attempt)["http.response.status_code"]
        == 101
    )
    assert facts(own)["propylon.websocket.close_code"] == 1000
    assert is_within(attempt, own)


def test_a_stream_is_a_span_to_its_end(
    gateway: Gateway, collector: Collector, up: Upstream
) -> None:
    """The attempt lasts as long as the body does; one that breaks off is an error, though its status was 200."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    def torn(peer: Peer, arrived: Arrived) -> None:
        peer.send(head + b"5\r\nhello\r\n")
        assert up.wait(lambda: torn_off)
        answers.reset(peer)

    torn_off: list[bool] = []
    up.on("/torn", torn)
    with RawClient(gateway.port) as client:
        client.send(request(target="/up/a/torn"))
        answer = client._head()
        client.has_come(b"hello")
        assert collector.spans(trace_of(answer)) == []
        torn_off.append(True)
        own, attempt = collector.wait(trace_of(answer), ["GET /up/{kind}", "GET"])
    assert (own.status.code, attempt.status.code) == (ERROR, ERROR)
    assert (facts(own)["error.type"], facts(own)["http.response.status_code"]) == (
        "UpstreamReset",
        200,
    )
    assert is_within(attempt, own)


def test_a_route_decides_and_errors_are_kept(
    gateway: Gateway, collector: Collector, up: Upstream
) -> None:
    """Nothing is recorded there; but what fails is, and the upstream is told the truth."""
    up.on("/quiet/bad", answers.plain("500 Oops"))
    good, bad = ask(gateway.port, target="/quiet/x"), ask(gateway.port, target="/quiet/bad")
    assert (up.last.get("traceparent") or "").endswith("-00")
    own, attempt = collector.wait(trace_of(bad), ["GET /quiet", "GET"])
    assert (own.status.code, facts(own)["error.type"], facts(attempt)["error.type"]) == (
        ERROR,
        "500",
        "500",
    )
    assert own.flags & 1 == 0
    assert collector.spans(trace_of(good)) == []


@pytest.mark.parametrize("flag", ["00", "01"])
def test_a_client_decides_nothing(
    gateway: Gateway, collector: Collector, up: Upstream, flag: str
) -> None:
    """It is not trusted here: its flag neither keeps the gateway from recording, nor makes it."""
    for target, recorded in (("/up/a/x", True), ("/quiet/x", False)):
        trace = f"{secrets.token_hex(8)}{0:016x}"  # below any ratio
        ask(
            gateway.port,
            target=target,
            headers=[("traceparent", f"00-{trace}-00f067aa0ba902b7-{flag}")],
        )
        assert (up.last.get("traceparent") or "").endswith("-01" if recorded else "-00")
        if recorded:
            collector.wait(trace, ["GET /up/{kind}", "GET"])


def test_answers_say_how_long_it_took(gateway: Gateway) -> None:
    """`Server-Timing` for the tools of browsers; also where the gateway refuses."""
    timing = ask(gateway.port).get("server-timing") or ""
    assert timing.startswith("gateway;dur=")
    timing = ask(gateway.port, target="/up/a/x").get("server-timing") or ""
    assert ", upstream;dur=" in timing


def test_a_bucket_names_a_trace(gateway: Gateway, collector: Collector) -> None:
    """An exemplar in OpenMetrics; Prometheus' own text has none."""
    answer = ask(gateway.port, target="/base/exemplar")
    collector.wait(trace_of(answer), ["GET /base", "GET"])
    accept = [("Accept", "application/openmetrics-text; version=1.0.0")]
    text = ask(gateway.port, target="/metrics", headers=accept).body.decode()
    assert trace_of(answer) in text
    assert "trace_id" not in ask(gateway.port, target="/metrics").body.decode()
    assert 'propylon_trace_spans_total{result="sent"}' in text


def test_probes_are_not_recorded(gateway: Gateway, collector: Collector) -> None:
    """Programs ask for these all the time."""
    assert ask(gateway.port, target="/readyz").get("traceresponse") is None
    last = ask(gateway.port, target="/base/after")
    collector.wait(trace_of(last), ["GET /base", "GET"])
    assert not any(
        facts(span).get("url.path") in {"/livez", "/readyz"} for span in collector.spans()
    )


@pytest.mark.parametrize("requests", [300, pytest.param(10_000, marks=pytest.mark.timed)])
def test_every_span_comes_through_a_restart(
    gateway: Gateway, collector: Collector, up: Upstream, requests: int
) -> None:
    """None is lost, none comes twice, all are in order of time and parentage, though the collector was away meanwhile."""
    collector.reset()
    run = secrets.token_hex(8)
    with RawClient(gateway.port) as client:
        for number in range(requests):
            if number == requests // 3:
                collector.close()
            elif number == 2 * requests // 3:
                collector.open()
            parent = f"00-{run}{number + 1:016x}-00f067aa0ba902b7-01"
            client.send(request(target="/base/run", headers=[("traceparent", parent)]))
            assert client.read().status == 200
    wait(lambda: len(mine(collector, run)) >= 2 * requests, 60.0)
    spans = mine(collector, run)
    assert len({span.span_id for span in spans}) == len(spans) == 2 * requests
    owns, attempts = spans[::2], spans[1::2]
    assert [int(span.trace_id.hex()[16:], 16) for span in owns] == [*range(1, requests + 1)]
    assert all(is_within(attempt, own) for own, attempt in zip(owns, attempts, strict=True))
    ended = [span.end_time_unix_nano for span in owns]
    assert all(
        before <= span.start_time_unix_nano for before, span in zip(ended, owns[1:], strict=False)
    )
    assert (
        'propylon_trace_spans_total{result="dropped"}'
        not in ask(gateway.port, target="/metrics").body.decode()
    )


def mine(collector: Collector, run: str) -> list[Span]:
    """The spans of the traces of one run."""
    return [span for span in collector.spans() if span.trace_id.hex().startswith(run)]
