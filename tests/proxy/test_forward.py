"""Asking an instance, and another one if the first was not there."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import (
    BadResponse,
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    InvalidRequest,
    PayloadTooLarge,
    ServiceUnavailable,
    StaleConnection,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.loop.ticker import NEVER
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward import Forward
from propylon.proxy.outgoing import outgoing
from propylon.proxy.route import Route
from propylon.services.retry import Retry
from propylon.upstream.ports import Answer, Timeouts
from propylon.wire.headers import fields, values
from propylon.wire.message import CHUNKED, NO_BODY, Request
from propylon.wire.proxy_header import ProxyVersion, proxy_header
from tests.proxy import doubles
from tests.proxy.doubles import (
    REQUEST_ID,
    SPAN_ID,
    TRACE_ID,
    Asked,
    Client,
    Upload,
    request,
    route,
    run,
    service,
    whole,
)

IDEMPOTENT = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]
STALE = StaleConnection("stale")


def exchange_of(asked: Request, client: Client) -> Exchange:
    """An exchange that has just begun."""
    return Exchange(asked, client, b"%080x" % doubles.ENTROPY, 0.0)


def forward(asked: Request, to: Route, client: Client | None = None) -> tuple[Answer, Exchange]:
    """Forward one request."""
    exchange = exchange_of(asked, client or Client())
    stage = Forward(loop_time=lambda: 1000.0, clock=lambda: 1.0, chance=lambda: 0.0)
    return run(stage(exchange, asked, to)), exchange


def block_of(asked: Request, to: Route | None = None, client: Client | None = None) -> bytes:
    """The block that the upstream gets."""
    upstream = Asked()
    target = to or route()
    own = route(
        of=service(upstream, forward_token=target.service.forward_token),
        request_remove=target.request_remove,
        request_set=target.request_set,
        max_body=target.max_body,
    )
    forward(asked, own, client)
    return upstream.got[0][1]


# Which instance, how often


def test_the_answer_of_the_first_instance() -> None:
    """One attempt, on the instance that balance chose."""
    up = Asked()
    answer, exchange = forward(request(b"/a?b"), route(of=service(up)))
    assert answer.body == b"hello"
    assert up.got[0][0] == b"GET /a?b HTTP/1.1"
    assert (exchange.attempts, exchange.flags) == (1, ())
    assert exchange.instance is not None
    assert exchange.instance.id == "one:80"


@pytest.mark.parametrize("error", [ConnectFailed, ConnectTimeout])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_the_next_instance_when_nothing_was_sent(error: type[GatewayError], method: str) -> None:
    """Without a connection any method may go elsewhere, its body with it."""
    down, up = Asked(error("no")), Asked()
    client = Client(Upload(b"data"))
    asked = request(b"/a", b"Content-Length: 4", method=method.encode())
    _, exchange = forward(asked, route(of=service(down, up, retry=Retry())), client)
    assert (len(down.got), len(up.got)) == (1, 1)
    assert up.got[0][2] == b"data"
    assert values(up.got[0][1], b"host") == [b"two"]
    assert (exchange.attempts, exchange.flags) == (2, ())


def test_every_instance_is_asked_once() -> None:
    """Each in turn, and then the last error is the answer."""
    ups = [Asked(ConnectFailed("no")) for _ in range(3)]
    with pytest.raises(ConnectFailed):
        forward(request(), route(of=service(*ups, retry=Retry(attempts=3, backoff=0.0))))
    assert [len(up.got) for up in ups] == [1, 1, 1]


@pytest.mark.parametrize("error", [UpstreamReset, BadResponse, UpstreamTimeout])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_repeated_once_sent(error: type[GatewayError], method: str) -> None:
    """A reset, nonsense or silence may come after the upstream has acted."""
    down, up = Asked(error("no")), Asked()
    with pytest.raises(error):
        forward(request(method=method.encode()), route(of=service(down, up)))
    assert (len(down.got), len(up.got)) == (1, 0)


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_stale_connection_of_an_idempotent_request(method: str) -> None:
    """The same instance again, over another connection."""
    up = Asked(STALE, whole())
    _, exchange = forward(request(method=method.encode()), route(of=service(up)))
    assert (len(up.got), exchange.attempts) == (2, 2)
    assert exchange.flags == ("stale_connection",)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPFIND"])
def test_stale_connection_of_any_other_request(method: str) -> None:
    """A byte may have been read: it never leaves twice."""
    up, other = Asked(STALE, whole()), Asked()
    with pytest.raises(StaleConnection):
        forward(request(method=method.encode()), route(of=service(up, other)))
    assert (len(up.got), len(other.got)) == (1, 0)


def test_stale_connections_come_to_an_end() -> None:
    """An instance that closes every connection is not asked for ever."""
    up = Asked(STALE)
    with pytest.raises(StaleConnection):
        forward(request(), route(of=service(up)))
    assert len(up.got) == 2


@pytest.mark.parametrize("replayable", [True, False])
def test_a_body_is_sent_again_only_whole(replayable: bool) -> None:
    """A PUT whose body is no longer there cannot be repeated."""
    up = Asked(STALE, whole())
    client = Client(Upload(b"data", replayable=replayable))
    asked = request(b"/a", b"Content-Length: 4", method=b"PUT")
    if replayable:
        forward(asked, route(of=service(up)), client)
        assert [body for _, _, body in up.got] == [b"data", b"data"]
    else:
        with pytest.raises(StaleConnection):
            forward(asked, route(of=service(up)), client)
        assert len(up.got) == 1


def test_a_service_without_instances() -> None:
    """503 that names the service."""
    with pytest.raises(ServiceUnavailable) as caught:
        forward(request(), route(of=service(name="empty")))
    assert caught.value.details == {"service": "empty", "last_check": None}


# Limits


@pytest.mark.parametrize(("length", "passes"), [(10, True), (11, False)])
def test_a_body_that_is_announced_too_large(length: int, passes: bool) -> None:
    """413 before the upstream is touched."""
    up, client = Asked(), Client(Upload(b"x" * length))
    asked = request(b"/a", b"Content-Length: %d" % length, method=b"POST")
    to = route(of=service(up), max_body=10)
    if passes:
        forward(asked, to, client)
    else:
        with pytest.raises(PayloadTooLarge):
            forward(asked, to, client)
    assert len(up.got) == passes
    assert client.body is not None
    assert client.body.limit == 10


def test_a_chunked_body_that_came_in_too_large() -> None:
    """What has been received already counts."""
    up, client = Asked(), Client(Upload(b"x" * 11, length=CHUNKED))
    asked = request(b"/a", b"Transfer-Encoding: chunked", method=b"POST")
    with pytest.raises(PayloadTooLarge):
        forward(asked, route(of=service(up), max_body=10), client)
    assert up.got == []


@pytest.mark.parametrize("body", [None, Upload(b"abcd")])
def test_deadline(body: Upload | None) -> None:
    """`total` runs from now, until the request's body begins to go out as it comes in."""
    client = Client(body)
    lines = [b"Content-Length: 4"] if body else []
    asked = request(b"/a", *lines, method=b"POST")
    sent = outgoing(exchange_of(asked, client), asked, route(timeouts=Timeouts(total=7)), 1000.0)
    assert sent.deadline == 1007.0
    if body is not None:
        body.complete = False
    sent.begin_sending()
    assert sent.deadline == (1007.0 if body is None else NEVER)
    assert sent.begin_waiting(2000.0) == (1007.0 if body is None else 2007.0)


# What the upstream gets


def test_headers_of_a_plain_request() -> None:
    """What the client sent, in order, then what the gateway vouches for."""
    block = block_of(request(b"/a", b"B: 2", b"a: 1", b"b: 3"))
    assert fields(block) == [
        (b"Host", b"one"),
        (b"B", b"2"),
        (b"a", b"1"),
        (b"b", b"3"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a.test"),
        (b"X-Forwarded-Port", b"80"),
        (b"X-Request-ID", REQUEST_ID),
        (b"traceparent", b"00-%b-%b-01" % (TRACE_ID, SPAN_ID)),
    ]


@given(
    st.lists(
        st.sampled_from(
            [
                (b"X-User-Id", b"root"),
                (b"x_user_roles", b"admin"),
                (b"X-Forwarded-For", b"127.0.0.1"),
                (b"X_Forwarded_Host", b"evil"),
                (b"X-FORWARDED-PROTO", b"https"),
                (b"X-Real-IP", b"127.0.0.1"),
                (b"Forwarded", b"for=127.0.0.1"),
                (b"X-Original-URL", b"/admin"),
                (b"X-HTTP-Method-Override", b"DELETE"),
                (b"TE", b"trailers"),
                (b"Proxy-Authorization", b"Basic x"),
                (b"Keep-Alive", b"timeout=1"),
                (b"X-Ordinary", b"1"),
            ]
        )
    )
)
def test_nothing_untrusted_is_passed_on(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client claims about itself, each of our headers stands once and is ours."""
    block = block_of(request(b"/a", *[b"%b: %b" % pair for pair in pairs]))
    ordinary = [value for name, value in pairs if name == b"X-Ordinary"]
    assert values(block, b"x-ordinary") == ordinary
    assert values(block, b"x-forwarded-for") == [b"192.0.2.1"]
    assert values(block, b"x-forwarded-proto") == [b"http"]
    assert values(block, b"x-forwarded-host") == [b"a.test"]
    assert len(fields(block)) == 7 + len(ordinary)


def test_what_a_trusted_proxy_says_passes() -> None:
    """Its Host report and the headers that are believed from it alone."""
    lines = (b"X-Real-IP: 10.0.0.1", b"X-Original-URL: /b")
    asked = request(b"/a", *lines)
    block = block_of(asked, None, Client(trusted=True, host=b"public.test"))
    assert values(block, b"x-forwarded-host") == [b"public.test"]
    assert values(block, b"x-real-ip") == [b"10.0.0.1"]
    assert values(block, b"x-original-url") == [b"/b"]


@pytest.mark.parametrize("passes", [True, False])
def test_the_token_passes_if_the_service_wants_it(passes: bool) -> None:
    """`forward_token`."""
    to = route(of=service(Asked(), forward_token=passes))
    block = block_of(request(b"/a", b"Authorization: Bearer x"), to)
    assert values(block, b"authorization") == ([b"Bearer x"] if passes else [])


def test_headers_of_the_route() -> None:
    """Removed in any case and any number, then set."""
    to = route(request_remove=(b"cookie", b"x-a"), request_set=b"\r\nX-A: ours")
    block = block_of(request(b"/a", b"COOKIE: 1", b"X-a: theirs", b"Cookie: 2", b"X-B: y"), to)
    assert values(block, b"cookie") == []
    assert values(block, b"x-a") == [b"ours"]
    assert values(block, b"x-b") == [b"y"]


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"Content-Length: 0", 0),
        (b"Content-Length: 004", 4),
        (b"Transfer-Encoding: CHUNKED", CHUNKED),
        (b"X-A: b", NO_BODY),
    ],
)
def test_framing_is_left_to_the_connection(line: bytes, length: int) -> None:
    """The client's framing headers do not pass; what writes the request is told the length."""
    upstream = Asked()
    forward(request(b"/a", line, method=b"POST"), route(of=service(upstream)))
    [(_, block, _)] = upstream.got
    assert upstream.lengths == [length]
    assert values(block, b"content-length") == values(block, b"transfer-encoding") == []


@pytest.mark.parametrize(
    ("method", "sent", "passed"),
    [
        (b"OPTIONS", b"5", b"4"),
        (b"OPTIONS", b"1", b"0"),
        (b"GET", b"5", b"5"),
        (b"GET", b"0", b"0"),
    ],
)
def test_max_forwards(method: bytes, sent: bytes, passed: bytes) -> None:
    """RFC 9110, 7.6.2: counted down where the method says that hops count."""
    block = block_of(request(b"/a", b"Max-Forwards: " + sent, method=method))
    assert values(block, b"max-forwards") == [passed]


@pytest.mark.parametrize("sent", [b"0", b"00"])
def test_options_that_may_go_no_further(sent: bytes) -> None:
    """It is answered here, with what the route allows."""
    up: Any = Asked()
    to = route(of=service(up), methods=frozenset({"OPTIONS", "GET"}))
    answer, _ = forward(request(b"/a", b"Max-Forwards: " + sent, method=b"OPTIONS"), to)
    assert up.got == []
    assert (answer.head.status, answer.head.block, answer.body) == (
        204,
        b"\r\nAllow: GET, OPTIONS",
        b"",
    )


@pytest.mark.parametrize("sent", [b"-1", b"x", b"", b"1000", b"1_0", b"+1"])
def test_max_forwards_that_is_no_number(sent: bytes) -> None:
    """400."""
    with pytest.raises(InvalidRequest):
        block_of(request(b"/a", b"Max-Forwards: " + sent))


# The PROXY protocol


def told(version: ProxyVersion | None, client: Client) -> bytes:
    """The header with which the connection of a client's request must have begun."""
    to = route(of=replace(service(Asked()), proxy_protocol=version))
    asked = request()
    exchange = Exchange(asked, client, b"0" * 80, 0.0)
    return outgoing(exchange, asked, to, 0.0).header


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_service_that_is_told_of_the_client(version: ProxyVersion) -> None:
    """The header names both ends of the client's connection; without the key there is none."""
    client = Client(client="192.0.2.1")
    assert told(version, client) == proxy_header(version, client.ends)
    assert told(None, client) == b""


def test_a_client_that_a_proxy_has_reported() -> None:
    """The header has the address that the gateway believes in; the port of the proxy is not the client's."""
    said = b"PROXY TCP6 2001:db8::7 ::ffff:c000:209 0 443\r\n"
    assert told("v1", Client(client="2001:db8::7")) == said
